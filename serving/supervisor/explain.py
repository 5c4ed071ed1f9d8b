"""Asks workers what their batchers of a model do, for the admin API.

A worker answers between two turns of its loop. One that does not answer in time is
left out and named: an operator who asks about an overload must not wait for it.
"""

import asyncio
import json
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

from protos import channel_pb2 as pb
from serving.core.batcher_facts import BatcherFacts, together
from serving.core.rollout_state import Deployment
from serving.core.routing import version_rank
from serving.explained import counted_of_model, counted_of_versions
from serving.metrics import Totals
from serving.supervisor.worker_state import Worker

ANSWER_S_MAX = 2.0  # a turn of a worker's loop takes milliseconds, also under overload

Answers = list[tuple[Worker, str, dict[str, Any] | None]]


class Explainer:
    """Owns the questions that are not answered yet."""

    def __init__(
        self, workers: Callable[[], Sequence[Worker]], counted: Callable[[], Totals]
    ) -> None:
        """workers: those that serve now. counted: what all workers have counted."""
        self._workers, self._counted = workers, counted
        self._ids = count(1)
        self._asked: dict[int, asyncio.Future[bytes]] = {}

    def heard(self, message: pb.Explained) -> None:
        """A worker's answer; of a question that was given up, nothing."""
        waiting = self._asked.get(message.id)
        if waiting is not None and not waiting.done():
            waiting.set_result(message.document_json)

    async def explain(self, deployment: Deployment) -> Mapping[str, Any]:
        """What the gateway does with requests of a model."""
        model = deployment.model
        questions = [
            (worker, version)
            for worker in sorted(self._workers(), key=lambda worker: worker.index)
            for version in worker.holds(model)
        ]
        answers: Answers = [
            (worker, version, document)
            for (worker, version), document in zip(
                questions,
                await asyncio.gather(*[self._ask(w, model, v) for w, v in questions]),
                strict=True,
            )
        ]
        totals = self._counted()
        versions = sorted({version for _, version in questions}, key=version_rank)
        counted = counted_of_versions(totals, model, versions)
        return {
            "model": model,
            "counted": counted_of_model(totals, model),
            "versions": [
                {
                    "version": version,
                    **_role(deployment, version),
                    "counted": counted[version],
                    **_of_version([each for each in answers if each[1] == version]),
                }
                for version in versions
            ],
        }

    async def _ask(self, worker: Worker, model: str, version: str) -> dict[str, Any] | None:
        """None if the worker does not answer in time, or has unloaded it meanwhile."""
        number = next(self._ids)
        answer = self._asked[number] = asyncio.get_running_loop().create_future()
        asked = pb.Explain(id=number, model=model, version=version)
        worker.tell(pb.ToWorker(explain=asked))
        try:
            async with asyncio.timeout(ANSWER_S_MAX):
                text = await answer
        except TimeoutError:
            return None
        finally:
            del self._asked[number]
        return dict(json.loads(text)) if text else None


def _role(deployment: Deployment, version: str) -> dict[str, Any]:
    """weight: of the traffic, in percent."""
    serving = deployment.serving
    if serving.candidate is not None and serving.candidate.version == version:
        return {"role": "candidate", "weight": serving.weight}
    if serving.stable is not None and serving.stable.version == version:
        return {"role": "stable", "weight": 100 - serving.weight if serving.candidate else 100}
    return {"role": "loaded", "weight": 0}


def _of_version(answers: Answers) -> dict[str, Any]:
    told = [(worker, document) for worker, _, document in answers if document is not None]
    facts = [BatcherFacts.from_json(document["facts"]) for _, document in told]
    return {
        "silent_workers": [worker.index for worker, _, document in answers if document is None],
        "in_force": told[0][1]["in_force"] if told else None,
        "together": together(facts) if facts else None,
        "workers": [{"index": worker.index, "pid": worker.pid, **doc} for worker, doc in told],
    }
