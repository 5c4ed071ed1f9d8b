"""Commands and deployments as protobuf messages, and deployments as JSON for snapshots.

protos.control_pb2 is what the wire carries; serving.core.rollout_state has immutable
values of its own. The snapshot keeps what the wire leaves out (the steps of past
revisions, remembered ids), so that a fold can go on from it.
"""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from protos import control_pb2 as pb
from serving.core.rollout_state import (
    Command,
    Deployment,
    Origin,
    Phase,
    Revision,
    Serving,
    Verb,
    Version,
)


class MalformedCommandError(ValueError):
    """A message that no state could accept, in one sentence."""


def command_from_proto(message: pb.Command) -> Command:
    """Raises: MalformedCommandError for an unknown verb or origin, or an odd import."""
    try:
        verb = Verb(message.verb)
    except ValueError as error:
        raise MalformedCommandError(f"unknown verb {message.verb}") from error
    try:
        origin = Origin(message.origin)
    except ValueError as error:
        raise MalformedCommandError(
            f"unknown origin; use one of {', '.join(item.value for item in Origin)}"
        ) from error
    has_expected = message.HasField("expected_generation")
    return Command(
        id=message.id,
        ts_ns=message.ts_ns,
        actor=message.actor,
        origin=origin,
        model=message.model,
        verb=verb,
        version=_version_from(message.version) if message.HasField("version") else None,
        steps=tuple(message.steps),
        weight=message.weight,
        hold_until_ns=message.hold_until_ns,
        reason=message.reason,
        evidence_json=message.evidence_json,
        expected_generation=message.expected_generation if has_expected else None,
        force=message.force,
        rollout=message.rollout,
        fence=message.fence,
        local=message.local,
        leaving=message.leaving,
        imported=_imported(message.import_json) if message.import_json else None,
    )


def _imported(text: str) -> Deployment:
    try:
        return deployment_from_json(json.loads(text))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise MalformedCommandError("import_json is not a deployment") from error


def command_to_proto(command: Command) -> pb.Command:
    message = pb.Command(
        id=command.id,
        ts_ns=command.ts_ns,
        actor=command.actor,
        origin=command.origin.value,
        model=command.model,
        verb=command.verb.value,  # type: ignore[arg-type]
        steps=command.steps,
        weight=command.weight,
        hold_until_ns=command.hold_until_ns,
        reason=command.reason,
        evidence_json=command.evidence_json,
        force=command.force,
        rollout=command.rollout,
        fence=command.fence,
        local=command.local,
        leaving=command.leaving,
    )
    if command.imported is not None:
        message.import_json = json.dumps(deployment_to_json(command.imported))
    if command.version is not None:
        message.version.CopyFrom(_version_to(command.version))
    if command.expected_generation is not None:
        message.expected_generation = command.expected_generation
    return message


def deployment_to_proto(deployment: Deployment) -> pb.Deployment:
    serving = deployment.serving
    message = pb.Deployment(
        model=deployment.model,
        generation=deployment.generation,
        phase=deployment.phase.value,  # type: ignore[arg-type]
        weight=serving.weight,
        steps=serving.steps,
        step=serving.step,
        rollout=serving.rollout,
        hold_until_ns=deployment.hold_until_ns,
        frozen=deployment.frozen,
        quarantined=deployment.quarantined,
        changed_ns=deployment.changed_ns,
        history=[_revision_to(revision) for revision in deployment.history],
    )
    _set_versions(message, serving)
    return message


def _revision_to(revision: Revision) -> pb.Revision:
    message = pb.Revision(
        generation=revision.generation,
        ts_ns=revision.ts_ns,
        verb=revision.verb.value,  # type: ignore[arg-type]
        actor=revision.actor,
        reason=revision.reason,
        weight=revision.serving.weight,
        command=revision.command,
    )
    _set_versions(message, revision.serving)
    return message


def _set_versions(message: pb.Deployment | pb.Revision, serving: Serving) -> None:
    for name in ("stable", "previous", "candidate"):
        version = getattr(serving, name)
        if version is not None:
            getattr(message, name).CopyFrom(_version_to(version))


def _version_to(version: Version) -> pb.Version:
    return pb.Version(version=version.version, digest=version.digest, override=version.override)


def _version_from(message: pb.Version) -> Version:
    return Version(message.version, message.digest, message.override)


def deployment_to_json(deployment: Deployment) -> dict[str, Any]:
    """Every field, losslessly, as JSON values."""
    return dataclasses.asdict(deployment)


def deployment_from_json(document: Mapping[str, Any]) -> Deployment:
    """The inverse of `deployment_to_json`.

    Raises: KeyError, TypeError or ValueError for anything else.
    """
    return Deployment(
        model=str(document["model"]),
        generation=int(document["generation"]),
        phase=Phase(document["phase"]),
        serving=_serving_from(document["serving"]),
        hold_until_ns=int(document["hold_until_ns"]),
        frozen=bool(document["frozen"]),
        quarantined=tuple(document["quarantined"]),
        history=tuple(_revision_from(item) for item in document["history"]),
        changed_ns=int(document["changed_ns"]),
        remembered=tuple(document["remembered"]),
        fence=int(document.get("fence", 0)),  # older snapshots have neither
        followed=str(document.get("followed", "")),
    )


def _revision_from(document: Mapping[str, Any]) -> Revision:
    return Revision(
        **{
            **document,
            "verb": Verb(document["verb"]),
            "serving": _serving_from(document["serving"]),
        }
    )


def _serving_from(document: Mapping[str, Any]) -> Serving:
    versions = {
        name: Version(**document[name]) if document[name] else None
        for name in ("stable", "previous", "candidate")
    }
    return Serving(**{**document, **versions, "steps": tuple(document["steps"])})
