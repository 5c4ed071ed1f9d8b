"""`driftgate config show`: what is set, and where it was set."""

import argparse
import json
from dataclasses import asdict
from typing import Any

from driftgate.cli import common_options
from driftgate.config import Config, keys, load_config, setting_options
from driftgate.config_models import MODELS, set_for_models
from driftgate.config_slices import SLICES
from driftgate.config_values import SECRETS


def register(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subparsers.add_parser("config", help="show the configuration and its origins")
    verbs = parser.add_subparsers(metavar="verb", required=True)
    show = verbs.add_parser(
        "show",
        help="every key, its value and where it came from",
        parents=[common_options(), setting_options()],
    )
    show.set_defaults(run=run_show)


def run_show(args: argparse.Namespace) -> int:
    config = load_config(args)
    rows = [
        (f"{section}.{key}", value_of(config, section, key), origin_of(config, section, key))
        for section, key, _ in keys()
    ]
    for model, key, value in set_for_models(config.model_logs):
        name = f"{MODELS}.{model}.log.{key}"
        rows.append((name, value, config.origins[name]))
    for model, slices in config.monitor.slices.items():
        for item in slices:
            name = f"{MODELS}.{model}.{SLICES}.{item.name}"
            value = {key: part for key, part in asdict(item).items() if key != "name"}
            rows.append((name, value, config.origins[name]))
    rows.insert(0, ("state_dir", str(config.state_dir), config.origins["state_dir"]))
    if args.output == "json":
        print(
            json.dumps({name: {"value": value, "origin": o} for name, value, o in rows}, indent=2)
        )
    else:
        width = max(len(name) for name, _, _ in rows)
        for name, value, origin in rows:
            print(f"{name:<{width}}  {value!s:<24} {origin}".rstrip())
    return 0


def value_of(config: Config, section: str, key: str) -> Any:
    """As it may be shown: of a secret, only whether there is one."""
    owner = config if hasattr(config, section) else config.gateway
    value = getattr(getattr(owner, section), key)
    return "(set)" if value and f"{section}.{key}" in SECRETS else value


def origin_of(config: Config, section: str, key: str) -> str:
    return config.origins.get(f"{section}.{key}", "default")
