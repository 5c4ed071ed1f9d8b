"""Schemas of KServe's and TensorFlow Serving's V1 endpoints."""

from serving.core.openapi_nodes import FLAG, TEXT, Node, array, closed, obj


def v1_schemas() -> Node:
    """By name."""
    status = closed("error_code error_message", {"error_code": TEXT, "error_message": TEXT})
    version = closed("version state status", {"version": TEXT, "state": TEXT, "status": status})
    return {
        "Alive": closed("status", {"status": {"const": "alive"}}),
        "ModelList": closed("models", {"models": array(TEXT)}),
        "V1Model": closed(
            "name ready model_version_status",
            {"name": TEXT, "ready": FLAG, "model_version_status": array(version)},
        ),
        # Rows, or whole tensors; what they are made of is the model's to say.
        "V1Request": {
            "anyOf": [obj("instances", {"instances": array({})}), obj("inputs", {"inputs": {}})]
        },
        "V1Reply": {
            "oneOf": [
                closed("predictions", {"predictions": {}}),
                closed("outputs", {"outputs": {}}),
            ]
        },
    }
