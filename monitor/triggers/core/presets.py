"""The systems that are asked for a training over HTTP, each as a template.

A preset's URL is what follows the base URL that the operator gives. Where the request
is one string among parameters it is `brief`, since such parameters are bounded (10,000
bytes at Databricks, 65,535 characters at GitHub); as JSON of its own it is whole.

Sources: the public descriptions of each API, named in `source`. Each is tested against
a schema recorded from there, not against a live service.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from monitor.triggers.core.retry import Statuses
from monitor.triggers.core.template import Json

BEARER = MappingProxyType({"Authorization": "Bearer {token}"})
BASIC = MappingProxyType({"Authorization": "Basic {token|base64}"})
GITHUB = MappingProxyType(
    {
        **BEARER,
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }
)


@dataclass(frozen=True, slots=True)
class HttpTemplate:
    """A request with placeholders. form: the body's pairs are sent as a form, not as JSON.

    once: whether the receiver takes two requests with the same id for one.
    """

    source: str
    url: str
    body: Json
    statuses: Statuses
    once: bool
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=lambda: BEARER)
    form: bool = False
    defaults: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


PRESETS: Mapping[str, HttpTemplate] = MappingProxyType(
    {
        "airflow2": HttpTemplate(
            source="Airflow 2 stable REST API, POST /dags/{dag_id}/dagRuns",
            url="/api/v1/dags/{dag_id}/dagRuns",
            body={"dag_run_id": "{id}", "conf": "{request}"},
            headers=BASIC,
            statuses=Statuses(done=(200,), duplicate=(409,)),
            once=True,
        ),
        "airflow3": HttpTemplate(
            source="Airflow 3 public API v2, POST /dags/{dag_id}/dagRuns",
            url="/api/v2/dags/{dag_id}/dagRuns",
            body={
                "dag_run_id": "{id}",
                "logical_date": None,
                "conf": "{request}",
                "note": "driftgate: {reason}",
            },
            statuses=Statuses(done=(200, 201), duplicate=(409,)),
            once=True,
        ),
        "kubeflow": HttpTemplate(
            source="Kubeflow Pipelines API v2beta1, RunService.CreateRun",
            url="/apis/v2beta1/runs",
            body={
                "display_name": "{id}",
                "description": "{reason}",
                "experiment_id": "{experiment_id?}",
                "pipeline_version_reference": {
                    "pipeline_id": "{pipeline_id}",
                    "pipeline_version_id": "{pipeline_version_id?}",
                },
                "runtime_config": {"parameters": {"request": "{brief|json}"}},
                "service_account": "{service_account?}",
            },
            statuses=Statuses(done=(200,)),
            once=False,
        ),
        "github-workflow": HttpTemplate(
            source="GitHub REST API 2022-11-28, create a workflow dispatch event",
            url="/repos/{owner}/{repo}/actions/workflows/{workflow}/dispatches",
            body={
                "ref": "{ref?}",
                "inputs": {"model": "{model}", "request": "{brief|json}"},
            },
            headers=GITHUB,
            statuses=Statuses(done=(200, 204)),
            once=False,
            defaults={"ref": "main"},
        ),
        "github-repository": HttpTemplate(
            source="GitHub REST API 2022-11-28, create a repository dispatch event",
            url="/repos/{owner}/{repo}/dispatches",
            body={
                "event_type": "driftgate-retrain",
                "client_payload": {"id": "{id}", "model": "{model}", "request": "{brief}"},
            },
            headers=GITHUB,
            statuses=Statuses(done=(204,)),
            once=False,
        ),
        "argo-events": HttpTemplate(
            source="Argo Workflows API, EventService.ReceiveEvent",
            url="/api/v1/events/{namespace}/{discriminator}",
            body="{request}",
            headers={**BEARER, "X-Driftgate-Id": "{id}"},
            statuses=Statuses(done=(200,)),
            once=False,
        ),
        "argo-submit": HttpTemplate(
            source="Argo Workflows API, WorkflowService.SubmitWorkflow",
            url="/api/v1/workflows/{namespace}/submit",
            body={
                "resourceKind": "WorkflowTemplate",
                "resourceName": "{template}",
                "submitOptions": {
                    "name": "{id}",
                    "parameters": ["model={model}", "request={brief|json}"],
                    "serviceAccount": "{service_account?}",
                },
            },
            statuses=Statuses(done=(200,), duplicate=(409,)),
            once=True,
        ),
        "jenkins": HttpTemplate(
            source="Jenkins remote access API, buildWithParameters",
            url="/job/{job}/buildWithParameters",
            body={"model": "{model}", "request": "{brief|json}"},
            headers=BASIC,
            form=True,
            statuses=Statuses(done=(200, 201)),
            once=False,
        ),
        "databricks": HttpTemplate(
            source="Databricks Jobs API 2.2, run-now",
            url="/api/2.2/jobs/run-now",
            body={
                "job_id": "{job_id|int}",
                "idempotency_token": "{id}",
                "job_parameters": {"model": "{model}", "request": "{brief|json}"},
            },
            statuses=Statuses(done=(200,)),
            once=True,
        ),
        "vertex": HttpTemplate(
            source="Vertex AI API v1, projects.locations.pipelineJobs.create",
            url="/v1/projects/{project}/locations/{location}/pipelineJobs?pipelineJobId={id}",
            body={
                "displayName": "{id}",
                "templateUri": "{template_uri}",
                "runtimeConfig": {
                    "gcsOutputDirectory": "{output_directory}",
                    "parameterValues": {"model": "{model}", "request": "{brief|json}"},
                },
                "serviceAccount": "{service_account?}",
                "labels": {"started-by": "driftgate"},
            },
            statuses=Statuses(done=(200,), duplicate=(409,)),
            once=True,
        ),
        "azureml": HttpTemplate(
            source="Azure Machine Learning REST API 2024-04-01, jobs create or update",
            method="PUT",
            url="/subscriptions/{subscription}/resourceGroups/{resource_group}/providers"
            "/Microsoft.MachineLearningServices/workspaces/{workspace}/jobs/{id}"
            "?api-version=2024-04-01",
            body={
                "properties": {
                    "jobType": "Pipeline",
                    "componentId": "{component_id}",
                    "displayName": "{id}",
                    "experimentName": "{experiment?}",
                    "description": "{reason}",
                    "inputs": {
                        "model": {"jobInputType": "literal", "value": "{model}"},
                        "request": {"jobInputType": "literal", "value": "{brief|json}"},
                    },
                    "settings": {"default_compute": "{compute?}"},
                }
            },
            statuses=Statuses(done=(200, 201), duplicate=(409,)),
            once=True,
        ),
    }
)
