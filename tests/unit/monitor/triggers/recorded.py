"""What each system takes, written down from its public API description.

path: a pattern of path and query; body: a JSON schema of what may be sent; closed where
the system refuses fields that it does not know. Nothing of ours is imported here.
"""

from typing import Any

TEXT = {"type": "string"}
NAME = {"type": "string", "minLength": 1}
STRINGS = {"type": "object", "additionalProperties": TEXT}
ID = r"driftgate-[0-9a-f]{24}"


def closed(required: list[str], **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "required": required,
        "properties": properties,
        "additionalProperties": False,
    }


RECORDED: dict[str, dict[str, Any]] = {
    "airflow2": {
        "method": "POST",
        "path": r"/api/v1/dags/retrain-fraud/dagRuns",
        "authorization": "Basic dXNlcjpzZXNhbWU=",
        # DAGRun: state, run_type, start_date and end_date are read-only.
        "body": closed(
            [],
            dag_run_id=NAME,
            logical_date={"type": ["string", "null"]},
            execution_date={"type": ["string", "null"]},
            data_interval_start={"type": ["string", "null"]},
            data_interval_end={"type": ["string", "null"]},
            conf={"type": "object"},
            note={"type": ["string", "null"]},
        ),
    },
    "airflow3": {
        "method": "POST",
        "path": r"/api/v2/dags/retrain-fraud/dagRuns",
        "authorization": "Bearer user:sesame",
        # TriggerDAGRunPostBody: extra fields are forbidden, logical_date has to be there.
        "body": closed(
            ["logical_date"],
            dag_run_id={"type": ["string", "null"]},
            logical_date={"type": ["string", "null"], "format": "date-time"},
            data_interval_start={"type": ["string", "null"]},
            data_interval_end={"type": ["string", "null"]},
            run_after={"type": ["string", "null"]},
            conf={"type": ["object", "null"]},
            note={"type": ["string", "null"], "maxLength": 1000},
        ),
    },
    "kubeflow": {
        "method": "POST",
        "path": r"/apis/v2beta1/runs",
        "authorization": "Bearer user:sesame",
        "body": closed(
            ["display_name"],
            experiment_id=NAME,
            display_name=NAME,
            description=TEXT,
            pipeline_version_reference=closed(
                ["pipeline_id"], pipeline_id=NAME, pipeline_version_id=NAME
            ),
            runtime_config=closed([], parameters={"type": "object"}, pipeline_root=TEXT),
            service_account=NAME,
        ),
    },
    "github-workflow": {
        "method": "POST",
        "path": r"/repos/acme/models/actions/workflows/retrain\.yml/dispatches",
        "authorization": "Bearer user:sesame",
        "body": closed(
            ["ref"],
            ref=NAME,
            inputs={**STRINGS, "maxProperties": 25},
            return_run_details={"type": "boolean"},
        ),
    },
    "github-repository": {
        "method": "POST",
        "path": r"/repos/acme/models/dispatches",
        "authorization": "Bearer user:sesame",
        "body": closed(
            ["event_type"],
            event_type={"type": "string", "minLength": 1, "maxLength": 100},
            client_payload={"type": "object", "maxProperties": 10},
        ),
    },
    "argo-events": {
        "method": "POST",
        "path": r"/api/v1/events/ml/drift",
        "authorization": "Bearer user:sesame",
        "body": {"type": "object"},  # any item; a WorkflowEventBinding selects by it
    },
    "argo-submit": {
        "method": "POST",
        "path": r"/api/v1/workflows/ml/submit",
        "authorization": "Bearer user:sesame",
        "body": closed(
            ["resourceKind", "resourceName"],
            namespace=NAME,
            resourceKind={"enum": ["WorkflowTemplate", "ClusterWorkflowTemplate", "CronWorkflow"]},
            resourceName=NAME,
            submitOptions=closed(
                [],
                name={
                    "type": "string",
                    "pattern": r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
                    "maxLength": 63,
                },
                generateName=TEXT,
                entryPoint=TEXT,
                parameters={"type": "array", "items": {"type": "string", "pattern": "^[^=]+="}},
                serviceAccount=NAME,
                labels=TEXT,
                annotations=TEXT,
                priority={"type": "integer"},
            ),
        ),
    },
    "jenkins": {
        "method": "POST",
        "path": r"/job/retrain/buildWithParameters",
        "authorization": "Basic dXNlcjpzZXNhbWU=",
        "form": True,
        "body": STRINGS,
    },
    "databricks": {
        "method": "POST",
        "path": r"/api/2\.2/jobs/run-now",
        "authorization": "Bearer user:sesame",
        "body": closed(
            ["job_id"],
            job_id={"type": "integer"},
            idempotency_token={"type": "string", "maxLength": 64},
            job_parameters=STRINGS,
            queue={"type": "object"},
        ),
    },
    "vertex": {
        "method": "POST",
        # The id of a pipeline job: [a-z0-9][a-z0-9-]{0,127}
        "path": rf"/v1/projects/p1/locations/europe-west4/pipelineJobs\?pipelineJobId={ID}",
        "authorization": "Bearer user:sesame",
        "body": closed(
            ["runtimeConfig"],
            displayName={"type": "string", "maxLength": 128},
            templateUri=NAME,
            pipelineSpec={"type": "object"},
            runtimeConfig=closed(
                ["gcsOutputDirectory"],
                gcsOutputDirectory={"type": "string", "pattern": "^gs://"},
                parameterValues={"type": "object"},
            ),
            serviceAccount=NAME,
            labels={
                "type": "object",
                "additionalProperties": {"type": "string", "pattern": r"^[a-z0-9_-]{0,63}$"},
            },
            network=TEXT,
        ),
    },
    "azureml": {
        "method": "PUT",
        "path": r"/subscriptions/s1/resourceGroups/g1/providers/"
        rf"Microsoft\.MachineLearningServices/workspaces/w1/jobs/{ID}\?api-version=2024-04-01",
        "authorization": "Bearer user:sesame",
        "body": closed(
            ["properties"],
            properties=closed(
                ["jobType"],
                jobType={"const": "Pipeline"},
                componentId={"type": "string", "pattern": "^/subscriptions/"},
                computeId=TEXT,
                displayName=TEXT,
                experimentName=TEXT,
                description=TEXT,
                inputs={
                    "type": "object",
                    "additionalProperties": closed(
                        ["jobInputType", "value"], jobInputType={"const": "literal"}, value=NAME
                    ),
                },
                settings={"type": "object"},
                tags=STRINGS,
            ),
        ),
    },
}

# As an operator sets them.
PARAMETERS: dict[str, tuple[str, ...]] = {
    "airflow2": ("dag_id=retrain-{model}",),
    "airflow3": ("dag_id=retrain-{model}",),
    "kubeflow": ("pipeline_id=0f3c", "experiment_id=77"),
    "github-workflow": ("owner=acme", "repo=models", "workflow=retrain.yml"),
    "github-repository": ("owner=acme", "repo=models"),
    "argo-events": ("namespace=ml", "discriminator=drift"),
    "argo-submit": ("namespace=ml", "template=retrain"),
    "jenkins": ("job=retrain",),
    "databricks": ("job_id=1234567890123456",),
    "vertex": (
        "project=p1", "location=europe-west4", "template_uri=https://h/t", "output_directory=gs://b"
    ),
    "azureml": (
        "subscription=s1", "resource_group=g1", "workspace=w1",
        "component_id=/subscriptions/s1/c", "compute=cpu",
    ),
}  # fmt: skip
