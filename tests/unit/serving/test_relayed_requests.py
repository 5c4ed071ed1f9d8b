"""Bodies of the endpoints that the supervisor answers: what is read, what is refused."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from serving.core import relayed_requests as requests
from serving.core.errors import InvalidRequest

MODEL = {"model": "m"}


def test_what_is_asked_for_is_in_the_message() -> None:
    assert requests.index({"repository": "r"}, {"ready": True}).ready
    load = requests.load(MODEL, {"parameters": {"config": "{}", "n": 3, "b": True}})
    assert load.parameters["config"].string_param == "{}"
    assert load.parameters["n"].int64_param == 3
    assert load.parameters["b"].bool_param is True
    assert requests.unload(MODEL, {}).model_name == "m"
    trace = requests.trace_setting(MODEL, {"trace_level": ["A", "B"], "trace_rate": 5, "x": None})
    assert list(trace.settings["trace_level"].value) == ["A", "B"]
    assert list(trace.settings["trace_rate"].value) == ["5"]
    assert not trace.settings["x"].value
    log = requests.log_settings({}, {"a": False, "b": 7, "c": "text"})
    assert log.settings["a"].WhichOneof("parameter_choice") == "bool_param"
    assert (log.settings["b"].uint32_param, log.settings["c"].string_param) == (7, "text")
    assert requests.statistics({"model": "m", "version": "2"}, {}).version == "2"


@pytest.mark.parametrize(
    ("build", "document", "sentence"),
    [
        (requests.index, {"ready": "yes"}, "Invalid value for 'ready': expected a boolean"),
        (requests.load, {"parameters": [1]}, "'parameters' must be an object"),
        (requests.load, {"parameters": {"x": None}}, "parameter 'x' must be"),
        (requests.load, {"parameters": {"x": 2**63}}, "parameter 'x' must be"),
        (requests.unload, {"parameters": {"x": 1.5}}, "parameter 'x' must be"),
        (requests.trace_setting, {"x": {"y": 1}}, "trace setting 'x' must be text"),
        (requests.trace_setting, {"x": [True]}, "trace setting 'x' must be text"),
        (requests.log_settings, {"x": -1}, "log setting 'x' must be"),
        (requests.log_settings, {"x": None}, "log setting 'x' must be"),
        (requests.log_settings, {str(n): 1 for n in range(65)}, "at most 64 settings"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    build: Callable[[Mapping[str, str], Mapping[str, Any]], Any],
    document: dict[str, Any],
    sentence: str,
) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        build(MODEL, document)
