"""An Arrow array of text or bytes <-> its bytes and offsets, for NumPy. Pure."""

import numpy as np
import pyarrow as pa


def buffer_and_offsets(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return the bytes of N values, one after the other, and their N + 1 offsets; a NULL is empty."""
    if not len(array):
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
    offsets = offsets.astype(np.int64)
    if array.null_count and np.diff(offsets)[to_mask(array.is_null())].any():
        return buffer_and_offsets(array.fill_null(b"" if pa.types.is_binary(array.type) else ""))
    data = array.buffers()[2]
    values = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return values[offsets[0] : offsets[-1]], offsets - offsets[0]


def binary_array(source: pa.Array, values: np.ndarray, offsets: np.ndarray) -> pa.Array:
    """Build a binary array of these values and offsets with the NULLs of `source`."""
    valid = pa.py_buffer(np.packbits(~to_mask(source.is_null()), bitorder="little")) if source.null_count else None
    buffers = [valid, pa.py_buffer(offsets.astype(np.int32)), pa.py_buffer(values)]
    return pa.Array.from_buffers(pa.binary(), len(source), buffers)


def remove_bytes(buffer: np.ndarray, offsets: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bytes without those at `places`, which ascend, and the offsets of the values in what is left."""
    kept = np.ones(len(buffer), bool)
    kept[places] = False
    return buffer[kept], offsets - np.searchsorted(places, offsets)


def to_mask(array: pa.Array) -> np.ndarray:
    """Return N booleans without NULL as NumPy has them; `to_numpy` would import pandas for it."""
    bits = np.frombuffer(array.buffers()[1], np.uint8) if len(array) else np.empty(0, np.uint8)
    return np.unpackbits(bits, bitorder="little")[array.offset : array.offset + len(array)].astype(bool)
