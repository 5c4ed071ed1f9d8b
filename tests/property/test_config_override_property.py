"""What a gateway says about a version is an override that changes nothing."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from serving.core.config_override import merge_override
from serving.core.datatypes import Datatype
from serving.core.errors import InvalidRequest
from serving.core.model_config import config_document, config_message
from serving.core.queue_settings import QueueSettings
from serving.core.signature import Signature, TensorSpec

NAMES = st.text("abcXYZ_.0", min_size=1, max_size=6)
DIMS = st.lists(st.one_of(st.just(-1), st.integers(1, 9)), max_size=3)


@st.composite
def orders(draw):
    """In what order requests run: by arrival, or by priority, or neither."""
    if draw(st.booleans()):
        return {"preserve_ordering": True}
    levels = draw(st.integers(0, 5))
    return {"priority_levels": levels, "default_priority_level": min(levels, 2)}


@st.composite
def versions(draw):
    """(signature, settings document) of a version that a worker may serve."""
    rows_max = draw(st.sampled_from([0, 1, 8, 64]))
    lead = (-1,) if rows_max else ()
    specs = [
        TensorSpec(name, draw(st.sampled_from(Datatype)), (*lead, *draw(DIMS)))
        for name in draw(st.lists(NAMES, min_size=2, max_size=5, unique=True))
    ]
    inputs, outputs = tuple(specs[:-1]), (specs[-1],)
    sizes = st.sets(st.integers(1, max(rows_max, 1)), max_size=3)
    document = {
        "max_batch_size": rows_max,
        "max_queue_delay_us": draw(st.integers(0, 60_000_000)),
        "preferred_batch_sizes": sorted(draw(sizes)),
        "max_queue_size": draw(st.integers(0, 2**32 - 1)),
        "default_timeout_us": draw(st.integers(0, 86_400_000_000)),
        "allow_timeout_override": draw(st.booleans()),
        "timeout_action": draw(st.sampled_from([None, "DELAY"])),
        "instance_count": draw(st.integers(1, 9)),
        **draw(orders()),
        "version_policy": draw(
            st.sampled_from([None, {"all": {}}, {"latest": {"num_versions": 2}}])
        ),
        "inputs": [spec.to_json() for spec in inputs],
        "outputs": [spec.to_json() for spec in outputs],
        "sample_rate": 0.5,
    }
    return Signature("m", "1", inputs, outputs, rows_max), document


def stringed(value):
    """As protobuf's JSON writes 64-bit numbers."""
    if isinstance(value, dict):
        return {name: stringed(each) for name, each in value.items()}
    if isinstance(value, list):
        return [stringed(each) for each in value]
    return str(value) if type(value) is int else value


@given(versions(), st.booleans())
@settings(max_examples=200, deadline=None, print_blob=True)
def test_the_own_configuration_as_an_override_changes_nothing(version, as_strings):
    signature, document = version
    described = config_document(signature, document, 2)
    override = stringed(described) if as_strings else described
    merged = merge_override("m", document, json.dumps(override))
    again = config_document(signature, merged, 2)
    assert again == described
    assert config_message(again) == config_message(described)
    for untouched in ("inputs", "outputs", "sample_rate"):
        assert merged[untouched] == document[untouched]
    before, after = QueueSettings.from_settings(document), QueueSettings.from_settings(merged)
    if signature.max_batch_size:
        assert after == before


VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    [
        "name", "platform", "backend", "max_batch_size", "input", "output", "dynamic_batching",
        "version_policy", "instance_group", "model_warmup", "default_model_filename",
        "optimization",
    ]
)  # fmt: skip


def sets_nothing(value):
    """Whether a field that is not supported is left at what it is anyway."""
    if isinstance(value, list):
        return all(map(sets_nothing, value))
    if isinstance(value, dict):
        return all(map(sets_nothing, value.values()))
    return not value


@given(versions(), st.dictionaries(FIELDS, VALUES, max_size=4))
@settings(max_examples=300, deadline=None, print_blob=True)
def test_any_json_is_merged_or_refused_and_never_fails_otherwise(version, override):
    _, document = version
    try:
        merged = merge_override("m", document, json.dumps(override))
    except InvalidRequest:
        return  # anything else fails the test
    assert sets_nothing(override.get("optimization"))
    json.dumps(merged)
