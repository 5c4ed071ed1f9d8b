"""What the monitor keeps on disk stops growing once each kind has reached its bound."""

from pathlib import Path

import pytest

from monitor.action_store import ActionRow, ActionStore
from monitor.core.block import Sample
from monitor.core.guards import Action
from monitor.core.label_book import PAGE_ROWS
from monitor.store import BlockRow, Store

BOUND = 100
COMMITS = 400  # with two blocks, a verdict and a label page each, and a version in ten
STATE = bytes(100_000)
PAGE = bytes(4 * PAGE_ROWS)
JOURNAL_MAX = 8 << 20  # SQLite begins its journal anew after 4 MiB and what is under way


@pytest.fixture(autouse=True)
def bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BLOCKS_KEPT", "VERDICTS_KEPT", "PAGES_MAX", "PROFILES_KEPT"):
        monkeypatch.setattr(f"monitor.store.{name}", BOUND if name != "PROFILES_KEPT" else 5)
    monkeypatch.setattr("monitor.store.PRUNE_EVERY", 16)
    monkeypatch.setattr("monitor.action_store.ACTIONS_KEPT", BOUND)


def sizes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


def work(store: Store, actions: ActionStore, first: int) -> None:
    for step in range(first, first + COMMITS):
        sample = Sample(10_000, 10_000)
        blocks = [BlockRow(m, step, sample, sample, {"text": "b" * 500}) for m in ("a", "b")]
        verdict = {"id": f"v{step}", "model": "a", "block_start_ns": step, "text": "v" * 2000}
        store.commit(STATE, blocks, [verdict], {(f"p{step}", 0): PAGE})
        if step % 10 == 0:
            store.keep_profile("a", f"d{step}", bytes(50_000))
        if step % 2 == 0:
            row = ActionRow(f"k{step}", "a", Action.ROLLBACK, step, "done", f"v{step}", {})
            assert actions.begin(row)


def test_the_files_do_not_grow_beyond_what_is_kept(tmp_path: Path) -> None:
    store, actions = Store(tmp_path / "monitor.db", "test"), ActionStore(tmp_path / "actions.db")
    work(store, actions, 0)
    work(store, actions, COMMITS)
    before = sizes(tmp_path)
    work(store, actions, 2 * COMMITS)
    work(store, actions, 3 * COMMITS)
    after = sizes(tmp_path)
    print(before, after)
    assert after.keys() == before.keys()
    for name in ("monitor.db", "actions.db"):
        assert after[name] <= 1.05 * before[name] + 65_536
        assert after[f"{name}-wal"] <= JOURNAL_MAX
    store.close()
    actions.close()
