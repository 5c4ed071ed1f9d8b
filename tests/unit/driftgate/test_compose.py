"""The compose file is what it says: sound YAML, variables that exist, Kafka as tested."""

import re

import yaml

from driftgate.cli import build_parser
from driftgate.config import COMMON_VARIABLES, PREFIX, keys
from tests.conftest import ROOT

FILE = ROOT / "deploy" / "compose" / "compose.yaml"


def services() -> dict[str, dict]:
    return yaml.safe_load(FILE.read_text())["services"]


def test_every_variable_of_driftgate_is_one_that_it_reads() -> None:
    known = {f"{PREFIX}{section}__{key}".upper() for section, key, _ in keys()}
    known |= {f"{PREFIX}STATE_DIR", *COMMON_VARIABLES.values()}
    for name in ("topics", "driftgate"):
        assert set(services()[name]["environment"]) <= known


def test_every_command_is_one_that_the_parser_takes() -> None:
    for name in ("topics", "driftgate"):
        build_parser().parse_args(services()[name]["command"].split())


def test_services_wait_for_services_that_are_there() -> None:
    for service in services().values():
        assert set(service.get("depends_on", {})) <= set(services())


def test_kafka_is_the_release_that_the_tests_run_on() -> None:
    pom = (ROOT / "tests" / "broker" / "pom.xml").read_text()
    release = re.search(r"kafka_2\.13</artifactId>\s*<version>([\d.]+)<", pom)
    assert release is not None
    kafka = services()["kafka"]
    assert kafka["image"] == f"apache/kafka:{release[1]}"
    assert kafka["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"


def test_nothing_is_open_to_the_network() -> None:
    ports = [port for service in services().values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
