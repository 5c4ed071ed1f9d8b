"""What a verdict gives along, as `monitor.documents.retrain_evidence` makes it."""

from typing import Any

EVIDENCE: dict[str, Any] = {
    "cause": "drift",
    "model": "fraud",
    "stable": "3",
    "candidate": "",
    "kind": "retrain",
    "reason": "the loss is up on every version, and inputs moved",
    "digest": "d" * 64,
    "features": ["amount", "country"],
    "loss": {"reference": 0.1, "stable": 0.4},
    "version": "3",
    "verdict": "fraud:retrain:d3:17",
    "evidence_s": 8.1e6,
    "changed_after_ns": 16,
    "window_start_ns": 10,
    "window_end_ns": 70,
    "shifts": [{"name": "amount", "tensor": "x", "index": 0, "ks": 0.4, "psi": 0.9, "js": 0.3}],
}
