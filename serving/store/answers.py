"""What became of a command: the message that says so, and its form in the audit log."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format

from protos import control_pb2 as pb
from serving.core.rollout import undo_line
from serving.core.rollout_codec import command_to_proto, deployment_to_proto
from serving.core.rollout_state import (
    Command,
    Deployment,
    Outcome,
    Refusal,
    Refused,
    Repeated,
)


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of a command, and the message that says so."""

    outcome: Outcome
    result: pb.CommandResult

    @property
    def refusal(self) -> Refusal | None:
        return self.outcome.refusal if isinstance(self.outcome, Refused) else None


def answer(command: Command, outcome: Outcome) -> Applied:
    return Applied(outcome, _result(command, outcome))


def answer_again(
    command: Command, first: pb.Command, result: pb.CommandResult, now: Deployment
) -> Applied:
    """To a command whose id was accepted before. first, result: that command and its answer."""
    if not _is_repeat(first, command):
        # Its sender must not be told that what another command did was its own.
        sentence = (
            f"the id {command.id[:64]!r} is that of another command, "
            f"{pb.Verb.Name(first.verb)} of {first.model}; each command needs its own"
        )
        return answer(command, Refused(now, Refusal.INVALID, sentence))
    repeated = pb.CommandResult()
    repeated.CopyFrom(result)
    repeated.duplicate = True
    return Applied(Repeated(now), repeated)


def kept_answer(result: pb.CommandResult) -> pb.CommandResult:
    """An answer as a log keeps it: without history, since the log itself is that."""
    kept = pb.CommandResult()
    kept.CopyFrom(result)
    for state in (kept.before, kept.after):
        state.ClearField("history")
    return kept


def _is_repeat(first: pb.Command, command: Command) -> bool:
    """Stamp and evidence may differ when a sender tries again; what it wants may not."""
    return (first.model, first.verb) == (command.model, command.verb.value)


def _result(command: Command, outcome: Outcome) -> pb.CommandResult:
    if isinstance(outcome, Refused):
        state = deployment_to_proto(outcome.state)
        return pb.CommandResult(error=outcome.sentence, before=state, after=state)
    if isinstance(outcome, Repeated):
        state = deployment_to_proto(outcome.state)
        return pb.CommandResult(accepted=True, duplicate=True, before=state, after=state)
    return pb.CommandResult(
        accepted=True,
        before=deployment_to_proto(outcome.before),
        after=deployment_to_proto(outcome.after),
        accepted_ns=command.ts_ns,
        undo=undo_line(command, outcome.before, outcome.after),
    )


def accepted_body(command: pb.Command, result: pb.CommandResult, **where: Any) -> dict[str, Any]:
    """The audit entry of an accepted command. where: its place in the log it came from."""
    return {
        **where,
        "command": command_document(command),
        "generation": result.after.generation,
        "before": _brief(result.before),
        "after": _brief(result.after),
    }


def refused_body(command: Command, outcome: Refused) -> dict[str, Any]:
    return {
        "command": command_document(command_to_proto(command)),
        "refusal": outcome.refusal.value,
        "sentence": outcome.sentence,
        "generation": outcome.state.generation,
    }


def command_document(message: pb.Command) -> dict[str, Any]:
    document: dict[str, Any] = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return document


def _brief(deployment: pb.Deployment) -> Mapping[str, Any]:
    def version(message: pb.Version) -> str:
        return f"{message.version}@{message.digest[:12]}" if message.version else ""

    return {
        "stable": version(deployment.stable),
        "previous": version(deployment.previous),
        "candidate": version(deployment.candidate),
        "weight": deployment.weight,
    }
