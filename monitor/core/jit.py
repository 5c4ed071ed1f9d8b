"""The one place where numba compiles: every kernel is made by this decorator.

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

Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(*signatures: object) -> Callable[[Function], Function]:
    """Compile a function over C-contiguous arrays and scalars, without the GIL."""
    decorate = numba.njit(
        list(signatures),
        nogil=True,
        error_model="numpy",
        fastmath=False,
        cache=bool(numba.config.CACHE_DIR),
    )
    return cast("Callable[[Function], Function]", decorate)
