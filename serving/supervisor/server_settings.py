"""Trace and log settings, for clients that ask for them.

driftgate has one log level per process and no request traces of Triton's kind.
What is true is told; a change to what is so already succeeds, any other is refused
with the reason, so that no client believes a setting to be in force that is not.
"""

from collections.abc import Callable, Container, Mapping

from protos import inference_pb2 as pb
from serving.core.errors import InvalidRequest, UnknownModel, Unsupported, shown

_TRACE: Mapping[str, tuple[str, ...]] = {
    "trace_level": ("OFF",),
    "trace_rate": ("1000",),
    "trace_count": ("-1",),
    "log_frequency": ("0",),
    "trace_file": ("",),
    "trace_mode": ("triton",),
}
_LOG: Mapping[str, bool | int | str] = {
    "log_file": "",
    "log_info": False,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}


class ServerSettings:
    """Reads; nothing can be set."""

    def __init__(self, models: Callable[[], Container[str]]) -> None:
        """models: those there are, whenever it is asked."""
        self._models = models

    async def trace(self, request: pb.TraceSettingRequest) -> pb.TraceSettingResponse:
        """Raises: UnknownModel, InvalidRequest, Unsupported."""
        if request.model_name and request.model_name not in self._models():
            raise UnknownModel(
                f"Request for unknown model: '{shown(request.model_name)}' is not found"
            )
        for name, setting in request.settings.items():
            held = _TRACE.get(name)
            if held is None:
                raise InvalidRequest(f"Unknown trace setting: '{shown(name)}'")
            if setting.value and tuple(setting.value) != held:
                raise Unsupported(
                    f"trace setting '{name}' cannot be changed: driftgate writes no traces of "
                    "requests; the times of their stages are in /metrics"
                )
        response = pb.TraceSettingResponse()
        for name, values in _TRACE.items():
            response.settings[name].value.extend(values)
        return response

    async def log(self, request: pb.LogSettingsRequest) -> pb.LogSettingsResponse:
        """Raises: InvalidRequest, Unsupported."""
        for name, setting in request.settings.items():
            held = _LOG.get(name)
            if held is None:
                raise InvalidRequest(f"Unknown log setting: '{shown(name)}'")
            choice = setting.WhichOneof("parameter_choice")
            if choice is None:  # how clients name a setting without changing it
                continue
            value = getattr(setting, choice)
            if type(value) is not type(held):
                raise InvalidRequest(
                    f"log setting '{name}' must be {_kind(held)}, got '{shown(value)}'"
                )
            if value != held:
                raise Unsupported(
                    f"log setting '{name}' cannot be changed while the gateway runs; it is '{held}'"
                )
        response = pb.LogSettingsResponse()
        for name, value in _LOG.items():
            if isinstance(value, bool):
                response.settings[name].bool_param = value
            elif isinstance(value, int):
                response.settings[name].uint32_param = value
            else:
                response.settings[name].string_param = value
        return response


def _kind(value: bool | int | str) -> str:
    return {bool: "a boolean", int: "a number"}.get(type(value), "text")
