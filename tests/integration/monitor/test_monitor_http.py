"""The monitor's HTTP port: what it says to bad queries, and how much it says."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from monitor.action_store import ActionRow, ActionStore
from monitor.core.block import Sample
from monitor.core.guards import Action
from monitor.published import Published
from monitor.store import BlockRow, Store
from tests.monitor_served import served

BLOCKS, LIMIT = 40, 25


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home: Path = tmp_path_factory.mktemp("monitor")
    store, actions = Store(home / "monitor.db", "test"), ActionStore(home / "actions.db")
    rows = [BlockRow("m", i, Sample(1, 1), Sample(), {"start_ns": i}) for i in range(BLOCKS)]
    verdicts = [{"id": f"v{i}", "model": "m", "block_start_ns": i} for i in range(BLOCKS)]
    store.commit(b"", rows, verdicts, {})
    for i in range(BLOCKS):
        actions.begin(ActionRow(f"a{i}", "m", Action.RETRAIN, i, "done", f"v{i}", {}))
    store.close()
    actions.close()
    with served(Published(), home / "monitor.db") as url:
        yield url


def get(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return reply.status, json.load(reply)
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, json.load(exc)


@pytest.mark.parametrize(
    "query",
    [
        "limit=x",
        "limit=-1",  # SQLite's word for "all of them"
        "limit=0",
        "limit=1.5",
        f"limit={2**63}",
        f"after_ns={2**64}",
        f"after_ns=-{2**64}",
        "after_ns=1e3",
        "after_ns=%00",
        "after_ns=" + "9" * 5000,
    ],
)
def test_a_bad_query_gets_a_400_that_names_it(url: str, query: str) -> None:
    status, reply = get(f"{url}/v1/models/m/history?{query}")
    assert status == 400
    assert query.split("=", maxsplit=1)[0] in reply["error"]
    assert len(reply["error"]) < 200


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/models/m", "/v1/models//history", "/%ff%00"])
def test_a_page_that_is_none_gets_a_404(url: str, path: str) -> None:
    assert get(url + path)[0] == 404


def test_history_is_the_newest_of_each_kind_oldest_first(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, reply = get(f"{url}/v1/models/m/history?limit=3")
    assert status == 200
    newest = [BLOCKS - 3, BLOCKS - 2, BLOCKS - 1]
    assert [block["start_ns"] for block in reply["blocks"]] == newest
    assert [verdict["block_start_ns"] for verdict in reply["verdicts"]] == newest
    assert [action["at_ns"] for action in reply["actions"]] == newest
    monkeypatch.setattr("monitor.http_api.HISTORY_LIMIT", LIMIT)
    for query in ("", "?limit=9999999"):
        assert len(get(f"{url}/v1/models/m/history{query}")[1]["blocks"]) == LIMIT
    assert len(get(f"{url}/v1/models/m/history?after_ns={BLOCKS - 5}")[1]["blocks"]) == 4


def test_a_model_without_history_has_none(url: str) -> None:
    for name in ("other", "..%2f..", "%ff%fe", "a%00b"):
        status, reply = get(f"{url}/v1/models/{name}/history")
        assert (status, reply["blocks"]) == (200, [])
