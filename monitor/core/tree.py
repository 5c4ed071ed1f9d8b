"""A tree of plain values and arrays as bytes, canonical: equal trees, equal bytes.

Layout: length of the JSON part (8 bytes, little-endian), the JSON with sorted
keys, then the arrays' bytes in order of appearance. Floats are written so that
they read back exactly; infinities stand for themselves.
"""

import json
from typing import Any

import numpy as np

Tree = Any  # dict | list | str | int | float | bool | None | ndarray

_ARRAY = "\0array"


def pack(tree: Tree) -> bytes:
    blobs: list[bytes] = []
    text = json.dumps(_strip(tree, blobs), sort_keys=True, separators=(",", ":")).encode()
    return b"".join([len(text).to_bytes(8, "little"), text, *blobs])


def unpack(data: bytes) -> Tree:
    """Raises: ValueError when the bytes were not made by `pack`."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 + size:
        raise ValueError("state is cut short")
    return _fill(json.loads(data[8 : 8 + size]), memoryview(data)[8 + size :])


def _strip(tree: Tree, blobs: list[bytes]) -> Tree:
    if isinstance(tree, np.ndarray):
        start = sum(map(len, blobs))
        blobs.append(np.ascontiguousarray(tree).tobytes())
        return {_ARRAY: [tree.dtype.str, list(tree.shape), start]}
    if isinstance(tree, dict):
        return {key: _strip(tree[key], blobs) for key in sorted(tree)}
    if isinstance(tree, list | tuple):
        return [_strip(item, blobs) for item in tree]
    return tree


def _fill(tree: Tree, blobs: memoryview) -> Tree:
    if isinstance(tree, list):
        return [_fill(item, blobs) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if _ARRAY not in tree:
        return {key: _fill(value, blobs) for key, value in tree.items()}
    dtype, shape, start = tree[_ARRAY]
    size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    if start + size > len(blobs):
        raise ValueError("state is cut short")
    return np.frombuffer(blobs[start : start + size], dtype=dtype).reshape(shape).copy()
