"""Fetching in the supervisor: at which priority."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from registry_client import EmbeddedRegistry, FileRole, Manifest
from serving.core.rollout_state import Version
from serving.priority import BACKGROUND_NICE
from serving.supervisor.model_bytes import ModelBytes
from serving.supervisor.models import ModelCache

from .conftest import tiny_model


def nice() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


class Watched(EmbeddedRegistry):
    """Notes the priority of whoever reads a manifest."""

    def manifest(self, model: str, version: str) -> Manifest:
        self.nice_seen = nice()
        return super().manifest(model, version)


@pytest.mark.parametrize(("hurry", "more"), [(True, 0), (False, BACKGROUND_NICE)])
def test_a_fetch_gives_way_to_predictions_unless_the_gateway_is_not_ready(
    tmp_path: Path, *, hurry: bool, more: int
) -> None:
    source = Watched(tmp_path / "registry")
    pushed = source.push("m", {"model.onnx": (FileRole.MODEL, tiny_model())})

    async def fetch_once() -> None:
        held = ModelBytes(lambda: source, ModelCache(tmp_path / "cache"))
        arrived = asyncio.Event()
        held.changed = lambda *_: arrived.set()
        held.want({pushed.digest: ("m", Version("1", pushed.digest))}, hurry=hurry)
        async with asyncio.timeout(30):
            await arrived.wait()
        assert pushed.digest in held.held
        await held.close()

    asyncio.run(fetch_once())
    assert source.nice_seen == min(nice() + more, 19)
