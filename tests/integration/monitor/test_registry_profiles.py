"""Reference profiles when the registry is away, comes back, or says that there is none."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from monitor.profiles import ASK_AGAIN_S, RegistryProfiles
from monitor.store import Store
from registry_client import EmbeddedRegistry, FileRole, Manifest, NotFound, RegistryError
from tests.monitor_world import MODEL, Version, profile_of
from tests.registry_models import plain_model

GOOD = Version("1")


class Away:
    """A registry that cannot be reached until `back` is set; counts who asks."""

    def __init__(self, registry: EmbeddedRegistry) -> None:
        self._registry, self.back, self.asked = registry, False, 0
        self.error: Exception = RegistryError("connection refused")

    def manifest(self, model: str, version: str) -> Manifest:
        self.asked += 1
        if not self.back:
            raise self.error
        return self._registry.manifest(model, version)

    def __getattr__(self, name: str) -> object:
        return getattr(self._registry, name)


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store(tmp_path / "monitor.db", "test")
    yield found
    found.close()


@pytest.fixture
def source(tmp_path: Path) -> Away:
    registry = EmbeddedRegistry(tmp_path / "registry")
    files = {
        "model.onnx": (FileRole.MODEL, plain_model()),
        "reference.json": (FileRole.REFERENCE, profile_of(GOOD).to_bytes()),
    }
    registry.push(MODEL, files, inputs=(), outputs=(), version=GOOD.name)
    return Away(registry)


def digest_of(source: Away) -> str:
    return source._registry.manifest(MODEL, GOOD.name).digest


def test_an_unreachable_registry_is_no_answer_and_is_asked_again(
    store: Store, source: Away
) -> None:
    clock, digest = Clock(), digest_of(source)
    profiles = RegistryProfiles(store, source, 0.0, clock)  # type: ignore[arg-type]
    assert profiles(MODEL, "1", digest) is None
    assert profiles.pending == {(MODEL, digest)}
    asked = source.asked
    source.back = True
    assert profiles(MODEL, "1", digest) is None
    assert source.asked == asked  # not with every block
    clock.now_s += ASK_AGAIN_S
    found = profiles(MODEL, "1", digest)
    assert found is not None
    assert found.rows == profile_of(GOOD).rows
    assert profiles.pending == frozenset()


def test_what_was_answered_outlives_the_registry(store: Store, source: Away) -> None:
    digest, source.back = digest_of(source), True
    assert RegistryProfiles(store, source, 0.0)(MODEL, "1", digest) is not None  # type: ignore[arg-type]
    source.back = False
    assert RegistryProfiles(store, source, 0.0)(MODEL, "1", digest) is not None  # type: ignore[arg-type]


def test_that_there_is_none_is_an_answer_for_ever(store: Store, source: Away) -> None:
    source.error = NotFound("no such version")
    profiles = RegistryProfiles(store, source, 0.0)  # type: ignore[arg-type]
    assert profiles(MODEL, "1", "d" * 64) is None
    assert profiles.pending == frozenset()
    source.back = True
    assert RegistryProfiles(store, source, 0.0)(MODEL, "1", "d" * 64) is None  # type: ignore[arg-type]
    assert source.asked == 1


def test_a_profile_in_use_stays_and_of_others_the_last_used_ones(
    store: Store, source: Away, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.store.PROFILES_KEPT", 4)
    digest, source.back = digest_of(source), True
    store.keep_profile("another", "d" * 64, b"other")
    profiles = RegistryProfiles(store, source, 0.0)  # type: ignore[arg-type]
    for number in range(20):  # candidates that nobody promotes
        assert profiles(MODEL, "1", digest) is not None
        assert profiles(MODEL, f"{number + 2}", f"{number:064}") is None
    source.back = False  # and a monitor that starts again meanwhile
    assert RegistryProfiles(store, source, 0.0)(MODEL, "1", digest) is not None  # type: ignore[arg-type]
    kept = [name for name in range(20) if store.profile(MODEL, f"{name:064}")[0]]
    assert kept == [17, 18, 19]
    assert store.profile("another", "d" * 64) == (True, b"other")


def test_reading_a_stored_profile_is_using_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.store.PROFILES_KEPT", 3)
    store.keep_profile(MODEL, "stable", b"stable")
    for number in range(10):
        assert store.profile(MODEL, "stable") == (True, b"stable")
        store.keep_profile(MODEL, f"{number}", None)
    assert store.profile(MODEL, "7") == (False, None)
    assert store.profile(MODEL, "8") == (True, None)
