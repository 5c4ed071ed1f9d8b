"""Templates of requests: text, or JSON whose strings hold placeholders.

Laws:
- a template is parsed before values are put in, so no value can change its shape:
  one in a URL is quoted, one in JSON stays within its string;
- `{name}` alone in a string becomes the value, of whatever type; beside other text it
  stands as text. `{name|json}` is the value as JSON text, `{name|int}` a whole number,
  `{name|base64}` the text in base64; `{{` and `}}` are braces;
- `{name?}` may be unset: alone in a string it takes its key or item away.
"""

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

Json = Any  # what json.loads gives
Values = Mapping[str, Json]

_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([a-z][a-z0-9_]*)(\?)?(?:\|([a-z0-9]+))?\}")
_LEFT_OUT = object()


class TemplateError(ValueError):
    """A template that cannot be filled; the message names the placeholder, never a value."""


def placeholders(template: Json) -> Iterator[tuple[str, bool]]:
    """(name, whether it has to be set) of every placeholder in text or JSON.

    Raises: TemplateError for a filter that does not exist.
    """
    if isinstance(template, str):
        for found in _PLACEHOLDER.finditer(template):
            name, optional, filter_name = found.groups()
            if filter_name is not None and filter_name not in _FILTERS:
                raise TemplateError(f"{found[0]}: filters are {', '.join(_FILTERS)}")
            if name is not None:
                yield name, optional is None
    elif isinstance(template, dict):
        for item in template.values():
            yield from placeholders(item)
    elif isinstance(template, list):
        for item in template:
            yield from placeholders(item)


def fill(template: Json, values: Values) -> Json:
    """JSON with its placeholders filled. Raises: TemplateError."""
    filled = _fill(template, values)
    return None if filled is _LEFT_OUT else filled


def fill_text(
    template: str, values: Values, quoted: Callable[[str], str] = lambda text: text
) -> str:
    """Text with its placeholders filled; each value goes through `quoted`.

    Raises: TemplateError.
    """

    def replaced(found: re.Match[str]) -> str:
        if found[1] is None:
            return found[0][0]
        value = _value(found, values)
        return "" if value is _LEFT_OUT else quoted(_as_text(value))

    return _PLACEHOLDER.sub(replaced, template)


def fill_url(template: str, values: Values) -> str:
    """A URL; values are quoted, so that none of them adds a segment or a parameter."""
    return fill_text(template, values, lambda text: quote(text, safe=""))


def _fill(template: Json, values: Values) -> Json:
    if isinstance(template, str):
        alone = _PLACEHOLDER.fullmatch(template)
        if alone is not None and alone[1] is not None:
            return _value(alone, values)
        return fill_text(template, values)
    if isinstance(template, dict):
        pairs = ((key, _fill(item, values)) for key, item in template.items())
        return {key: item for key, item in pairs if item is not _LEFT_OUT}
    if isinstance(template, list):
        items = (_fill(item, values) for item in template)
        return [item for item in items if item is not _LEFT_OUT]
    return template


def _value(found: re.Match[str], values: Values) -> Json:
    name, optional, filter_name = found.groups()
    if name not in values:
        if optional:
            return _LEFT_OUT
        raise TemplateError(f"{found[0]} is not set")
    if filter_name is None:
        return values[name]
    try:
        return _FILTERS[filter_name](values[name])
    except (KeyError, ValueError, TypeError) as exc:
        raise TemplateError(f"{found[0]} cannot be made of the value") from exc


def _as_text(value: Json) -> str:
    return value if isinstance(value, str) else _as_json(value)


def _as_json(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"))


_FILTERS: Mapping[str, Callable[[Json], Json]] = {
    "json": _as_json,
    "int": int,
    "base64": lambda value: base64.b64encode(_as_text(value).encode()).decode(),
}
