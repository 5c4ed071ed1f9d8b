"""The story `driftgate demo` tells: ten steps, each checked, none taken on trust."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from driftgate.story.journal import mismatches, percentile_ms, predicted_rows, share_wrong
from driftgate.story.models import SEED, first_version, push
from driftgate.story.scans import Scans, load_scans, read_by_columns
from driftgate.story.system import LABEL_DELAY_S, StepFailed, System, wait_for
from driftgate.story.training import MODEL, Trained, neural_network, train

STATIONARY_ROWS = 10_000
BAD_MODEL_COST_MIN = 0.3  # of accuracy, or version 3 would prove nothing
RECOVERED_WITHIN = 0.10  # of the loss before the scanner got dirty
STEP_TIMEOUT_S = 90.0


@dataclass
class Story:
    """Plays the steps on a System and keeps what it measured in `summary`."""

    system: System
    say: Callable[[str], None]
    scans: Scans = field(default_factory=lambda: load_scans(SEED))
    models: dict[str, bytes] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    events: list[tuple[int, str]] = field(default_factory=list)  # (Unix ns, what)
    killed_ns: int = 0
    back_ns: int = 0

    def play(self) -> None:
        """Every step in order.

        Raises: StepFailed at the first that does not happen.
        """
        for step in (
            self.train_and_push,
            self.serve_stationary_traffic,
            self.roll_out_a_good_version,
            self.write_with_a_paler_pen,
            self.change_the_unit,
            self.roll_out_a_bad_version,
            self.get_the_scanner_dirty,
            self.roll_back_by_hand,
            self.kill_a_worker,
            self.close_the_books,
        ):
            step()

    def note(self, text: str) -> None:
        self.events.append((time.time_ns(), text))
        self.say(text)

    # -- 1 -------------------------------------------------------------------------

    def train_and_push(self) -> None:
        trained = first_version(self.scans)
        version = self._push(trained)
        self.system.command("model", "alias", MODEL, "champion", version)
        self.note(
            f"version {version} trained on {len(trained.reference)} scans and pushed "
            f"(accuracy {trained.accuracy:.3f}); alias champion"
        )

    def _push(self, trained: Trained) -> str:
        version = push(self.system.registry_dir, trained)
        self.models[version] = trained.onnx
        return version

    # -- 2 -------------------------------------------------------------------------

    def serve_stationary_traffic(self) -> None:
        seconds = self.system.start()
        self.note(f"gateway and monitor ready after {seconds:.1f} s")
        self.system.send_traffic()
        wait_for("10,000 rows predicted", self._stationary, STEP_TIMEOUT_S)
        self._nothing_raised("the stationary stretch")
        self.note(f"{self._rows():,} rows over HTTP and gRPC: no warning, no page, no action")

    def _stationary(self) -> bool:
        return self._rows() >= STATIONARY_ROWS

    def _rows(self) -> int:
        self.system.refresh()
        return predicted_rows(self.system.journals)

    def _nothing_raised(self, when: str) -> None:
        raised = self.verdicts()
        self.summary["false_verdicts"] = self.summary.get("false_verdicts", 0) + len(raised)
        if raised:
            raise StepFailed(f"{when} raised {raised}")

    def verdicts(self) -> list[dict[str, Any]]:
        """Everything the monitor has raised so far: warnings, pages, actions."""
        raised: list[dict[str, Any]] = self.system.monitor(f"models/{MODEL}/history")["verdicts"]
        return raised

    # -- 3 -------------------------------------------------------------------------

    def roll_out_a_good_version(self) -> None:
        trained = self._train_neural_network()
        version = self._push(trained)
        self.system.command("rollout", "start", MODEL, version, "--steps", "5,25,100")
        self.note(f"version {version} (accuracy {trained.accuracy:.3f}) rolls out: 5, 25, 100 %")
        wait_for("the good version serves alone", lambda: self._stable(version), STEP_TIMEOUT_S)
        self._nothing_raised("the good rollout")
        self.note(f"version {version} serves everything")

    def _train_neural_network(self) -> Trained:
        scans = self.scans
        return train(neural_network(), scans.training, scans.training_labels, scans.digest)

    def _stable(self, version: str) -> bool:
        deployment = self.system.deployment()
        alone = "candidate" not in deployment or not deployment["candidate"].get("version")
        return alone and bool(deployment["stable"]["version"] == version)

    # -- 4 -------------------------------------------------------------------------

    def write_with_a_paler_pen(self) -> None:
        """Inputs that move and cost nothing: a note, and nothing is done."""
        verdict = self._see("pale", "annotate")
        self.note(
            f"a paler pen: the monitor notes {len(verdict['features'])} features that moved, "
            "the loss did not; nothing is done"
        )
        self._recover()

    # -- 5 -------------------------------------------------------------------------

    def change_the_unit(self) -> None:
        """A break upstream costs accuracy as well, and is no reason to train on it."""
        self.note("somebody upstream scales the pixels to 0..1")
        verdict = self._see("rescaled", "upstream")
        if not any("multiplied" in words for words in verdict["broken"]):
            raise StepFailed(f"the change of unit is not named: {verdict['broken']}")
        broken = len(verdict["broken"])
        self.note(f"the monitor pages: {verdict['broken'][0]}, and {broken - 1} more features")
        time.sleep(2.0)  # long enough for a retraining, if there were to be one
        self._recover()
        self.note("mended upstream: evidence begins anew; nothing was retrained on broken data")

    def _see(self, condition: str, kind: str) -> dict[str, Any]:
        """The monitor's verdict of the scans' condition, the only page that there is."""
        before = len(self.verdicts())
        self.system.tell_traffic(condition)
        verdict = wait_for(
            f"the monitor says {kind}",
            lambda: next((v for v in self.verdicts() if v["kind"] == kind), None),
            STEP_TIMEOUT_S,
        )
        kinds = {v["kind"] for v in self.verdicts()[before:]} - {"warn"}
        if kinds != {kind}:
            raise StepFailed(f"{condition} scans raised {sorted(kinds)}, and only {kind} is right")
        self.summary[f"{kind}_s"] = round(
            (verdict["block_end_ns"] - verdict["changed_after_ns"]) / 1e9, 3
        )
        found: dict[str, Any] = verdict
        return found

    def _recover(self) -> None:
        """Clean scans again, until the monitor is content; nothing was done meanwhile."""
        self.system.tell_traffic("clean")
        wait_for("the monitor is content again", self._healthy, STEP_TIMEOUT_S)
        history = self.system.monitor(f"models/{MODEL}/history")
        done = [a["action"] for a in history["actions"] if a["action"] != "advance"]
        kinds = {verdict["kind"] for verdict in history["verdicts"]}
        if done or "retrain" in kinds:
            raise StepFailed(f"nothing was to be done, and {done or sorted(kinds)} was")

    def _healthy(self) -> bool:
        return bool(self.system.monitor()["models"][MODEL]["verdict"] == "healthy")

    # -- 6 -------------------------------------------------------------------------

    def roll_out_a_bad_version(self) -> None:
        scans = self.scans
        misread = read_by_columns(scans.training)
        trained = train(neural_network(), misread, scans.training_labels, scans.digest)
        self._check_that_it_is_bad(trained)
        stable = self.system.deployment()["stable"]["version"]
        version = self._push(trained)
        self.system.command("rollout", "start", MODEL, version)
        self.note(f"version {version}, trained on scans read column by column, rolls out")
        verdict = wait_for(
            "the monitor rolls the bad version back",
            lambda: self._verdict("rollback", version),
            STEP_TIMEOUT_S,
        )
        wait_for("the stable version serves alone", lambda: self._stable(stable), 10.0)
        self._measure_detection(verdict)
        self.note(
            f"the monitor rolled version {version} back after {verdict['candidate_rows']} of its "
            f"rows, {self.summary['detection_s']:.1f} s; on every worker "
            f"{self.summary['rollback_s'] * 1000:.0f} ms after the verdict"
        )

    def _check_that_it_is_bad(self, trained: Trained) -> None:
        import onnxruntime

        session = onnxruntime.InferenceSession(trained.onnx, providers=["CPUExecutionProvider"])
        labels = session.run(["label"], {"pixels": self.scans.replay})[0]
        cost = trained.accuracy - float(np.mean(labels == self.scans.replay_labels))
        if cost < BAD_MODEL_COST_MIN:
            raise StepFailed(f"version 3 costs only {cost:.2f} of accuracy")

    def _verdict(self, kind: str, version: str = "") -> dict[str, Any] | None:
        """The monitor's first verdict of a kind whose action went through."""
        for verdict in self.verdicts():
            if verdict["kind"] == kind and version in ("", verdict["version"]):
                return verdict if verdict.get("applied_ns") else None
        return None

    def _measure_detection(self, verdict: dict[str, Any]) -> None:
        self.summary["detection_rows"] = verdict["candidate_rows"]
        first_ns, decided_ns = verdict["candidate_first_ns"], verdict["decided_ns"]
        self.summary["detection_s"] = round((decided_ns - first_ns) / 1e9, 3)
        self.summary["rollback_s"] = round((verdict["applied_ns"] - decided_ns) / 1e9, 3)

    # -- 7 -------------------------------------------------------------------------

    def get_the_scanner_dirty(self) -> None:
        stable = self.system.deployment()["stable"]["version"]
        before = self._loss_since(time.time_ns() - int(10e9), stable)
        self.system.tell_traffic("dirty")
        dirty_ns = time.time_ns()
        self.note("the scanner gets dirty: blur and noise on the same scans")
        verdict = wait_for(
            "the monitor asks for a retraining",
            lambda: self._verdict("retrain"),
            STEP_TIMEOUT_S,
        )
        during = self._loss_since(dirty_ns)
        names = ", ".join(verdict["features"][:3])
        self.note(
            f"the monitor says retrain: loss {before:.2f} -> {during:.2f} on every version, "
            f"{len(verdict['features'])} features moved, most of all {names}"
        )
        version = wait_for("version 4 is pushed", self._newest_version, STEP_TIMEOUT_S)
        wait_for(f"version {version} serves alone", lambda: self._stable(version), STEP_TIMEOUT_S)
        after = self._recovered(before, version)
        self.note(f"version {version}, trained on the log, serves everything: loss {after:.2f}")

    def _newest_version(self) -> str | None:
        """The version that the retrain hook pushed, once it stands in the registry."""
        from registry_client import EmbeddedRegistry, fetch

        registry = EmbeddedRegistry(self.system.registry_dir)
        newest = max(registry.versions(MODEL), key=int)
        if newest in self.models:
            return None
        with fetch(registry, MODEL, newest) as fetched:
            self.models[newest] = fetched.read("model.onnx")
        return newest

    def _loss_since(self, since_ns: int, version: str = "") -> float:
        """The share of wrong answers since then, of `version` or of all."""
        self.system.refresh()
        sent = [s for j in self.system.journals for s in j.requests if s.sent_ns >= since_ns]
        return share_wrong([s for s in sent if not s.failed and version in ("", s.version)])

    def _recovered(self, before: float, version: str) -> float:
        """Let the new version answer for 3 s; its loss must be near what it was."""
        since_ns = time.time_ns()
        time.sleep(3.0)
        after = self._loss_since(since_ns, version)
        if not after < before + RECOVERED_WITHIN:
            raise StepFailed(f"loss {after:.2f} with version {version}, {before:.2f} before")
        return after

    # -- 8 -------------------------------------------------------------------------

    def roll_back_by_hand(self) -> None:
        result = self.system.command("rollback", MODEL, "--reason", "the demo's operator says so")
        seconds = (int(result["applied_ns"]) - int(result["accepted_ns"])) / 1e9
        self.summary["operator_rollback_s"] = round(seconds, 3)
        self.note(
            f"an operator typed `driftgate rollback {MODEL}`: version "
            f"{result['after']['stable']['version']} on {result['workers']} workers after "
            f"{seconds * 1000:.0f} ms; undo with `{result['undo']}`"
        )

    # -- 9 -------------------------------------------------------------------------

    def kill_a_worker(self) -> None:
        count = len(self.system.workers())
        before = {worker["incarnation"] for worker in self.system.workers()}
        self.killed_ns = self.system.kill_worker()
        wait_for(
            "the killed worker is back",
            lambda: self._replaced(before, count),
            30.0,
        )
        self.back_ns = time.time_ns()
        self.summary["worker_restart_s"] = round((self.back_ns - self.killed_ns) / 1e9, 3)
        self.note(f"a worker was killed -9; back after {self.summary['worker_restart_s']:.1f} s")
        time.sleep(2.0)  # traffic on the new worker, too

    def _replaced(self, before: set[str], count: int) -> bool:
        now = {worker["incarnation"] for worker in self.system.workers()}
        return len(now) == count and len(now & before) < len(before)

    # -- 10 ------------------------------------------------------------------------

    def close_the_books(self) -> None:
        self.system.end_traffic()
        lines = wait_for("the monitor has read the whole log", self._drained, STEP_TIMEOUT_S)
        acknowledged = sum(line["acknowledged"] for line in lines)
        delivered = sum(line["delivered"] for line in lines)
        gaps = sum(sum(line["gaps"].values()) for line in lines)
        if acknowledged != delivered + gaps:
            raise StepFailed(f"ledger: {acknowledged} acknowledged, {delivered} + {gaps} explained")
        self._judge_the_replies()
        self.summary |= {"acknowledged": acknowledged, "delivered": delivered, "gaps": gaps}
        self.note(f"the ledger balances: {acknowledged:,} = {delivered:,} delivered + {gaps} gaps")

    def _drained(self) -> list[dict[str, Any]] | None:
        time.sleep(LABEL_DELAY_S)
        lines = self.system.ledger()
        return None if any(line["spooled"] for line in lines) else lines

    def _judge_the_replies(self) -> None:
        journals = self.system.journals
        wrong = sum(mismatches(journal, self.models) for journal in journals)
        if wrong:
            raise StepFailed(f"{wrong} replies differ from what their version says of the rows")
        failed = [s for journal in journals for s in journal.requests if s.failed]
        killed = [s for s in failed if s.ended_ns >= self.killed_ns and s.sent_ns <= self.back_ns]
        self.summary |= {
            "predictions": predicted_rows(journals),
            "failed": len(failed) - len(killed),
            "killed_in_flight": len(killed),
            "p50_ms": round(percentile_ms(journals, 50), 3),
            "p99_ms": round(percentile_ms(journals, 99), 3),
        }
        if self.summary["failed"]:
            raise StepFailed(f"{self.summary['failed']} requests failed: {failed[0].error}")
