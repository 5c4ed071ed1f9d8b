"""Configuration: precedence, types, and what an operator is told about a mistake."""

import argparse
import json
from pathlib import Path

import pytest

from driftgate.cli import main
from driftgate.config import load_config
from driftgate.errors import CliError, Exit
from driftgate.processes import gateway_document, monitor_document
from eventlog.settings import KafkaSettings, ModelLogSettings
from monitor.__main__ import read_settings
from monitor.core.slice import Slice
from serving.supervisor.config import config_from_json


def load(tmp_path: Path, text: str = "", environment: dict[str, str] | None = None, **flags: str):
    path = tmp_path / "driftgate.toml"
    path.write_text(text)
    return load_config(argparse.Namespace(config=path, **flags), environment or {})


def test_defaults_are_the_settings_classes_own(tmp_path):
    config = load(tmp_path)
    assert config.gateway.http_port == 8000
    assert config.monitor.budget_s == 90 * 86_400
    assert config.origins == {"state_dir": "default"}


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path):
    text = "[gateway]\nhttp_port = 1\ngrpc_port = 1\nmetrics_port = 1\n"
    environment = {"DRIFTGATE_GATEWAY__HTTP_PORT": "2", "DRIFTGATE_GATEWAY__GRPC_PORT": "2"}
    config = load(tmp_path, text, environment, **{"gateway.http_port": "3"})
    ports = (config.gateway.http_port, config.gateway.grpc_port, config.gateway.metrics_port)
    assert ports == (3, 2, 1)
    assert config.origins["gateway.http_port"] == "flag"
    assert config.origins["gateway.grpc_port"] == "DRIFTGATE_GATEWAY__GRPC_PORT"


def test_limits_have_a_section_of_their_own(tmp_path):
    assert load(tmp_path, "[limits]\nbody_bytes_max = 7\n").gateway.limits.body_bytes_max == 7


def test_an_unknown_key_is_an_error_that_names_the_nearest_one(tmp_path):
    with pytest.raises(CliError) as caught:
        load(tmp_path, "[gateway]\nhtpp_port = 1\n")
    assert "gateway.htpp_port" in str(caught.value)
    assert "did you mean 'http_port'" in str(caught.value)
    assert caught.value.code == Exit.USAGE


def test_an_unknown_section_is_an_error(tmp_path):
    with pytest.raises(CliError, match=r"unknown key \[gatewy\]"):
        load(tmp_path, "[gatewy]\n")


@pytest.mark.parametrize(
    ("section", "line"),
    [
        ("gateway", 'http_port = "many"'),
        ("gateway", "http_port = 80.5"),
        ("gateway", "http_port = true"),
        ("monitor", 'rollback = "perhaps"'),
        ("monitor", "block_s = false"),
        ("log", "mode = 3"),
        ("log", 'mode = "asynchronous"'),
        ("compat", 'model_control = "poll"'),
    ],
)
def test_a_value_of_the_wrong_type_is_an_error_that_shows_it(tmp_path, section, line):
    with pytest.raises(CliError, match=r"expected ") as caught:
        load(tmp_path, f"[{section}]\n{line}\n")
    assert line.partition(" = ")[0] in str(caught.value)


def test_lists_come_from_toml_and_from_text(tmp_path):
    assert load(tmp_path, "[gateway]\nrollout_steps = [1, 100]\n").gateway.rollout_steps == (1, 100)
    environment = {
        "DRIFTGATE_GATEWAY__ROLLOUT_STEPS": "10,100",
        "DRIFTGATE_MONITOR__RETRAIN_HOOK": "python -c 'print(1)'",
    }
    config = load(tmp_path, "", environment)
    assert config.gateway.rollout_steps == (10, 100)
    assert config.monitor.retrain_hook == ("python", "-c", "print(1)")


def test_the_state_dir_is_absolute_wherever_it_was_named(tmp_path):
    config = load(tmp_path, 'state_dir = "here"\n')
    assert config.state_dir == Path("here").absolute()
    assert load(tmp_path, "", {"DRIFTGATE_STATE_DIR": "/x"}).state_dir == Path("/x")


def test_broken_toml_and_a_missing_file_are_usage_errors(tmp_path):
    with pytest.raises(CliError, match="not valid TOML"):
        load(tmp_path, "[gateway\n")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(CliError, match="not valid TOML"):
        load_config(argparse.Namespace(config=tmp_path / "binary.toml"), {})
    with pytest.raises(CliError, match="cannot be read"):
        load_config(argparse.Namespace(config=tmp_path / "none.toml"), {})


@pytest.mark.parametrize("port", ["-1", "65536", "99999"])
def test_a_port_that_no_listener_can_have_is_a_usage_error(tmp_path, port):
    with pytest.raises(CliError, match="expected a port, 0 to 65535") as caught:
        load(tmp_path, **{"monitor.port": port})
    assert caught.value.code == Exit.USAGE


def test_an_unknown_variable_is_an_error_that_names_the_nearest_one(tmp_path):
    with pytest.raises(CliError) as caught:
        load(tmp_path, "", {"DRIFTGATE_GATEWAY__WORKRES": "4"})
    assert "DRIFTGATE_GATEWAY__WORKRES in the environment" in str(caught.value)
    assert "did you mean 'DRIFTGATE_GATEWAY__WORKERS'" in str(caught.value)
    assert caught.value.code == Exit.USAGE


def test_a_variable_that_an_orchestrator_sets_is_not_ours(tmp_path):
    load(tmp_path, "", {"DRIFTGATE_PORT": "tcp://10.0.0.1:8000", "DRIFTGATE_SERVICE_HOST": "x"})


@pytest.mark.parametrize("line", ["state_dir = 5", 'state_dir = ["a"]', "[state_dir]"])
def test_a_state_dir_that_is_no_name_is_an_error(tmp_path, line):
    text = line if line != "[state_dir]" else "[state_dir]\na = 1"
    with pytest.raises(CliError, match=r"state_dir = .* cannot be used"):
        load(tmp_path, text)


def test_where_the_state_dir_was_set_is_told(tmp_path):
    assert load(tmp_path, 'state_dir = "/a"').origins["state_dir"].endswith("driftgate.toml")
    variable = "DRIFTGATE_STATE_DIR"
    assert load(tmp_path, "", {variable: "/a"}).origins["state_dir"] == variable
    assert load(tmp_path, "", state_dir="/a").origins["state_dir"] == "flag"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gateway.workers", "-1"),
        ("gateway.drain_s", "nan"),
        ("gateway.registry_poll_s", "0"),
        ("gateway.rollout_steps", "50,20"),
        ("gateway.rollout_steps", "5,25"),
        ("limits.body_bytes_max", "0"),
        ("log.mode", "asynchronous"),
        ("log.sample_rate", "7"),
        ("log.flush_ms", "-1"),
        ("monitor.block_s", "0"),
        ("monitor.tolerance", "-0.1"),
        ("monitor.budget_s", "inf"),
        ("retrain.every", "7"),
        ("retrain.every", "0d"),
        ("retrain.trigger", "cron"),
        ("retrain.datasets_kept", "0"),
        ("monitor.false_alarms", "seldom"),
        ("monitor.dependence", "users"),
        ("kafka.labels_topic", "driftgate.labels.v1"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_before_anything_starts(tmp_path, name, value):
    with pytest.raises(CliError, match=f"{name} = .* cannot be used") as caught:
        load(tmp_path, **{name: value})
    assert caught.value.code == Exit.USAGE


def test_every_default_is_a_value_that_can_be_meant():
    from driftgate.commands.config import value_of
    from driftgate.config import keys
    from driftgate.config_ranges import expected_range

    config = load_config(argparse.Namespace(), {})
    for section, key, _ in keys():
        assert expected_range(f"{section}.{key}", value_of(config, section, key)) == ""


def test_a_limit_is_above_zero_unless_zero_means_something():
    from driftgate.config_ranges import expected_range

    assert expected_range("limits.rows_in_flight_max", 0) == "a number above 0"
    for key in ("message_bytes_max", "standing_wait_s_max"):
        assert expected_range(f"limits.{key}", 0) == ""
        assert expected_range(f"limits.{key}", -1) == "a number 0 or more"


def test_tenants_are_named_by_a_header_that_http_and_grpc_can_carry():
    from driftgate.config_ranges import expected_range

    for name, fits in {
        "": True,
        "X-Tenant": True,
        "x-t-bin": False,
        "a b": False,
        ":path": False,
    }.items():
        assert (expected_range("limits.tenant_header", name) == "") is fits, name


COMMON = {
    "KAFKA_BOOTSTRAP_SERVERS": "one:9092,two:9092",
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
    "KAFKA_SASL_USERNAME": "user",
    "KAFKA_SASL_PASSWORD": "geheim",
    "KAFKA_SSL_CA_LOCATION": "/ca.pem",
    "KAFKA_SSL_CERTIFICATE_LOCATION": "/cert.pem",
    "KAFKA_SSL_KEY_LOCATION": "/key.pem",
}


def test_the_names_that_kafka_clients_have_in_common_are_taken(tmp_path):
    config = load(tmp_path, "", COMMON)
    kafka = config.kafka
    assert config.log.kafka == "one:9092,two:9092"
    assert (kafka.security_protocol, kafka.sasl_mechanism) == ("SASL_SSL", "SCRAM-SHA-256")
    assert (kafka.username, kafka.password) == ("user", "geheim")
    assert (kafka.ca_file, kafka.certificate_file, kafka.key_file) == (
        "/ca.pem", "/cert.pem", "/key.pem",
    )  # fmt: skip
    assert config.origins["kafka.username"] == "KAFKA_SASL_USERNAME"


def test_every_other_source_wins_over_them(tmp_path):
    text = '[log]\nkafka = "file:1"\n[kafka]\nusername = "in-file"\n'
    config = load(tmp_path, text, {**COMMON, "DRIFTGATE_KAFKA__PASSWORD": "ours"})
    assert (config.log.kafka, config.kafka.username, config.kafka.password) == (
        "file:1", "in-file", "ours",
    )  # fmt: skip
    assert config.kafka.security_protocol == "SASL_SSL"


def test_without_kafka_they_are_somebody_elses(tmp_path):
    others = {**COMMON, "KAFKA_SASL_MECHANISM": "GSSAPI"}
    del others["KAFKA_BOOTSTRAP_SERVERS"]
    assert load(tmp_path, "", others).kafka == KafkaSettings()
    with pytest.raises(CliError, match="it comes from KAFKA_SASL_MECHANISM"):
        load(tmp_path, '[log]\nkafka = "file:1"\n', others)


def test_a_secret_is_never_shown(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, value in COMMON.items():
        monkeypatch.setenv(name, value)
    for output in ("table", "json"):
        assert main(["config", "show", "-o", output]) == 0
        shown = capsys.readouterr().out
        assert "geheim" not in shown
        assert "(set)" in shown
    (tmp_path / "driftgate.toml").write_text("[kafka]\npassword = 20261128\n")
    assert main(["config", "show"]) == 2
    assert "20261128" not in capsys.readouterr().err


def test_what_is_logged_of_a_model_is_set_in_a_table_of_its_own(tmp_path):
    text = """
    [models.fraud.log]
    payload = "features"
    drop = ["ssn"]
    hash = ["customer"]
    mode = "durable"
    [models."*".log]
    sample_rate = 0.1
    """
    config = load(tmp_path, text)
    assert config.model_logs == {
        "fraud": ModelLogSettings("durable", None, "features", None, ("ssn",), ("customer",)),
        "*": ModelLogSettings(sample_rate=0.1),
    }
    assert config.origins["models.fraud.log.drop"] == str(tmp_path / "driftgate.toml")


def test_tables_of_models_in_a_variable_or_a_flag_stand_for_those_in_the_file(tmp_path):
    text = '[models.a.log]\npayload = "off"\n'
    environment = {"DRIFTGATE_MODELS": 'b.log = {payload = "off"}'}
    assert load(tmp_path, text, environment).model_logs.keys() == {"b"}
    config = load(tmp_path, text, environment, models='"c.1".log.drop = ["x"]')
    assert config.model_logs == {"c.1": ModelLogSettings(drop=("x",))}
    assert config.origins["models.c.1.log.drop"] == "flag"
    assert config_from_json(json.loads(json.dumps(gateway_document(config)))).model_logs == (
        config.model_logs
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[models.fraud.log]\npayloud = "off"', "did you mean 'payload'"),
        ("[models.fraud.logg]", "did you mean 'log'"),
        ('[models.fraud.log]\npayload = "some"', "expected one of full, features, off"),
        ("[models.fraud.log]\nsample_rate = 0", "expected a number above 0 and at most 1"),
        ('[models."no/name".log]', "expected the name of one model, or * for all"),
        ("[models]\nfraud = 3", "models.fraud must be a table"),
    ],
)
def test_a_mistake_in_a_models_table_is_named(tmp_path, text, message):
    with pytest.raises(CliError) as caught:
        load(tmp_path, text)
    assert message in str(caught.value)
    assert caught.value.code == Exit.USAGE


def test_slices_of_a_model_reach_the_monitor(tmp_path):
    text = """
    [models.fraud.slices]
    age = { feature = "age", edges = [25, 65] }
    sold = { feature = "sold", values = [true, 3.0, "x"], protected = true, positive = 1 }
    [models."*".slices.region]
    feature = "region"
    values = ["eu"]
    """
    config = load(tmp_path, text)
    assert config.monitor.slices == {
        "fraud": (
            Slice("age", "age", edges=(25.0, 65.0)),
            Slice("sold", "sold", values=("1", "3", "x"), protected=True),
        ),
        "*": (Slice("region", "region", values=("eu",)),),
    }
    assert config.origins["models.fraud.slices.age"] == str(tmp_path / "driftgate.toml")
    document = json.loads(json.dumps(monitor_document(config)))
    assert read_settings(document["monitor"]) == config.monitor


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('a = { feature = "x", edgs = [1] }', "did you mean 'edges'"),
        ('a = { feature = "x" }', "expected values or edges, one of the two"),
        ('a = { feature = "x", edges = [1], values = ["b"] }', "one of the two"),
        ("a = { edges = [1] }", "expected a feature"),
        ('a = { feature = "x", edges = [2, 1] }', "1 to 14 numbers that rise"),
        ('a = { feature = "x", edges = [nan] }', "1 to 14 numbers that rise"),
        ('a = { feature = "x", values = ["b", "b"] }', "1 to 15 different values"),
        ('a = { feature = "x", values = ["other"] }', "none of them 'other'"),
        ('a = { feature = "x", edges = [1], ratio_min = 2 }', "a number from 0 to 1"),
        ('a = { feature = "x", edges = [1], protected = "some" }', "true or false"),
        ("a = 3", "expected a table"),
        (
            "\n".join(f'a{i} = {{ feature = "x", edges = [1] }}' for i in range(9)),
            "at most 8 slices",
        ),
    ],
)
def test_a_mistake_in_a_slice_is_named(tmp_path, text, message):
    with pytest.raises(CliError) as caught:
        load(tmp_path, f"[models.fraud.slices]\n{text}")
    assert message in str(caught.value)
    assert caught.value.code == Exit.USAGE


def test_a_variable_for_models_that_is_no_toml_says_which(tmp_path):
    with pytest.raises(CliError, match="DRIFTGATE_MODELS is not valid TOML"):
        load(tmp_path, "", {"DRIFTGATE_MODELS": "fraud: off"})


def test_only_actions_of_the_monitor_can_be_made_to_wait(tmp_path):
    assert load(tmp_path, '[monitor]\napprove = ["rollback"]').monitor.approve == ("rollback",)
    with pytest.raises(CliError, match=r"monitor\.approve"):
        load(tmp_path, '[monitor]\napprove = ["rebuild"]')


def test_what_is_set_of_retraining_reaches_the_monitor(tmp_path):
    text = """
    [retrain]
    trigger = "airflow3"
    url = "https://airflow.example.org"
    parameters = ["dag_id=retrain_{model}"]
    every = "7d"
    done = [200, 201]
    """
    config = load(tmp_path, text)
    told = json.loads(json.dumps(monitor_document(config)["monitor"]))
    assert read_settings(told) == config.monitor
    assert config.retrain.parameters == ("dag_id=retrain_{model}",)
    assert "kafka" not in monitor_document(config)
    on_kafka = load(tmp_path, '[retrain]\ntrigger = "kafka"\nbootstrap = "b:9092"\n')
    document = monitor_document(on_kafka)
    assert ("kafka" in document, "bootstrap" in document) == (True, False)


def test_models_whose_reference_rolls_reach_the_monitor(tmp_path):
    text = '[monitor]\nrolling_models = ["fraud"]\nrolling_days = 14\n'
    config = load(tmp_path, text)
    assert config.monitor.rolling_models == ("fraud",)
    document = json.loads(json.dumps(monitor_document(config)))
    assert read_settings(document["monitor"]) == config.monitor
    with pytest.raises(CliError, match="rolling_guard_days"):
        load(tmp_path, "[monitor]\nrolling_guard_days = 0\n")
