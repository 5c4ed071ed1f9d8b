"""Templates: values stay where they were put."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.triggers.core.template import (
    TemplateError,
    fill,
    fill_text,
    fill_url,
    placeholders,
)

VALUES = {"id": "driftgate-1", "request": {"model": "m", "features": ["a"]}, "number": "42"}


def test_a_string_that_is_one_placeholder_becomes_the_value():
    template = {"run": "{id}", "conf": "{request}", "n": "{number|int}", "none": None, "deep": [1]}
    assert fill(template, VALUES) == {
        "run": "driftgate-1",
        "conf": VALUES["request"],
        "n": 42,
        "none": None,
        "deep": [1],
    }


def test_among_other_text_a_value_stands_as_text():
    filled = fill("id={id} {request|json} {id|base64} {{id}}", VALUES)
    body = json.dumps(VALUES["request"], separators=(",", ":"))
    assert filled == f"id=driftgate-1 {body} ZHJpZnRnYXRlLTE= {{id}}"


def test_what_may_be_unset_takes_its_key_or_item_away():
    template = {"a": "{absent?}", "b": ["{absent?}", "{id}"], "c": "x{absent?}"}
    assert fill(template, VALUES) == {"b": ["driftgate-1"], "c": "x"}


@pytest.mark.parametrize(
    ("template", "word"),
    [("{absent}", "{absent} is not set"), ("{id|int}", "{id|int} cannot be made")],
)
def test_what_cannot_be_filled_is_named_without_the_value(template, word):
    with pytest.raises(TemplateError, match=word.replace("|", r"\|")) as caught:
        fill(template, VALUES)
    assert "driftgate-1" not in str(caught.value)


def test_a_filter_that_does_not_exist_is_found_before_anything_is_sent():
    with pytest.raises(TemplateError, match="json, int, base64"):
        list(placeholders({"a": ["{id|sh}"]}))
    assert list(placeholders({"a": ["{id}", "{x?}"], "{b}": 1})) == [("id", True), ("x", False)]


@given(st.text())
def test_a_value_in_a_url_adds_no_segment_and_no_parameter(value):
    url = fill_url("https://h/a/{v}/b?c={v}", {"v": value.encode("utf-8", "replace").decode()})
    assert url.count("/") == 5
    assert url.count("?") == url.count("=") == 1
    assert "&" not in url
    assert "#" not in url


@given(st.text())
def test_a_value_cannot_change_the_shape_of_json(value):
    filled = fill({"a": "{v}", "b": "x{v}y"}, {"v": value})
    assert filled == {"a": value, "b": f"x{value}y"}


def test_a_value_that_looks_like_a_placeholder_is_not_one():
    assert fill_text("{v}", {"v": "{id}", "id": "secret"}) == "{id}"
