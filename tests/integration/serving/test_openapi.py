"""The routes that are served and those that are described are the same ones."""

import json
import re

import pytest

from serving.core.http_routes import ROUTES
from serving.core.openapi import describe
from serving.metrics import MetricsSlab
from serving.settings import LimitSettings
from serving.worker.counters import GateMetrics
from serving.worker.dataplane import DataPlane
from serving.worker.desk import Desk
from serving.worker.http_app import make_app
from serving.worker.labels import LabelDesk
from serving.worker.metadata import Metadata

DOCUMENT = describe("1.2.3", LimitSettings(tensors_max=9))


def test_every_route_is_described_and_every_described_route_is_served(tmp_path):
    plane = DataPlane(LimitSettings(), GateMetrics(MetricsSlab(tmp_path / "metrics")))
    app = make_app(plane, Metadata(plane, "driftgate"), LabelDesk(plane, None, None), Desk())
    served = {(route.path, method.lower()) for route in app.routes for method in route.methods}
    described = {
        (path, method) for path, methods in DOCUMENT["paths"].items() for method in methods
    }
    with_heads = described | {(path, "head") for path, method in described if method == "get"}
    assert served == with_heads | {(path + "/", method) for path, method in with_heads}


def test_operations_have_one_name_each():
    names = [node["operationId"] for path in DOCUMENT["paths"].values() for node in path.values()]
    assert len(set(names)) == len(names) >= len(ROUTES)


def references(node):
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def test_every_reference_leads_somewhere_and_every_component_is_used():
    used = set(references(DOCUMENT))
    there = {
        f"#/components/{kind}/{name}"
        for kind, nodes in DOCUMENT["components"].items()
        for name in nodes
    }
    assert used == there


def test_every_parameter_of_a_path_is_declared():
    for path, methods in DOCUMENT["paths"].items():
        for node in methods.values():
            declared = [ref["$ref"].rsplit("/", 1)[1] for ref in node["parameters"]]
            assert re.findall(r"{(\w+)}", path) == [d for d in declared if "-" not in d]


@pytest.mark.parametrize("status", [400, 408, 413, 414, 431, 503])
def test_what_a_connection_may_answer_is_described_everywhere(status):
    for methods in DOCUMENT["paths"].values():
        for node in methods.values():
            assert str(status) in node["responses"]


def test_bounds_are_those_of_the_configuration():
    schemas = DOCUMENT["components"]["schemas"]
    assert schemas["InferRequest"]["properties"]["inputs"]["maxItems"] == 9


def test_a_running_worker_serves_its_description(shared_worker):
    status, body, headers = shared_worker.request("GET", "/openapi.json")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body)["paths"].keys() == DOCUMENT["paths"].keys()
