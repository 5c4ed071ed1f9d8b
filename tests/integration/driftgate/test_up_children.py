"""What `driftgate up` runs, in which order, and what `driftgate ship` refuses."""

from pathlib import Path

from driftgate.cli import main
from driftgate.commands.up import children
from driftgate.config import load_config
from driftgate.errors import Exit


def modules(tmp_path: Path, kafka: str) -> list[str]:
    class Arguments:
        state_dir = tmp_path
        config = None

    config = load_config(Arguments(), {"DRIFTGATE_LOG__KAFKA": kafka})
    return [child.module for child in children(config)]


def test_the_shipper_stands_between_gateway_and_monitor(tmp_path: Path) -> None:
    assert modules(tmp_path, "localhost:9092") == ["serving", "eventlog.kafka", "monitor"]


def test_without_kafka_there_is_no_shipper(tmp_path: Path) -> None:
    assert modules(tmp_path, "") == ["serving", "monitor"]


def test_there_is_nothing_to_ship_without_kafka(tmp_path: Path, capsys) -> None:
    assert main(["ship", "--state-dir", str(tmp_path)]) == Exit.USAGE
    assert "log.kafka is not set" in capsys.readouterr().err
