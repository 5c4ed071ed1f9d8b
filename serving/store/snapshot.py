"""What a gateway served last, as one small file beside its database.

It is what the gateway starts from when the database is lost; a checksum tells
whether it can be.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from protos import control_pb2 as pb
from serving.core.rollout_codec import (
    command_from_proto,
    command_to_proto,
    deployment_from_json,
    deployment_to_json,
)
from serving.core.rollout_state import Command, Deployment, State
from serving.store.answers import command_document
from serving.store.files import write_atomically

FILE_NAME = "control.snapshot.json"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """sequence: of the gateway's own log. overrides: that a shared log has not heard of."""

    sequence: int = 0
    state: State = field(default_factory=dict)
    overrides: tuple[Command, ...] = ()


def write_snapshot(folder: Path, snapshot: Snapshot) -> None:
    """Raises: OSError."""
    document: dict[str, Any] = {
        "sequence": snapshot.sequence,
        "deployments": state_document(snapshot.state),
    }
    if snapshot.overrides:
        document["overrides"] = [
            command_document(command_to_proto(item)) for item in snapshot.overrides
        ]
    text = json.dumps(document)
    digest = hashlib.sha256(text.encode()).hexdigest()
    write_atomically(folder / FILE_NAME, f"{digest}\n{text}\n".encode())


def read_snapshot(folder: Path) -> Snapshot | None:
    """None if there is none, or none that can be trusted."""
    try:
        digest, text, _ = (folder / FILE_NAME).read_text().split("\n")
        if hashlib.sha256(text.encode()).hexdigest() != digest:
            return None
        document = json.loads(text)
        overrides = tuple(
            command_from_proto(json_format.ParseDict(item, pb.Command()))
            for item in document.get("overrides", ())
        )
        return Snapshot(document["sequence"], state_from(document["deployments"]), overrides)
    except (OSError, ValueError, KeyError, TypeError, json_format.ParseError):
        return None


def state_document(state: State) -> list[dict[str, Any]]:
    return [deployment_to_json(item) for item in state.values()]


def state_from(documents: Sequence[Mapping[str, Any]]) -> dict[str, Deployment]:
    """Raises: KeyError, TypeError or ValueError for what is no state."""
    return {item["model"]: deployment_from_json(item) for item in documents}
