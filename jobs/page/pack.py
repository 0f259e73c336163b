"""Messages of metadata and arrays for the page's scripts, which read them as JSON and typed arrays.

All is little-endian: the length of the JSON (uint32), the JSON padded with spaces, then the arrays. Every array begins
at a multiple of 8 bytes, so that browsers can use it without a copy. `client/pack.js` reads messages.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

ALIGNMENT = 8
LENGTH_BYTES = 4
DTYPES = ("float64", "float32", "float16", "int32", "int16", "uint8")


def pack(
    meta: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    decoding: Mapping[str, Mapping[str, Any]] | None = None,
) -> bytes:
    """Bytes of a message.

    Args:
        meta: metadata as JSON values, without NaN.
        arrays: arrays of any shape, with a dtype of `DTYPES`.
        decoding: for rounded arrays, how to restore them (see `compact`). With `planes`, all low bytes of an array come
            before all high bytes, which compresses better.

    Raises:
        ValueError: an array has another dtype, or `meta` contains NaN.
    """
    described, parts, offset = [], [], 0
    for name, array in arrays.items():
        if array.dtype.name not in DTYPES:
            raise ValueError(f"{name} is {array.dtype}; expected one of {', '.join(DTYPES)}")
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        item = {"name": name, "dtype": array.dtype.name, "shape": array.shape, "offset": offset}
        item |= dict((decoding or {}).get(name, {}))
        content = _planes(little) if item.get("planes") else little.tobytes()
        described.append(item)
        parts.append(content + bytes(-len(content) % ALIGNMENT))
        offset += len(parts[-1])
    head = json.dumps({"meta": dict(meta), "arrays": described}, allow_nan=False).encode()
    head += b" " * (-(LENGTH_BYTES + len(head)) % ALIGNMENT)
    return b"".join([len(head).to_bytes(LENGTH_BYTES, "little"), head, *parts])


def unpack(message: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Metadata and arrays of a message; rounded arrays are returned as stored."""
    start = LENGTH_BYTES + int.from_bytes(message[:LENGTH_BYTES], "little")
    head = json.loads(message[LENGTH_BYTES:start])
    arrays = {}
    for item in head["arrays"]:
        count = int(np.prod(item["shape"]))
        values = np.frombuffer(message, item["dtype"], count=count, offset=start + item["offset"])
        if item.get("planes"):
            values = values.view(np.uint8).reshape(values.itemsize, -1).T.ravel().view(item["dtype"])
        arrays[item["name"]] = values.reshape(item["shape"])
    return head["meta"], arrays


def _planes(values: np.ndarray) -> bytes:
    return values.reshape(-1, 1).view(np.uint8).T.tobytes()
