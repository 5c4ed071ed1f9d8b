"""Each preset's request against what its system takes, recorded from its description.

Tested against a recorded schema, not against a live service.
"""

import json
import re
import typing
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import jsonschema_rs
import pytest

from eventlog.settings import KafkaSettings
from monitor.triggers.compose import make_trigger
from monitor.triggers.core.presets import PRESETS
from monitor.triggers.core.request import Dataset, Request, make_request
from monitor.triggers.http_client import HttpRequest
from monitor.triggers.http_trigger import HttpTrigger
from monitor.triggers.settings import RetrainSettings, TriggerKind
from monitor.triggers.trigger import InvalidTrigger
from tests.conftest import ROOT
from tests.unit.monitor.triggers.evidence import EVIDENCE
from tests.unit.monitor.triggers.recorded import PARAMETERS, RECORDED

DATASET = Dataset("/data/driftgate-1.parquet", "ab" * 32, 1000, 10, 7)
NO_BROKER = ("", KafkaSettings())
BY_NAME = sorted(PRESETS)


@pytest.fixture
def token(tmp_path: Path) -> str:
    path = tmp_path / "token"
    path.write_text("user:sesame\n")
    return str(path)


def trigger(**fields: typing.Any) -> HttpTrigger:
    settings = RetrainSettings(**{"url": "https://trainer.example", **fields})
    made = make_trigger(settings, (), Path("/nowhere"), NO_BROKER)
    assert isinstance(made, HttpTrigger)
    return made


def request(features: int = 2) -> Request:
    names = [f"feature_{i}" for i in range(features)]
    return make_request("monitor:fraud:retrain:d:0", {**EVIDENCE, "features": names}, DATASET, "")


def composed(made: HttpTrigger, asked: Request) -> HttpRequest:
    return made._composer.compose(asked)[0]


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("features", [2, 3000])
def test_a_preset_sends_what_its_system_takes(name, features, token):
    made = trigger(trigger=name, parameters=PARAMETERS[name], token_file=token)
    asked, recorded = request(features), RECORDED[name]
    sent = composed(made, asked)
    parts = urlsplit(sent.url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    assert sent.method == recorded["method"]
    assert re.fullmatch(recorded["path"], path), path
    assert sent.headers["Authorization"] == recorded["authorization"]
    if recorded.get("form"):
        assert sent.headers["Content-Type"] == "application/x-www-form-urlencoded"
        body = dict(parse_qsl(sent.body.decode(), strict_parsing=True))
    else:
        assert sent.headers["Content-Type"] == "application/json"
        body = json.loads(sent.body)
    jsonschema_rs.validator_for(recorded["body"]).validate(body)
    text = json.dumps(body)
    assert asked.id in text or asked.id in path
    assert asked.model in text
    assert DATASET.sha256 in text
    if name == "databricks":
        assert len(json.dumps(body["job_parameters"])) <= 10_000
    if name.startswith("github"):
        assert len(text) < 64_000


def test_every_preset_has_a_schema_and_a_place_in_the_settings():
    assert RECORDED.keys() == PARAMETERS.keys() == PRESETS.keys()
    assert {*typing.get_args(TriggerKind)} == PRESETS.keys() | {
        "command", "webhook", "kafka", "http",
    }  # fmt: skip


def test_the_page_shows_every_preset_and_how_it_was_tested():
    page = (ROOT / "docs" / "retraining.md").read_text()
    for name, preset in PRESETS.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        required = {text.partition("=")[0] for text in PARAMETERS[name]}
        assert all(f"`{item}`" in row for item in required), row
        assert ("one run" in row) is preset.once, row
    assert "against a recorded schema, not against a live service" in page


@pytest.mark.parametrize("name", BY_NAME)
def test_what_is_shown_is_what_would_be_sent_without_the_secret(name, token):
    made = trigger(trigger=name, parameters=PARAMETERS[name], token_file=token)
    shown, sent = made.show(request()), composed(made, request())
    assert shown.startswith(f"{sent.method} {sent.url}\n")
    assert "(a secret)" in shown
    assert "sesame" not in shown
    assert "c2VzYW1l" not in shown


@pytest.mark.parametrize("name", BY_NAME)
def test_a_parameter_that_is_missing_or_not_used_is_named(name):
    with pytest.raises(InvalidTrigger, match=r"lacks [a-z_]+=VALUE"):
        trigger(trigger=name, parameters=PARAMETERS[name][1:])
    with pytest.raises(InvalidTrigger, match="dagid is not used"):
        trigger(trigger=name, parameters=(*PARAMETERS[name], "dagid=x"))


def test_an_operators_header_replaces_the_presets_and_a_body_too(token):
    made = trigger(
        trigger="airflow2",
        parameters=PARAMETERS["airflow2"],
        headers=("authorization: Bearer {token}", "X-Team: {model}"),
        body='{"conf": {"only": "{model}"}}',
        token_file=token,
    )
    sent = composed(made, request())
    names = {name.lower(): value for name, value in sent.headers.items()}
    assert names["authorization"] == "Bearer user:sesame"
    assert len(names) == len(sent.headers)
    assert names["x-team"] == "fraud"
    assert json.loads(sent.body) == {"conf": {"only": "fraud"}}


def test_a_value_cannot_begin_another_header(token):
    headers = ("X-Why: {reason} {token}",)
    made = trigger(trigger="http", headers=headers, token_file=token)
    asked = make_request("k", {**EVIDENCE, "reason": "a\r\nX-Evil: 1 é"}, DATASET, "")
    assert composed(made, asked).headers["X-Why"] == "a??X-Evil: 1 ? user:sesame"


def test_without_a_token_no_header_speaks_of_one():
    sent = composed(trigger(trigger="http"), request())
    assert "Authorization" not in sent.headers
    assert json.loads(sent.body) == dict(request().document)
    assert sent.headers["Idempotency-Key"] == request().id


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"trigger": "http", "url": ""}, "needs retrain.url"),
        ({"trigger": "http", "url": "http://h/"}, "not encrypted"),
        ({"trigger": "http", "url": "https://{model}.example/"}, "host"),
        ({"trigger": "http", "body": "{"}, "no JSON"),
        ({"trigger": "http", "body": '"{token}"'}, "headers alone"),
        ({"trigger": "http", "body": '"{modle}"'}, "lacks modle"),
        ({"trigger": "http", "body": '["{model}"]', "form": True}, "an object"),
        ({"trigger": "http", "headers": ("no colon",)}, "NAME:VALUE"),
        ({"trigger": "http", "headers": ("a: b\nc: d",)}, "control character"),
        ({"trigger": "http", "parameters": ("a={absent}",), "body": '"{a}"'}, "no part"),
        ({"trigger": "http", "allow_networks": ("10.0.0.0/33",)}, "allow_networks"),
        ({"trigger": "http", "ca_file": "/no/such"}, "no file"),
        ({"trigger": "webhook"}, "secret_file"),
        ({"trigger": "webhook", "secret_file": "/no/such"}, "No such file"),
        ({"trigger": "kafka"}, "retrain.bootstrap"),
    ],
)
def test_settings_that_no_request_can_be_made_of_are_named(fields, word):
    with pytest.raises(InvalidTrigger, match=word):
        trigger(**fields)


def test_a_command_and_another_trigger_are_one_too_many():
    with pytest.raises(InvalidTrigger, match="retrain_hook"):
        make_trigger(RetrainSettings(trigger="http"), ("x",), Path("/"), NO_BROKER)
    assert make_trigger(RetrainSettings(), (), Path("/"), NO_BROKER) is None
