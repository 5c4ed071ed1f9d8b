"""A version's batcher as `driftgate explain` reads it: what is in force, and what is so."""

from dataclasses import asdict, replace
from typing import Any

from serving.core.admission import Admission
from serving.worker.batcher import SLOW_NS
from serving.worker.session_load import INLINE_NS_MAX
from serving.worker.version import Version

OPEN_INPUTS_MAX = 16  # named in the answer, which is one packet


def explain(version: Version, admission: Admission, threads: int) -> dict[str, Any]:
    """A JSON document of a few kilobytes at most, read in one go on the loop.

    threads: of the worker, that all its versions run in.
    """
    signature, batcher = version.signature, version.batcher
    facts = batcher.facts()
    facts = replace(facts, instances=min(facts.instances, threads))
    open_inputs = [spec.name for spec in signature.inputs if min(spec.shape[1:], default=0) < 0]
    return {
        "facts": asdict(facts),
        "in_force": {
            **asdict(batcher.settings),
            "max_batch_size": signature.max_batch_size,
            "open_inputs": open_inputs[:OPEN_INPUTS_MAX],
            "padding": None if version.padder is None else asdict(version.padder.settings),
            "inline_ns_max": INLINE_NS_MAX,
            "slow_ns": SLOW_NS,
        },
        "admission": {
            "rows": admission.rows,
            "rows_max": admission.rows_max,
            "bytes": admission.bytes,
            "bytes_max": admission.bytes_max,
            "tenants": None if admission.tenants is None else len(admission.tenants),
        },
    }
