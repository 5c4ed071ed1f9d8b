"""One engine's turns: what is stored of them, and what is not."""

from pathlib import Path
from typing import NoReturn

import pytest

from eventlog import LogError, MemoryLog, Record
from monitor.row_finder import RowFinder
from monitor.task import Task, open_parts
from registry_client import open_source
from tests.monitor_process import Home
from tests.monitor_world import SETTINGS, Traffic, Version


class Unlocatable(MemoryLog):
    """Its records can be read, and no row of them can be looked up."""

    def locate(self, producer: str, sequence: int, ts_ms: int) -> NoReturn:
        raise LogError("gone")


def test_nothing_of_a_block_that_failed_in_its_middle_is_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, log = Home(tmp_path, Version("1")), Unlocatable()
    monkeypatch.setattr("tests.monitor_world.CODEC", home.ids)
    monkeypatch.setattr(RowFinder, "_cached", lambda *_: None)

    def append(_log: object, _producer: str, records: list[Record]) -> None:
        log.append([home._with_digest(record) for record in records])

    source = open_source(home.path / "registry", "")
    parts = open_parts(tmp_path / "monitor.db", SETTINGS, log, home.ids.decode, source)
    task = Task(parts, None, lambda _: None)
    traffic = Traffic(log, append=append)
    traffic.run(2)  # no labels yet
    work(task)
    task.commit()
    stored = parts.store.state()
    assert stored
    traffic.run(4)
    with pytest.raises(LogError, match="gone"):
        work(task)
    task.commit()  # as on the way out
    assert parts.store.state() == stored
    parts.close()


def work(task: Task) -> None:
    while task.turn():
        pass
