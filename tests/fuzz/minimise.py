"""Make an input that fails smaller: `python -m tests.fuzz.minimise TARGET FILE`.

Writes FILE.small and prints it. For inputs that raise; one that hangs or takes
too much memory ends this process as it ended the fuzzer.
"""

import sys
from collections.abc import Callable
from pathlib import Path


def failure(target: Callable[[bytes], None], data: bytes) -> str:
    """The class of what a target raises; "" for nothing."""
    try:
        target(data)
    except Exception as error:
        return type(error).__name__
    return ""


def smaller(target: Callable[[bytes], None], data: bytes) -> bytes:
    """The least input found that fails with the same class, by leaving out ever smaller pieces."""
    wanted = failure(target, data)
    assert wanted, "this input does not fail"
    size = len(data)
    while size:
        start = 0
        while start < len(data):
            shorter = data[:start] + data[start + size :]
            if failure(target, shorter) == wanted:
                data = shorter
            else:
                start += size
        size //= 2
    return data


if __name__ == "__main__":
    from tests.fuzz.targets import TARGETS

    path = Path(sys.argv[2])
    small = smaller(TARGETS[sys.argv[1]], path.read_bytes())
    path.with_suffix(".small").write_bytes(small)
    print(repr(small))
