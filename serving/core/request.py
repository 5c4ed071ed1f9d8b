"""A request without its tensors: id, deadline, routing key, wanted outputs.

Both protocols reduce to one `Envelope`. Parameters that mean something are
checked here; others are ignored, as the protocol asks.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.core.errors import InvalidRequest, Unsupported, shown
from serving.core.shared_memory import FindRegion, Place, read_place
from serving.core.signature import Signature

ID_CHARACTERS_MAX = 1024  # it is echoed, and kept while the request runs
ROUTING_KEY_BYTES_MAX = 1024
TIMEOUT_US_MAX = 2**53 - 1  # what every JSON parser holds exactly


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """An output by its index in the signature; `binary` None: as the request says.

    place: where in shared memory it shall be, instead of in the reply.
    """

    index: int
    binary: bool | None = None
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a request says about itself."""

    id: str = ""
    timeout_ns: int = 0  # 0: none
    routing_key: str = ""
    binary_outputs: bool = False
    details: bool = False
    priority: int = 0  # 0: none; 1 is the highest

    def named(self, id: str) -> "Envelope":
        """It under another id."""
        return Envelope(  # `replace` takes twice as long
            id,
            self.timeout_ns,
            self.routing_key,
            self.binary_outputs,
            self.details,
            self.priority,
        )


PLAIN = Envelope()
# Parameters whose values many requests share: they may belong to what is remembered.
COMMON_PARAMETERS = frozenset(("timeout", "priority"))
# Asks for an empty last reply of models that may give several; ours give one each.
_GRPC_RESERVED = frozenset({"triton_enable_empty_final_response"})


def read_envelope(id: object, parameters: object, *, reserved_allowed: bool) -> Envelope:
    """The envelope of a request with this id and these parameters.

    parameters: name -> bool | int | float | str, or None.
    Raises: InvalidRequest.
    """
    if id is not None and (not isinstance(id, str) or len(id) > ID_CHARACTERS_MAX):
        raise InvalidRequest(
            f"request 'id' must be a string of at most {ID_CHARACTERS_MAX} characters, "
            f"got '{shown(id)}'"
        )
    if parameters is None:
        return Envelope(id=id) if id else PLAIN
    if not isinstance(parameters, Mapping):
        raise InvalidRequest(f"'parameters' must be an object, got '{shown(parameters)}'")
    _refuse_reserved(parameters, _GRPC_RESERVED if reserved_allowed else frozenset())
    return Envelope(
        id=id or "",
        timeout_ns=1000 * _integer(parameters, "timeout"),
        routing_key=_routing_key(parameters),
        binary_outputs=_boolean(parameters, "binary_data_output"),
        details=_boolean(parameters, "driftgate_details"),
        priority=_integer(parameters, "priority"),
    )


def _refuse_reserved(parameters: Mapping[str, Any], allowed: frozenset[str]) -> None:
    for name in parameters:
        if name.startswith("triton_") and name not in allowed:
            raise InvalidRequest(
                f"parameter keys starting with 'triton_' are reserved, got '{shown(name)}'"
            )


def _integer(parameters: Mapping[str, Any], name: str) -> int:
    value = parameters.get(name, 0)
    if type(value) is not int or not 0 <= value <= TIMEOUT_US_MAX:
        raise InvalidRequest(
            f"parameter '{name}' must be a non-negative integer, got '{shown(value)}'"
        )
    return value


def _boolean(parameters: Mapping[str, Any], name: str) -> bool:
    value = parameters.get(name, False)
    if type(value) is not bool:
        raise InvalidRequest(f"parameter '{name}' must be a boolean, got '{shown(value)}'")
    return value


def _routing_key(parameters: Mapping[str, Any]) -> str:
    """`routing_key`, else `sequence_id`; an empty or zero id is no key."""
    key = parameters.get("routing_key", "")
    if not isinstance(key, str):
        raise InvalidRequest(f"parameter 'routing_key' must be a string, got '{shown(key)}'")
    if not key:
        sequence = parameters.get("sequence_id", 0)
        if type(sequence) not in {int, str}:
            raise InvalidRequest(
                f"parameter 'sequence_id' must be an integer or a string, got '{shown(sequence)}'"
            )
        key = str(sequence) if sequence else ""
    return check_routing_key(key)


def check_routing_key(key: str) -> str:
    """Raises: InvalidRequest if it is too long to be kept beside a request."""
    if len(key) > ROUTING_KEY_BYTES_MAX:
        raise InvalidRequest(
            f"a routing key has at most {ROUTING_KEY_BYTES_MAX} characters, got {len(key)}"
        )
    return key


def wanted_outputs(
    signature: Signature, outputs: object, find: FindRegion
) -> tuple[WantedOutput, ...]:
    """The outputs a request asks for, in its order; none named: all.

    outputs: None, or entries {"name", "parameters"?}. find: regions of shared memory.
    Raises: InvalidRequest for unknown and duplicate names, Unsupported for
    extensions that we do not speak.
    """
    if outputs is None:
        return ()
    if type(outputs) is not list:
        raise InvalidRequest(f"'outputs' must be an array, got '{shown(outputs)}'")
    wanted: dict[int, WantedOutput] = {}
    for entry in outputs:
        if not isinstance(entry, Mapping):
            raise InvalidRequest(f"an entry of 'outputs' must be an object, got '{shown(entry)}'")
        name = entry.get("name")
        index = signature.output_index.get(name) if isinstance(name, str) else None
        if index is None:
            known = ", ".join(f"'{spec.name}'" for spec in signature.outputs[:8])
            raise InvalidRequest(
                f"unexpected inference output '{shown(name)}' for model '{signature.model}'. "
                f"Expected one of {known}"
            )
        if index in wanted:
            raise InvalidRequest(f"output '{shown(name)}' already exists in request")
        wanted[index] = _wanted(index, entry, f"output '{shown(name)}'", find)
    return tuple(wanted.values())


def _wanted(index: int, entry: Mapping[str, Any], where: str, find: FindRegion) -> WantedOutput:
    parameters = entry.get("parameters")
    if parameters is None:
        return WantedOutput(index)
    if not isinstance(parameters, Mapping):
        raise InvalidRequest(f"'parameters' of {where} must be an object")
    refuse_extensions(parameters, where)
    binary = _boolean(parameters, "binary_data") if "binary_data" in parameters else None
    return WantedOutput(index, binary, read_place(parameters, find, where))


def refuse_extensions(parameters: Mapping[str, Any], where: str) -> None:
    """Raises: Unsupported for classification."""
    if parameters.get("classification"):
        raise Unsupported(f"classification is not supported, asked for by {where}")
