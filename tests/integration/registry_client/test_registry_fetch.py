import dataclasses
import errno
import fcntl
import mmap
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from registry_client import (
    Corrupt,
    EmbeddedRegistry,
    FileRole,
    NotFound,
    RegistryError,
    TritonRepository,
    Unsafe,
    fetch,
    read_file,
)
from registry_client.fetch import SEALS
from tests.registry_models import external_model, plain_model

WEIGHTS = np.eye(4, dtype=np.float32).tobytes()


@pytest.fixture
def registry(tmp_path: Path) -> EmbeddedRegistry:
    registry = EmbeddedRegistry(tmp_path / "registry")
    registry.push(
        "m",
        {
            "w.bin": (FileRole.EXTERNAL, WEIGHTS),
            "golden.npz": (FileRole.GOLDEN, b"golden"),
            "model.onnx": (FileRole.MODEL, external_model("w.bin")),
        },
    )
    return registry


def blob_path(registry: EmbeddedRegistry, role: FileRole) -> Path:
    file = registry.manifest("m", "1").file(role)
    assert file is not None
    return registry.directory / "blobs" / "sha256" / file.sha256


def open_descriptors() -> set[str]:
    return {name for name in os.listdir("/proc/self/fd") if _is_memory(name)}


def _is_memory(name: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{name}").startswith("/memfd:m-")
    except OSError:
        return False


def test_the_model_comes_first_and_every_file_as_it_was_pushed(registry: EmbeddedRegistry) -> None:
    with fetch(registry, "m", "1") as fetched:
        assert [file.name for file, _ in fetched.files] == ["model.onnx", "w.bin", "golden.npz"]
        assert fetched.read("w.bin") == WEIGHTS
        assert fetched.read("golden.npz") == b"golden"
        with pytest.raises(NotFound):
            fetched.read("other")
        for file, descriptor in fetched.files:
            assert os.fstat(descriptor).st_size == file.bytes
            assert os.lseek(descriptor, 0, os.SEEK_CUR) == 0
    assert open_descriptors() == set()


def test_roles_choose_what_is_fetched_beside_the_model(registry: EmbeddedRegistry) -> None:
    with fetch(registry, "m", "1", roles=[FileRole.EXTERNAL]) as fetched:
        assert [file.name for file, _ in fetched.files] == ["model.onnx", "w.bin"]


def refused(attempt: Callable[[], object], number: int) -> bool:
    try:
        attempt()
    except OSError as error:
        return error.errno == number
    return False


def test_nobody_can_change_what_was_fetched(registry: EmbeddedRegistry) -> None:
    with fetch(registry, "m", "1") as fetched:
        for _, fd in fetched.files:
            assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) == SEALS
            assert refused(lambda fd=fd: os.write(fd, b"x"), errno.EPERM)
            assert refused(lambda fd=fd: os.pwrite(fd, b"x", 0), errno.EPERM)
            assert refused(lambda fd=fd: os.ftruncate(fd, 0), errno.EPERM)
            assert refused(lambda fd=fd: os.ftruncate(fd, 1 << 20), errno.EPERM)
            assert refused(lambda fd=fd: fcntl.fcntl(fd, fcntl.F_ADD_SEALS, 0), errno.EPERM)
            with pytest.raises(PermissionError):
                mmap.mmap(fd, 0, flags=mmap.MAP_SHARED, prot=mmap.PROT_WRITE)
            reopened = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
            assert refused(lambda fd=reopened: os.write(fd, b"x"), errno.EPERM)
            os.close(reopened)


def test_onnx_runtime_runs_what_was_fetched(registry: EmbeddedRegistry) -> None:
    with fetch(registry, "m", "1", roles=[FileRole.EXTERNAL]) as fetched:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.add_external_initializers_from_files_in_memory(
            ["w.bin"], [fetched.read("w.bin")], [len(WEIGHTS)]
        )
        session = onnxruntime.InferenceSession(
            f"/proc/self/fd/{fetched.files[0][1]}", options, providers=["CPUExecutionProvider"]
        )
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    assert np.array_equal(session.run(None, {"x": x})[0], x)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    rewrite(path, bytes(data))


def rewrite(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)


def link(path: Path, make: Callable[[Path, Path], None]) -> None:
    """Put a link to an equal file elsewhere in its place."""
    elsewhere = path.parent.parent / "elsewhere"
    path.rename(elsewhere)
    make(elsewhere, path)


DAMAGES: dict[str, tuple[Callable[[Path], None], type[RegistryError], str]] = {
    "a flipped bit": (flip, Corrupt, "is damaged"),
    "a missing file": (lambda path: path.unlink(), NotFound, "is missing"),
    "an empty file": (lambda path: rewrite(path, b""), Corrupt, "truncated: 0 of"),
    "a truncated file": (lambda path: rewrite(path, path.read_bytes()[:-1]), Corrupt, "truncated"),
    "a longer file": (lambda path: rewrite(path, path.read_bytes() + b"x"), Corrupt, "longer"),
    "a symbolic link": (
        lambda path: link(path, lambda old, new: new.symlink_to(old)),
        Unsafe,
        "symbolic link",
    ),
    "a hard link": (
        lambda path: link(path, os.link),
        Unsafe,
        "hard link",
    ),
    "a pipe": (lambda path: (path.unlink(), os.mkfifo(path)), Unsafe, "not a regular file"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), Unsafe, "not a regular file"),
}


@pytest.mark.parametrize("role", [FileRole.MODEL, FileRole.EXTERNAL])
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_refused_in_one_line_and_leaves_nothing_open(
    registry: EmbeddedRegistry, damage: str, role: FileRole
) -> None:
    break_it, error, text = DAMAGES[damage]
    break_it(blob_path(registry, role))
    with pytest.raises(error) as refusal:
        fetch(registry, "m", "1")
    message = str(refusal.value)
    assert text in message
    assert message.startswith("model m version 1: file ")
    assert "\n" not in message
    assert open_descriptors() == set()


def test_a_read_of_one_role_is_verified_too(registry: EmbeddedRegistry) -> None:
    manifest = registry.manifest("m", "1")
    assert read_file(registry, manifest, FileRole.GOLDEN) == b"golden"
    assert read_file(registry, manifest, FileRole.REFERENCE) is None
    flip(blob_path(registry, FileRole.GOLDEN))
    with pytest.raises(Corrupt):
        read_file(registry, manifest, FileRole.GOLDEN)


def test_a_source_whose_manifest_leaves_out_external_data_is_refused(
    registry: EmbeddedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = registry.manifest("m", "1")
    partial = dataclasses.replace(
        whole, files=tuple(file for file in whole.files if file.role is not FileRole.EXTERNAL)
    )
    monkeypatch.setattr(registry, "manifest", lambda *_: partial)
    with pytest.raises(Unsafe, match="which the manifest does not list"):
        fetch(registry, "m", "1")
    assert open_descriptors() == set()


def triton(folder: Path, model: bytes, **others: bytes) -> TritonRepository:
    version = folder / "repo" / "m" / "1"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(model)
    for name, data in others.items():
        (version / f"{name}.bin").write_bytes(data)
    return TritonRepository(folder / "repo")


def test_external_data_beside_a_triton_model_is_fetched(tmp_path: Path) -> None:
    source = triton(tmp_path, external_model("w.bin"), w=WEIGHTS, other=b"not ours")
    with fetch(source, "m", "1") as fetched:
        assert [file.name for file, _ in fetched.files] == ["model.onnx", "w.bin"]
        assert fetched.read("w.bin") == WEIGHTS


@pytest.mark.parametrize(
    "location", ["../secret.bin", "/etc/passwd", "x/../../../secret.bin", "*/_ORT_MEM_ADDR_/*"]
)
def test_external_data_that_leaves_a_triton_folder_is_refused(
    tmp_path: Path, location: str
) -> None:
    source = triton(tmp_path, external_model(location))
    (tmp_path / "repo" / "m" / "secret.bin").write_bytes(WEIGHTS)
    with pytest.raises(RegistryError, match=r"file name .* is not allowed"):
        fetch(source, "m", "1")


def test_links_in_a_triton_folder_are_refused(tmp_path: Path) -> None:
    source = triton(tmp_path, external_model("w.bin"))
    secret = tmp_path / "secret.bin"
    secret.write_bytes(WEIGHTS)
    version = tmp_path / "repo" / "m" / "1"
    (version / "w.bin").symlink_to(secret)
    with pytest.raises(Unsafe, match="symbolic link"):
        fetch(source, "m", "1")
    (version / "w.bin").unlink()
    os.link(secret, version / "w.bin")
    with pytest.raises(Unsafe, match="hard link"):
        fetch(source, "m", "1")


def test_a_linked_sub_folder_is_refused(tmp_path: Path) -> None:
    source = triton(tmp_path, external_model("sub/w.bin"))
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "w.bin").write_bytes(WEIGHTS)
    (tmp_path / "repo" / "m" / "1" / "sub").symlink_to(outside)
    with pytest.raises(Unsafe, match="passes through a symbolic link"):
        fetch(source, "m", "1")


def test_a_file_swapped_between_listing_and_copying_is_refused(tmp_path: Path) -> None:
    class Swapping(TritonRepository):
        """The folder's owner writes a new model right after it was listed."""

        def manifest(self, model, version):  # type: ignore[no-untyped-def]
            found = super().manifest(model, version)
            path = tmp_path / "repo" / "m" / "1" / "model.onnx"
            path.write_bytes(plain_model(2.0))
            return found

    triton(tmp_path, plain_model(1.0))
    with pytest.raises(Corrupt, match="is damaged"):
        fetch(Swapping(tmp_path / "repo"), "m", "1")
