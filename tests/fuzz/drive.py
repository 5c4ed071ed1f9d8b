"""One fuzzer as a process: `python -m tests.fuzz.drive TARGET [--plant BUG] [libFuzzer options]`.

What ends it with a failure: an exception that leaves a target, an input that
takes longer than libFuzzer's -timeout, memory beyond the bound (as a
MemoryError, or by -rss_limit_mb), and any use of a socket.
"""

import resource
import sys

import atheris

OURS = ["serving", "eventlog", "registry_client", "json"]
with atheris.instrument_imports(include=OURS, enable_loader_override=False):
    from tests.fuzz.targets import TARGETS

MEMORY_BYTES = 512 * 1024 * 1024  # beyond what is mapped at the start; inputs have a few KiB


def bound_memory() -> None:
    """A size that an input only claims fails at once, also if the pages are never touched."""
    with open("/proc/self/statm", encoding="ascii") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES,) * 2)


def refuse_sockets(event: str, _: object) -> None:
    """An audit hook."""
    if event.startswith("socket."):
        raise AssertionError(f"a decoder used the network: {event}")


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    name, options = sys.argv[1], sys.argv[2:]
    if options[:1] == ["--plant"]:
        from tests.fuzz.planted import PLANTED

        PLANTED[options[1]]()
        options = options[2:]
    target = TARGETS[name]
    sys.addaudithook(refuse_sockets)
    bound_memory()
    atheris.Setup([sys.argv[0], *options], lambda data: target(bytes(data)))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
