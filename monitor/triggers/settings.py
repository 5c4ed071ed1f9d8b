"""What an operator can set about asking for a training; defaults and units stand here."""

from dataclasses import dataclass
from typing import Literal

TriggerKind = Literal[
    "command",
    "webhook",
    "kafka",
    "http",
    "airflow2",
    "airflow3",
    "kubeflow",
    "github-workflow",
    "github-repository",
    "argo-events",
    "argo-submit",
    "jenkins",
    "databricks",
    "vertex",
    "azureml",
]


@dataclass(frozen=True, slots=True)
class RetrainSettings:
    """Which trigger asks for a training, when without a verdict, and what goes along.

    The program of `command` is `monitor.retrain_hook`; without one retraining is a dry run.
    """

    trigger: TriggerKind = "command"
    every: str = ""  # "7d": train so long after the last training or version; empty: never
    after_labels: int = 0  # train after so many labelled rows; 0: never
    dataset: bool = True  # export the window's rows with their labels to a file
    dataset_dir: str = ""  # where the trainer finds it; empty: in the state directory
    datasets_kept: int = 5  # files, the newest
    # webhook, http and presets
    url: str = ""  # of a preset only its beginning, https://airflow.example.org
    parameters: tuple[str, ...] = ()  # NAME=VALUE, for a preset's or the template's {NAME}
    method: Literal["POST", "PUT"] = "POST"  # of http
    headers: tuple[str, ...] = ()  # "NAME: VALUE", in place of a preset's of this name
    body: str = ""  # JSON with placeholders; empty: the preset's, of http the whole request
    form: bool = False  # of http: the body's pairs go as a form
    done: tuple[int, ...] = ()  # statuses; empty: the preset's, of http 200, 201, 202, 204
    duplicate: tuple[int, ...] = ()  # asked for before; empty: the preset's, of http 409
    retry: tuple[int, ...] = ()  # and all from 500; empty: 408, 425, 429
    token_file: str = ""  # its text is {token}; read for each attempt
    token_command: tuple[str, ...] = ()  # argv that prints it, run for each attempt
    secret_file: str = ""  # of webhook: whsec_ and base64, one per line
    timeout_s: float = 30.0  # of one attempt
    give_up_s: float = 86_400.0  # no attempt begins so long after the first, restarts or not
    plaintext: bool = False  # allow http://
    allow_networks: tuple[str, ...] = ()  # private addresses that may be reached, 10.0.0.0/8
    ca_file: str = ""  # PEM; empty: the system's authorities
    # kafka
    topic: str = "driftgate.retrain.v1"
    bootstrap: str = ""  # empty: log.kafka; credentials are those of [kafka]
