"""Tensors in shared memory, through tritonclient, on a gateway with two workers."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException
from tritonclient.utils import shared_memory as shm

from serving.settings import CompatSettings

from .conftest import FakeGateway, eventually

ROWS = 4
BYTES = ROWS * 2 * 4
LIBRARIES = {"http": tritonclient.http, "grpc": tritonclient.grpc}
SENT = np.arange(ROWS * 2, dtype=np.float32).reshape(ROWS, 2)


def make(folder: Path, *, enabled: bool) -> FakeGateway:
    gateway = FakeGateway(folder, compat=CompatSettings(shared_memory=enabled))
    gateway.argv = ("-m", "serving")
    gateway.push()
    return gateway.start()


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGateway]:
    gateway = make(tmp_path_factory.mktemp("on"), enabled=True)
    yield gateway
    gateway.clean_up()


@contextmanager
def memory(name: str, size: int = 2 * BYTES) -> Iterator[tuple[Any, str]]:
    """A memory object of this test, and its key."""
    key = f"/driftgate-test-{os.getpid()}-{name}"
    handle = shm.create_shared_memory_region(name, key, size)
    try:
        yield handle, key
    finally:
        shm.destroy_shared_memory_region(handle)


@contextmanager
def client(gateway: FakeGateway, protocol: str) -> Iterator[Any]:
    address = f"127.0.0.1:{gateway.ports[protocol]}"
    with closing(LIBRARIES[protocol].InferenceServerClient(address)) as made:
        yield made
        made.unregister_system_shared_memory()


def tensors(protocol: str, region: str, *, out_size: int = BYTES) -> tuple[Any, Any]:
    """An input in the region's first half and an output in its second."""
    library = LIBRARIES[protocol]
    given = library.InferInput("x", [ROWS, 2], "FP32")
    given.set_shared_memory(region, BYTES)
    wanted = library.InferRequestedOutput("y")
    wanted.set_shared_memory(region, out_size, offset=BYTES)
    return given, wanted


@pytest.mark.parametrize("protocol", LIBRARIES)
def test_inputs_are_read_from_it_and_outputs_written_to_it_by_every_worker(
    gateway: FakeGateway, protocol: str
) -> None:
    with memory(protocol) as (handle, key), client(gateway, protocol) as asker:
        asker.register_system_shared_memory("r", key, 2 * BYTES)
        for turn in range(6):  # connections of their own, so of both workers
            shm.set_shared_memory_region(handle, [SENT + turn])
            with client_of_its_own(gateway, protocol) as other:
                given, wanted = tensors(protocol, "r")
                reply = other.infer("digits", [given], outputs=[wanted])
            got = shm.get_contents_as_numpy(handle, np.float32, [2 * ROWS, 2])[ROWS:]
            assert (got == SENT + turn).all()
            check_output(reply, protocol)


@contextmanager
def client_of_its_own(gateway: FakeGateway, protocol: str) -> Iterator[Any]:
    address = f"127.0.0.1:{gateway.ports[protocol]}"
    options = {}
    if protocol == "grpc":
        options["channel_args"] = [("grpc.use_local_subchannel_pool", 1)]
    with closing(LIBRARIES[protocol].InferenceServerClient(address, **options)) as made:
        yield made


def check_output(reply: Any, protocol: str) -> None:
    """It holds no tensor; over HTTP no parameters either, as Triton's C++ client demands."""
    output = reply.get_output("y")
    if protocol == "http":
        assert set(output) == {"name", "datatype", "shape"}
        return
    assert reply.get_response().raw_output_contents[0] == b""
    assert {
        name: getattr(value, value.WhichOneof("parameter_choice"))
        for name, value in output.parameters.items()
    } == {
        "shared_memory_region": "r",
        "shared_memory_byte_size": BYTES,
        "shared_memory_offset": BYTES,
    }


@pytest.mark.parametrize("protocol", LIBRARIES)
def test_a_tensor_in_the_message_stands_beside_one_in_memory(
    gateway: FakeGateway, protocol: str
) -> None:
    with memory(protocol) as (handle, key), client(gateway, protocol) as asker:
        asker.register_system_shared_memory("r", key, 2 * BYTES)
        library = LIBRARIES[protocol]
        given = library.InferInput("x", [ROWS, 2], "FP32")
        given.set_data_from_numpy(SENT)
        _, wanted = tensors(protocol, "r")
        asker.infer("digits", [given], outputs=[wanted])
        got = shm.get_contents_as_numpy(handle, np.float32, [2 * ROWS, 2])[ROWS:]
        assert (got == SENT).all()
        shm.set_shared_memory_region(handle, [SENT * 2])
        given, _ = tensors(protocol, "r")
        assert (asker.infer("digits", [given]).as_numpy("y") == SENT * 2).all()


@pytest.mark.parametrize("protocol", LIBRARIES)
def test_regions_are_listed_and_gone_when_unregistered(gateway: FakeGateway, protocol: str) -> None:
    with memory(protocol) as (_, key), client(gateway, protocol) as asker:
        asker.register_system_shared_memory("r", key, BYTES, offset=8)
        with pytest.raises(InferenceServerException, match="already in manager"):
            asker.register_system_shared_memory("r", key, BYTES)
        (found,) = regions(asker.get_system_shared_memory_status("r"), protocol)
        assert found == {"name": "r", "key": key, "offset": 8, "byte_size": BYTES}
        asker.unregister_system_shared_memory("r")
        assert regions(asker.get_system_shared_memory_status(), protocol) == []
        with pytest.raises(InferenceServerException, match="Unable to find system shared memory"):
            asker.get_system_shared_memory_status("r")
        with pytest.raises(InferenceServerException, match="Unable to find shared memory region"):
            asker.infer("digits", [tensors(protocol, "r")[0]])


def regions(status: Any, protocol: str) -> list[dict[str, Any]]:
    if protocol == "http":
        return list(status)
    return [
        {"name": r.name, "key": r.key, "offset": r.offset, "byte_size": r.byte_size}
        for r in status.regions.values()
    ]


@pytest.mark.parametrize("protocol", LIBRARIES)
def test_nothing_outside_of_a_region_is_read_or_written(
    gateway: FakeGateway, protocol: str
) -> None:
    with memory(protocol, 4 * BYTES) as (handle, key), client(gateway, protocol) as asker:
        shm.set_shared_memory_region(handle, [np.full((4 * ROWS, 2), 7, np.float32)])
        asker.register_system_shared_memory("r", key, 2 * BYTES, offset=BYTES)
        library = LIBRARIES[protocol]
        for size, offset in ((2 * BYTES + 1, 0), (BYTES, BYTES + 1), (1, 2**40)):
            given = library.InferInput("x", [ROWS, 2], "FP32")
            given.set_shared_memory("r", size, offset=offset)
            with pytest.raises(InferenceServerException, match="Invalid offset"):
                asker.infer("digits", [given])
        given, wanted = tensors(protocol, "r", out_size=BYTES - 1)
        with pytest.raises(InferenceServerException, match=f"at least {BYTES} bytes"):
            asker.infer("digits", [given], outputs=[wanted])
        whole = shm.get_contents_as_numpy(handle, np.float32, [4 * ROWS, 2])
        assert (whole == 7).all()


@pytest.mark.parametrize("protocol", LIBRARIES)
def test_memory_that_was_cut_short_fails_the_request_and_not_the_worker(
    gateway: FakeGateway, protocol: str
) -> None:
    with memory(protocol) as (_, key), client(gateway, protocol) as asker:
        asker.register_system_shared_memory("r", key, 2 * BYTES)
        pids = gateway.pids()
        os.truncate(f"/dev/shm{key}", 5)
        given, wanted = tensors(protocol, "r")
        for outputs in (None, [wanted]):
            with pytest.raises(InferenceServerException, match="shorter than it was"):
                asker.infer("digits", [given], outputs=outputs)
        assert os.stat(f"/dev/shm{key}").st_size == 5
        assert gateway.pids() == pids


@pytest.mark.parametrize("protocol", LIBRARIES)
@pytest.mark.parametrize("key", ["/../../etc/passwd", "a/b", "", "/", "..", "/no-such-thing"])
def test_a_key_names_shared_memory_and_no_error_names_a_file(
    gateway: FakeGateway, protocol: str, key: str
) -> None:
    with client(gateway, protocol) as asker:
        with pytest.raises(InferenceServerException) as caught:
            asker.register_system_shared_memory("r", key, 8)
        assert str(caught.value).endswith("Unable to open shared memory region: 'r'")


def test_links_and_sizes_beyond_the_memory_are_refused(
    gateway: FakeGateway, tmp_path: Path
) -> None:
    link = Path(f"/dev/shm/driftgate-test-{os.getpid()}-link")
    link.symlink_to("/etc/hostname")
    try:
        with (
            client(gateway, "http") as asker,
            pytest.raises(InferenceServerException, match="Unable to open"),
        ):
            asker.register_system_shared_memory("r", link.name, 1)
    finally:
        link.unlink()
    with memory("size", BYTES) as (_, key), client(gateway, "http") as asker:
        for size, offset in ((BYTES + 1, 0), (BYTES, 1), (2**50, 0)):
            with pytest.raises(InferenceServerException):
                asker.register_system_shared_memory("r", key, size, offset=offset)


def test_a_worker_that_comes_later_has_the_regions_too(gateway: FakeGateway) -> None:
    with memory("later") as (handle, key), client(gateway, "http") as asker:
        asker.register_system_shared_memory("r", key, 2 * BYTES)
        for pid in gateway.pids():
            os.kill(pid, 9)
        eventually(lambda: len(gateway.pids()) == 2)
        shm.set_shared_memory_region(handle, [SENT])
        for _ in range(4):
            with client_of_its_own(gateway, "http") as other:
                given, _wanted = tensors("http", "r")
                assert (other.infer("digits", [given]).as_numpy("y") == SENT).all()


@pytest.mark.parametrize("protocol", LIBRARIES)
def test_without_the_operators_leave_nothing_can_be_registered(
    make_gateway: Callable[..., FakeGateway], protocol: str
) -> None:
    gateway = make_gateway()
    gateway.argv = ("-m", "serving")
    gateway.push()
    gateway.start()
    with memory("off") as (_, key), client(gateway, protocol) as asker:
        with pytest.raises(InferenceServerException, match="shared memory is off"):
            asker.register_system_shared_memory("r", key, BYTES)
        assert regions(asker.get_system_shared_memory_status(), protocol) == []
        with pytest.raises(InferenceServerException, match="shared memory is off"):
            asker.infer("digits", [tensors(protocol, "r")[0]])
        with pytest.raises(InferenceServerException, match="CUDA shared memory is not supported"):
            asker.register_cuda_shared_memory("c", b"aGFuZGxl", 0, 8)
        asker.unregister_cuda_shared_memory()
        assert not regions(asker.get_cuda_shared_memory_status(), protocol)
