"""The tables of models: `[models.NAME.log]`, `[models.NAME.slices]`; `"*"` is for all of them."""

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from driftgate.config_slices import SLICES, read_slices
from driftgate.config_values import convert, unfit, unknown_key
from driftgate.errors import CliError, Exit
from eventlog.settings import ANY_MODEL, ModelLogSettings
from monitor.core.slice import Slice
from registry_client import InvalidName, check_model_name

MODELS = "models"  # the table, the flag and the variable
LOG = "log"
PARTS = (LOG, SLICES)  # of a model's table


def read_model_logs(tables: Any, origin: str) -> dict[str, ModelLogSettings]:
    """model, or `*` -> what is set of its log.

    Models that are not known yet are allowed: they may be pushed later.
    Raises: CliError for an unknown key, a value that does not fit, or a name that no
            model can have.
    """
    return {
        model: _log_settings(table, f"{MODELS}.{model}", origin)
        for model, table in _parts(tables, LOG, origin)
    }


def read_model_slices(tables: Any, origin: str) -> dict[str, tuple[Slice, ...]]:
    """model, or `*` -> its slices. Raises: as `read_model_logs`."""
    return {
        model: read_slices(table, f"{MODELS}.{model}.{SLICES}", origin)
        for model, table in _parts(tables, SLICES, origin)
    }


def _parts(tables: Any, wanted: str, origin: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each model's table of this name."""
    for model, parts in _table(tables, MODELS, origin).items():
        _check_name(model, origin)
        name = f"{MODELS}.{model}"
        for part, table in _table(parts, name, origin).items():
            if part not in PARTS:
                raise unknown_key(f"{name}.{part}", part, list(PARTS), origin)
            if part == wanted:
                yield model, _table(table, f"{name}.{part}", origin)


def set_for_models(
    logs: Mapping[str, ModelLogSettings],
) -> Iterator[tuple[str, str, Any]]:
    """(model, key, value) of everything that is set."""
    for model, settings in logs.items():
        for item in dataclasses.fields(settings):
            value = getattr(settings, item.name)
            if value is not None:
                yield model, item.name, value


def _log_settings(table: Mapping[str, Any], name: str, origin: str) -> ModelLogSettings:
    hints = {
        key: next(kind for kind in typing.get_args(hint) if kind is not type(None))
        for key, hint in typing.get_type_hints(ModelLogSettings).items()
    }
    for key in table:
        if key not in hints:
            raise unknown_key(f"{name}.{LOG}.{key}", key, sorted(hints), origin)
    # The ranges of a key are those of the key of the same name in [log].
    values = {key: convert(raw, hints[key], f"{LOG}.{key}", origin) for key, raw in table.items()}
    return ModelLogSettings(**values)


def _table(value: Any, name: str, origin: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise CliError(f"{name} must be a table", f"it comes from {origin}", code=Exit.USAGE)
    return value


def _check_name(model: str, origin: str) -> None:
    if model == ANY_MODEL:
        return
    try:
        check_model_name(model)
    except InvalidName as error:
        hint = "the name of one model, or * for all"
        raise unfit(MODELS, model, origin, hint) from error
