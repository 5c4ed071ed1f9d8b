"""How `driftgate audit` tells an entry to a person."""

from typing import Any

import pytest

from driftgate.commands.audit import _line


def entry(kind: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"sequence": 7, "ts_ns": "0", "kind": kind, "model": "fraud", "body": body}


COMMAND = {"actor": "ann", "origin": "cli", "verb": "SET_WEIGHT", "reason": "slow start"}


@pytest.mark.parametrize(
    ("kind", "body", "told"),
    [
        (
            "accepted",
            {"command": COMMAND, "generation": 4},
            "ann (cli) set-weight: slow start; generation 4",
        ),
        (
            "refused",
            {"command": COMMAND, "sentence": "nothing is on its way"},
            "ann (cli) set-weight: nothing is on its way",
        ),
        (
            "live",
            {"generation": 4, "verb": "set_weight", "workers": 2, "after_ms": 3.14159},
            "generation 4 (set-weight) live on 2 workers after 3.1 ms",
        ),
        (
            "live",
            {"generation": 1, "verb": "adopt", "workers": 1, "after_ms": 545.509},
            "generation 1 (adopt) live on 1 worker after 545.5 ms",
        ),
        ("chain-restarted", {"lost_head": "abc", "aside": ""}, "lost head: abc"),
    ],
)
def test_an_entry_is_one_line_without_keys_of_ours(kind, body, told):
    line = _line(entry(kind, body))
    assert line == f"     7  1970-01-01 00:00:00Z  {kind:12}  fraud             {told}"
