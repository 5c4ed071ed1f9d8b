"""The one place where numba compiles: every kernel is made by these decorators.

Laws:
- signatures are explicit, so compiling happens at import and never under traffic;
- no fast math: NaN is data;
- machine code is cached only where the process named a directory
  (NUMBA_CACHE_DIR before the first import), since the default, next to the
  source, fails on a read-only installation.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": False}

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(*signatures: object) -> Callable[[Function], Function]:
    """Compile a function over C-contiguous arrays and scalars, without the GIL."""
    return cast(
        "Callable[[Function], Function]",
        numba.njit(list(signatures), cache=bool(numba.config.CACHE_DIR), **_OPTIONS),
    )


def kernel_part(function: Function) -> Function:
    """A function that kernels of the same module call; compiled, and kept, with them."""
    return cast("Function", numba.njit(function, forceinline=True, **_OPTIONS))
