"""The report as a page: it loads nothing, breaks on no data, reads well by eye and by ear."""

import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftgate.cli import main
from monitor.action_store import ActionRow, ActionStore
from monitor.core.block import CANDIDATE, STABLE, Arm, ModelBlock, Part, Sample
from monitor.core.effects import effects
from monitor.core.guards import Action
from monitor.core.model_state import ModelState
from monitor.documents import block_document, state_document, verdict_document
from monitor.profile import FeatureSpec, ReferenceProfile, build_profile
from monitor.published import Published, Snapshot
from monitor.report import Content, Timeline, render
from monitor.report.feature_sections import DETAILED, LISTED
from monitor.store import BlockRow, Store
from tests.conftest import ROOT
from tests.monitor_served import served
from tests.monitor_world import BLOCK_NS, SETTINGS, START_NS

SEED = 20261128
HOSTILE = "<script>alert(1)</script><img src=x onerror='y'>\"&"
VOID = {"meta", "rect", "line", "circle", "path", "polyline"}


class Reader(HTMLParser):
    """A page as elements; fails where one is closed that is not open."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in VOID
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def profile_of(features: int) -> ReferenceProfile:
    random = np.random.default_rng(SEED)
    rows = random.normal(size=(1000, features)).astype(object)
    rows[:, 0] = random.choice([HOSTILE, "b", "c"], 1000)
    specs = [FeatureSpec(f"{HOSTILE} {i}", f"t{i}", 0) for i in range(features)]
    said = np.array([f"{HOSTILE} class", "other"], dtype=object)[random.integers(0, 2, 1000)]
    return build_profile(rows, specs, said, random.integers(0, 2, 1000).astype(float))


def state_of(features: int, blocks: int) -> tuple[ModelState, Content]:
    """A model with a hostile name, moved inputs and, at the end, a candidate."""
    random, profile = np.random.default_rng(SEED), profile_of(features)
    state, timeline = ModelState(HOSTILE, SETTINGS), Timeline(BLOCK_NS)
    verdicts: list[dict[str, Any]] = []
    summary = None
    for k in range(blocks):
        block = ModelBlock(START_NS // BLOCK_NS + k, lost=1)
        for role in (STABLE, CANDIDATE)[: 1 + (k > blocks // 2)]:
            arm = block.arm(Arm(role, f"{HOSTILE} {role}", role, "r" if role == CANDIDATE else ""))
            arm.add(0, 0, 100, failed=0)
            inputs = {f"t{i}": random.normal(1.5, 1, (100, 1)) for i in range(1, features)}
            inputs["t0"] = np.full((100, 1), "new", dtype=object)
            arm.parts.append(Part(inputs, {}))
        block.losses.add_many(10, 5 * 2**30)
        summary = state.close(block, lambda *_: profile)
        timeline.add(block_document(summary))
        if summary.raised:
            verdicts.append(verdict_document(state, summary, 0))
    document = state_document(state, summary, {"joined": 9, "orphan": 2})
    actions = [{"at_ns": START_NS, "action": HOSTILE, "state": HOSTILE}]
    found = effects(state)
    return state, Content(document, found, timeline, verdicts, actions, 3600.0, source=HOSTILE)


@pytest.fixture(scope="module")
def content() -> Content:
    return state_of(3, 30)[1]


@pytest.fixture(scope="module")
def page(content: Content) -> str:
    return render(content)


def test_nothing_in_the_data_becomes_markup(page: str) -> None:
    reader = Reader(page)
    tags = {tag for tag, _ in reader.elements}
    assert not tags & {"script", "img", "link", "iframe", "object", "base", "form", "use", "a href"}
    for _, attributes in reader.elements:
        assert not any(name.startswith("on") or name in ("src", "style") for name in attributes)
    shown = "".join(text for _, text in reader.texts)
    assert shown.count("<script>alert(1)</script>") > 10


def test_the_page_loads_nothing_and_its_policy_lets_it_load_nothing(page: str) -> None:
    reader = Reader(page)
    assert "http://" not in page
    assert "https://" not in page
    ids = [attributes["id"] for _, attributes in reader.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {link["href"] for link in reader.all("a")} <= {f"#{id_}" for id_ in ids}
    policy = next(m["content"] for m in reader.all("meta") if "http-equiv" in m) or ""
    (style,) = [text for tag, text in reader.texts if tag == "style"]
    digest = b64encode(sha256(style.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"style-src 'sha256-{digest}';" in policy
    assert "url(" not in style
    assert "@import" not in style


def test_a_screen_reader_finds_its_way(page: str) -> None:
    reader = Reader(page)
    assert reader.all("html")[0]["lang"] == "en"
    levels = [int(tag[1]) for tag, _ in reader.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert len(reader.all("caption")) == len(reader.all("table")) > 5
    assert all(cell.get("scope") in ("col", "row") for cell in reader.all("th"))
    assert all(svg.get("role") == "img" for svg in reader.all("svg"))
    titled = re.findall(r"<svg[^>]*><title>([^<]+)</title>", page)
    assert len(titled) == len(reader.all("svg")) > 8
    regions = [d for d in reader.all("div") if d.get("role") == "region"]
    assert all(d["tabindex"] == "0" and d["aria-label"] for d in regions)


def test_a_model_without_anything_has_a_page(content: Content) -> None:
    state = ModelState("m", SETTINGS)
    empty = Content(state_document(state, None, {}), [], Timeline(BLOCK_NS))
    reader = Reader(render(empty))
    shown = "".join(text for _, text in reader.texts)
    assert "Nothing to do." in shown
    assert "No verdict was raised" in shown
    assert "has no reference" in shown


def test_a_thousand_features_and_more_give_a_page_of_bounded_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("monitor.report.feature_sections.DETAILED", 1)  # each takes its while
    content = state_of(2, 3)[1]
    (first, *_), count = content.effects, LISTED + 100
    many = [
        replace(first, feature=replace(first.feature, name=f"feature number {i}"))
        for i in range(count)
    ]
    page = render(replace(content, effects=many))
    assert len(page) < 1_000_000
    assert "100 features with less evidence are left out." in page
    assert DETAILED <= 20  # of which each adds some 20 kB


def contrast(one: str, other: str) -> float:
    """By WCAG 2.2, of two colours written #rrggbb."""

    def luminance(colour: str) -> float:
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def test_letters_can_be_told_from_their_ground_in_every_scheme() -> None:
    style = (ROOT / "monitor" / "report" / "style.css").read_text()
    schemes = [dict(re.findall(r"--([\w-]+): (#\w{6})", s)) for s in style.split(":root")[1:]]
    assert len(schemes) == 3  # light, dark, printed
    for scheme in (schemes[0], schemes[1], {**schemes[0], **schemes[2]}):
        pairs = [(ink, "paper") for ink in ("ink", "soft", "live", "act", "watch", "candidate")]
        pairs += [(tone, f"{tone}-bg") for tone in ("ok", "watch", "act")]
        pairs += [("ink", "v0"), ("ink", "v1"), ("ink", "flag")]
        for one, other in pairs:
            assert contrast(scheme[one], scheme[other]) >= 4.5, (one, other)
        assert contrast(scheme["reference"], scheme["live"]) >= 2.5


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home: Path = tmp_path_factory.mktemp("monitor")
    state, content = state_of(1, 1)
    document = {**content.state, "model": "m", "end_ns": START_NS + 100 * BLOCK_NS}
    one = block_document(state.close(ModelBlock(START_NS // BLOCK_NS + 50), lambda *_: None))
    store, actions = Store(home / "monitor.db", "test"), ActionStore(home / "actions.db")
    rows = []
    for k in range(100):
        start_ns = START_NS + k * BLOCK_NS
        data = {**one, "start_ns": start_ns, "rows": {"stable": 7, "candidate": 0}, "stable": "v"}
        rows.append(BlockRow("m", start_ns, Sample(7, 7), Sample(), data))
    store.commit(b"", rows, [], {})
    actions.begin(ActionRow("a", "m", Action.RETRAIN, START_NS + 5, "done", "v", {}))
    store.close()
    actions.close()
    snapshot = Snapshot(True, {"at_ns": START_NS}, {"m": document}, {"m": content.effects})
    with served(Published(snapshot), home / "monitor.db") as url:
        yield url


def test_the_command_writes_the_page_of_a_running_monitor(
    url: str, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["report", "m", "--url", url]) == 0
    assert capsys.readouterr().out == "report-m.html\n"
    whole = Path("report-m.html").read_text()
    assert "<dt>Rows</dt><dd>700</dd>" in whole
    assert "action retrain" in whole
    assert main(["report", "m", "--url", url, "--window", "30s", "-o", "short.html"]) == 0
    short = Path("short.html").read_text()
    assert "<dt>Rows</dt><dd>210</dd>" in short
    assert "action retrain" not in short


def test_what_cannot_be_had_is_said(url: str, tmp_path: Path, capsys: Any) -> None:
    assert main(["report", "none", "--url", url]) == 1
    assert "the monitor has seen no prediction of a model 'none' yet" in capsys.readouterr().err
    assert main(["report", "m", "--url", url, "--window", "0s"]) == 2
    assert main(["report", "m", "--url", url, "-o", str(tmp_path / "no" / "x.html")]) == 1
    assert "cannot be written" in capsys.readouterr().err
    assert main(["report", "m", "--url", "http://127.0.0.1:1"]) == 4
    assert "no monitor answers" in capsys.readouterr().err
