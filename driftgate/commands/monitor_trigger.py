"""`driftgate monitor trigger`: what a trainer would be asked, or is asked by hand."""

import argparse
import getpass
import json
import sys
import time
from typing import TYPE_CHECKING, Any

from driftgate.cli import common_options
from driftgate.config import Config, load_config, setting_options
from driftgate.errors import CliError, Exit
from driftgate.monitor_client import add_url_option, ask, monitor_url

if TYPE_CHECKING:
    from monitor.triggers.core.request import Request
    from monitor.triggers.core.retry import Attempt
    from monitor.triggers.trigger import Trigger


def register(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = verbs.add_parser(
        "trigger",
        help="ask for a training by hand, or print what would be sent",
        description="Makes the request for a training of a model as it stands, and sends it once, "
        "by the configured trigger and outside the guards; the gateway's audit log says so, if one "
        "answers. With --dry-run it is printed, secrets masked, and nothing is exported or sent. "
        "Exit codes: 0 sent or printed, 1 refused or no "
        "answer, 2 no such trigger, 4 no monitor answers.",
        parents=[common_options(), setting_options()],
    )
    parser.add_argument("model")
    parser.add_argument("--dry-run", action="store_true", help="print it")
    add_url_option(parser)
    parser.set_defaults(run=run_trigger)


def run_trigger(args: argparse.Namespace) -> int:
    config = load_config(args)
    trigger = configured_trigger(config)
    state = _state(args, config)
    if args.dry_run:
        print(trigger.show(_request(config, state, export=False)))
        return Exit.OK
    request = _request(config, state, export=True)
    attempt = trigger.attempt(request)
    _note(config, request, attempt)
    if args.output == "json":
        print(json.dumps({"outcome": attempt.sentence, **attempt.detail}))
    else:
        print(attempt.sentence)
    return Exit.OK if attempt.fate.value == "done" else Exit.FAILED


def configured_trigger(config: Config) -> "Trigger":
    """Raises: CliError where there is none, or none can be made of the settings."""
    from monitor.triggers.compose import make_trigger
    from monitor.triggers.trigger import InvalidTrigger

    command = config.monitor.retrain_hook
    broker = config.log.kafka, config.kafka
    try:
        trigger = make_trigger(config.retrain, command, config.state_dir, broker)
    except InvalidTrigger as error:
        raise CliError("no training can be asked for", str(error), code=Exit.USAGE) from error
    if trigger is None:
        raise CliError(
            "no trigger is configured",
            hint="set monitor.retrain_hook, or retrain.trigger",
            code=Exit.USAGE,
        )
    return trigger


def _state(args: argparse.Namespace, config: Config) -> dict[str, Any]:
    url = (args.url or monitor_url(config)).rstrip("/")
    models: dict[str, dict[str, Any]] = ask(f"{url}/v1/state")["models"]
    if args.model not in models:
        raise CliError(f"the monitor has seen no prediction of a model {args.model!r} yet")
    return models[args.model]


def _note(config: Config, request: "Request", attempt: "Attempt") -> None:
    """Into the audit log; on a machine without a gateway there is none to write it."""
    from driftgate.admin import admin

    command = {
        "id": request.key,
        "origin": "cli",
        "actor": getpass.getuser(),
        "model": request.model,
        "verb": "NOTE",
        "reason": f"an operator asked for a training: {attempt.sentence}",
        "evidence_json": json.dumps({"request": request.id, **attempt.detail}),
    }
    try:
        with admin(config) as client:
            client.apply(command, wait_ms=0)
    except CliError as error:
        print(f"it stands in no audit log: {error.cause or error.error}", file=sys.stderr)


def _request(config: Config, state: dict[str, Any], *, export: bool) -> "Request":
    from monitor.triggers.compose import make_datasets
    from monitor.triggers.core.request import make_request, request_id, standing_evidence
    from monitor.triggers.dataset import NoDataset

    window_ns = round(config.monitor.retrain_window_s * 1e9)
    evidence = standing_evidence(state, "operator", "an operator asks for it", window_ns)
    key = f"operator:{state['model']}:retrain:{time.time_ns()}"
    if not export:
        return make_request(key, evidence, None, "this is a dry run")
    datasets = make_datasets(config.retrain, config.state_dir, log_here=not config.log.kafka)
    try:
        return make_request(key, evidence, datasets.export(request_id(key), evidence), "")
    except NoDataset as error:
        return make_request(key, evidence, None, str(error))
