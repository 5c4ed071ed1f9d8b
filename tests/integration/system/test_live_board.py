"""A real Prometheus scrapes a live system, and every panel of the board has data."""

import json
import subprocess
import urllib.parse
import urllib.request

import pytest

from deploy.grafana import build
from driftgate.story.models import ensure_first_version
from driftgate.story.system import System, wait_for
from loadtests.gateway import free_ports
from tests.conftest import require

SUBSTITUTES = {
    "$__rate_interval": "10s",
    "$job": ".+",
    "$instance": ".+",
    "$model": ".+",
}


def queries():
    for text in build.render().values():
        for panel in json.loads(text)["panels"]:
            for target in panel["targets"]:
                expression = target["expr"]
                for name, value in SUBSTITUTES.items():
                    expression = expression.replace(name, value)
                yield panel["title"], expression


def ask(port, expression):
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return json.loads(reply.read())["data"]["result"]
    except OSError:
        return []


def finite(result):
    return [r for r in result if r["value"][1] not in ("NaN", "+Inf", "-Inf")]


@pytest.mark.ci
def test_every_query_of_the_board_returns_data_from_a_live_run(tmp_path, promtool):
    program = require("prometheus")
    with System(tmp_path / "state", 400.0) as system:
        (tmp_path / "state").mkdir()
        ensure_first_version(system.registry_dir)
        system.start()
        system.send_traffic()
        config = tmp_path / "prometheus.yml"
        jobs = {"driftgate": system.ports.metrics, "driftgate-monitor": system.ports.monitor}
        config.write_text(
            "global: {scrape_interval: 1s}\nscrape_configs:\n"
            + "".join(
                f"- {{job_name: {job}, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}\n"
                for job, target in jobs.items()
            )
        )
        (port,) = free_ports(1)
        prometheus = subprocess.Popen(
            [program, f"--config.file={config}", f"--storage.tsdb.path={tmp_path / 'tsdb'}",
             f"--web.listen-address=127.0.0.1:{port}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            for title, expression in queries():
                wait_for(
                    f"data for {title}: {expression}", lambda e=expression: finite(ask(port, e)), 60
                )
            for target in jobs.values():
                with urllib.request.urlopen(
                    f"http://127.0.0.1:{target}/metrics", timeout=5
                ) as reply:
                    text = reply.read()
                done = subprocess.run(
                    [promtool, "check", "metrics"], input=text, capture_output=True
                )
                assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()
        finally:
            prometheus.terminate()
            prometheus.wait(30)
