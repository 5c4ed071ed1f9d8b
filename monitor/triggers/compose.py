"""From settings to a trigger, or to a sentence that says what is missing."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from eventlog.settings import KafkaSettings
from monitor.triggers.command import CommandTrigger
from monitor.triggers.core.egress import InvalidUrl, parse_networks, parse_target
from monitor.triggers.core.presets import BEARER, PRESETS, HttpTemplate
from monitor.triggers.core.request import VALUE_NAMES
from monitor.triggers.core.retry import Statuses
from monitor.triggers.core.template import TemplateError, placeholders
from monitor.triggers.credentials import NoCredential, TokenSource, read_secrets
from monitor.triggers.dataset import Datasets, LogDatasets, Without
from monitor.triggers.http_client import Egress
from monitor.triggers.http_trigger import TOKEN, HttpTrigger, Template, Webhook
from monitor.triggers.settings import RetrainSettings
from monitor.triggers.trigger import InvalidTrigger, Trigger

Broker = tuple[str, KafkaSettings]  # bootstrap servers, how to reach them
PLAIN = HttpTemplate(
    source="whatever the operator writes",
    url="",
    body="{request}",
    headers=BEARER,
    statuses=Statuses(done=(200, 201, 202, 204), duplicate=(409,)),
    once=False,
)


def make_datasets(settings: RetrainSettings, state_dir: Path, *, log_here: bool) -> Datasets:
    """log_here: whether the prediction log is on this machine."""
    if not settings.dataset:
        return Without("retrain.dataset is off")
    if not log_here:
        return Without("the log is on Kafka: read the window from its topics")
    folder = Path(settings.dataset_dir or state_dir / "monitor" / "datasets")
    return LogDatasets(state_dir, folder, settings.datasets_kept)


def make_trigger(
    settings: RetrainSettings,
    command: tuple[str, ...],
    state_dir: Path,
    broker: Broker,
    clock: Callable[[], int] = time.time_ns,
) -> Trigger | None:
    """None: no trigger is configured. Raises: InvalidTrigger."""
    kind = settings.trigger
    if kind == "command":
        return CommandTrigger(command, state_dir) if command else None
    if command:
        raise InvalidTrigger(f"monitor.retrain_hook is a command, and retrain.trigger is {kind}")
    if kind == "kafka":
        return _kafka(settings, broker)
    if kind == "webhook":
        _check_url(settings, settings.url)
        _check_secret(settings)
        webhook = Webhook(settings.url, settings.secret_file, clock)
        return HttpTrigger(webhook, _egress(settings), settings.timeout_s)
    return HttpTrigger(_template(settings), _egress(settings), settings.timeout_s)


def _kafka(settings: RetrainSettings, broker: Broker) -> Trigger:
    from monitor.triggers.kafka_trigger import KafkaTrigger

    bootstrap, kafka = broker
    if not (settings.bootstrap or bootstrap):
        raise InvalidTrigger("the kafka trigger needs retrain.bootstrap, or log.kafka")
    return KafkaTrigger(settings.bootstrap or bootstrap, kafka, settings.topic, settings.timeout_s)


def _check_secret(settings: RetrainSettings) -> None:
    if not settings.secret_file:
        raise InvalidTrigger("the webhook trigger needs retrain.secret_file")
    try:
        read_secrets(settings.secret_file)
    except NoCredential as exc:
        raise InvalidTrigger(f"retrain.secret_file: {exc}") from exc


def _egress(settings: RetrainSettings) -> Egress:
    try:
        allowed = parse_networks(settings.allow_networks)
    except ValueError as exc:
        raise InvalidTrigger(f"retrain.allow_networks: {exc}") from exc
    if settings.ca_file and not Path(settings.ca_file).is_file():
        raise InvalidTrigger(f"retrain.ca_file {settings.ca_file} is no file")
    return Egress(settings.plaintext, allowed, settings.ca_file)


def _template(settings: RetrainSettings) -> Template:
    preset = PRESETS.get(settings.trigger, PLAIN)
    template = replace(
        preset,
        method=settings.method if preset is PLAIN else preset.method,
        headers=_merged(preset.headers, _pairs(settings.headers, ":", "headers")),
        body=_body(settings.body) if settings.body else preset.body,
        form=settings.form or preset.form,
        statuses=_statuses(settings, preset.statuses),
    )
    url = settings.url.rstrip("/") + preset.url if preset.url else settings.url
    _check_url(settings, url)
    given = _pairs(settings.parameters, "=", "parameters")
    parameters = {**preset.defaults, **given}
    tokens = TokenSource(settings.token_file, settings.token_command)
    used = _check_names(template, url, parameters)
    for name in sorted(given.keys() - used):
        raise InvalidTrigger(f"retrain.parameters: {name} is not used by {settings.trigger}")
    if template.form and not isinstance(template.body, dict):
        raise InvalidTrigger("retrain.form needs a retrain.body that is an object")
    return Template(template, url, parameters, tokens)


def _check_url(settings: RetrainSettings, url: str) -> None:
    """A host has no braces, so placeholders stand where it is not decided."""
    if not settings.url:
        raise InvalidTrigger(f"the trigger {settings.trigger} needs retrain.url")
    try:
        parse_target(url, plaintext=settings.plaintext)
    except InvalidUrl as exc:
        raise InvalidTrigger(f"retrain.url: {exc}") from exc


def _check_names(template: HttpTemplate, url: str, parameters: Mapping[str, str]) -> set[str]:
    """The names that the template uses, all of them known. Raises: InvalidTrigger."""
    try:
        used = [*placeholders(url), *placeholders(template.body)]
        in_headers = [n for value in template.headers.values() for n in placeholders(value)]
        in_parameters = [n for value in parameters.values() for n in placeholders(value)]
    except TemplateError as exc:
        raise InvalidTrigger(str(exc)) from exc
    if any(name == TOKEN for name, _ in [*used, *in_parameters]):
        raise InvalidTrigger("{token} stands in headers alone")
    known = {*VALUE_NAMES, *parameters, TOKEN}
    for name, required in [*used, *in_headers]:
        if required and name not in known:
            raise InvalidTrigger(f"retrain.parameters lacks {name}=VALUE")
    for name, _ in in_parameters:
        if name not in VALUE_NAMES:
            raise InvalidTrigger(f"retrain.parameters: {{{name}}} is no part of a request")
    return {name for name, _ in [*used, *in_headers]}


def _merged(preset: Mapping[str, str], own: Mapping[str, str]) -> dict[str, str]:
    """A header of the operator's replaces the preset's, however it is written."""
    names = {name.lower() for name in own}
    kept = {name: value for name, value in preset.items() if name.lower() not in names}
    return {**kept, **own}


def _pairs(texts: tuple[str, ...], mark: str, key: str) -> dict[str, str]:
    found = {}
    for text in texts:
        name, given, value = text.partition(mark)
        if not given or not name.strip():
            raise InvalidTrigger(f"retrain.{key}: NAME{mark}VALUE is expected")
        if any(ord(char) < 32 for char in text):
            raise InvalidTrigger(f"retrain.{key}: {name.strip()} has a control character")
        found[name.strip()] = value.strip()
    return found


def _body(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as exc:
        raise InvalidTrigger(f"retrain.body is no JSON: {exc}") from exc


def _statuses(settings: RetrainSettings, preset: Statuses) -> Statuses:
    return Statuses(
        settings.done or preset.done,
        settings.duplicate or preset.duplicate,
        settings.retry or preset.retry,
    )
