"""The decoders, on whole Arrow buffers, and the rules that apply them to columns. Pure.

A decoder takes an array of text or bytes and returns one of the same length; NULL stays NULL. The table `DECODERS`
maps their names to functions.
"""

import binascii
from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from luigi_jobs.errors import DecodeError, SchemaError
from luigi_jobs.settings import DecodeRule

_SHOWN_CHARACTERS = 24


def decode_base64(array: pa.Array) -> pa.Array:
    """Decode standard base64 (RFC 4648), padded, line breaks and blanks ignored as MIME does, to bytes.

    The whole column is decoded by one call: paddings become zero bits, and the bytes they made are cut out after.

    Raises:
        ValueError: a value is not base64.
    """
    array = _without_blanks(array)
    buffer, lengths = _buffer_and_lengths(array)
    if (lengths % 4).any():
        raise ValueError("a length is no multiple of 4")
    ends = np.cumsum(lengths)
    filled = lengths > 0
    last = ends[filled] - 1
    one = buffer[last] == ord("=")
    two = one & (buffer[last - 1] == ord("="))
    paddings = np.zeros(len(lengths), np.int64)
    paddings[filled] = one.astype(np.int64) + two
    padded = buffer == ord("=")
    if np.count_nonzero(padded) != paddings.sum():
        raise ValueError("a padding stands inside a value")
    if paddings.any():
        buffer = buffer.copy()
        buffer[padded] = ord("A")
    try:
        decoded = np.frombuffer(binascii.a2b_base64(buffer.data, strict_mode=True), np.uint8)
    except binascii.Error as error:
        raise ValueError(str(error)) from None
    decoded_ends = ends // 4 * 3
    if paddings.any():
        keep = np.ones(len(decoded), bool)
        keep[decoded_ends[paddings > 0] - 1] = False
        keep[decoded_ends[paddings > 1] - 2] = False
        decoded = decoded[keep]
    return _binary_array(array, decoded, lengths // 4 * 3 - paddings)


def decode_hex(array: pa.Array) -> pa.Array:
    """Decode pairs of hexadecimal digits, either case, to bytes, the whole column by one call.

    Raises:
        ValueError: a value is not hexadecimal.
    """
    buffer, lengths = _buffer_and_lengths(array)
    if (lengths % 2).any():
        raise ValueError("a number of digits is odd")
    return _binary_array(array, np.frombuffer(binascii.unhexlify(buffer.data), np.uint8), lengths // 2)


def decode_utf8(array: pa.Array) -> pa.Array:
    """Read bytes as UTF-8 text.

    Raises:
        ValueError: a value is not UTF-8.
    """
    return array.cast(pa.string())


DECODERS: dict[str, tuple[Callable[[pa.Array], pa.Array], pa.DataType]] = {
    "base64": (decode_base64, pa.binary()),
    "hex": (decode_hex, pa.binary()),
    "utf8": (decode_utf8, pa.string()),
}


def decoded_schema(schema: pa.Schema, rules: Iterable[DecodeRule]) -> pa.Schema:
    """Return the schema after the rules: each target in the place of its source.

    Raises:
        SchemaError: a rule's source is neither text nor bytes, or its target is the name of another column.
    """
    for rule in rules:
        index = schema.get_field_index(rule.source)
        if schema.field(index).type not in (pa.string(), pa.binary()):
            raise SchemaError(
                f"column {rule.source} is {schema.field(index).type}, which holds nothing to decode: "
                "remove its decode rule",
                column=rule.source,
            )
        if rule.target != rule.source and rule.target in schema.names:
            raise SchemaError(
                f"decode rule {rule.source} -> {rule.target}: the table has a column {rule.target} already",
                column=rule.target,
            )
        schema = schema.set(index, pa.field(rule.target, DECODERS[rule.decoders[-1]][1]))
    return schema


def decode_batch(batch: pa.RecordBatch, rules: Iterable[DecodeRule], key: tuple[str, ...] = ()) -> pa.RecordBatch:
    """Apply the rules to a batch of N rows: N rows, each target in the place of its source.

    Args:
        key: the columns that name a row in an error.

    Raises:
        DecodeError: a value cannot be decoded; names its column and row.
    """
    for rule in rules:
        index = batch.schema.get_field_index(rule.source)
        array = batch.column(index)
        for name in rule.decoders:
            decode, lake_type = DECODERS[name]
            try:
                array = decode(array)
            except (ValueError, pa.ArrowException):
                raise _explain(batch, rule, name, array, key) from None
        batch = batch.set_column(index, pa.field(rule.target, lake_type), array)
    return batch


def _explain(
    batch: pa.RecordBatch, rule: DecodeRule, decoder: str, array: pa.Array, key: tuple[str, ...]
) -> DecodeError:
    """Find the first value of `array` that the decoder refuses, and say which row it stands in."""
    decode = DECODERS[decoder][0]
    where, row = "", 0
    for row in range(len(array)):
        try:
            decode(array.slice(row, 1))
        except (ValueError, pa.ArrowException):
            where = ", ".join(
                f"{name}={_show(batch.column(name)[row].as_py())}" for name in key if name in batch.schema.names
            )
            break
    return DecodeError(
        f"cannot decode {rule.source}: row {where or row} holds {_show(array[row].as_py())}, which is not {decoder}; "
        "repair the row, or change the rule in luigi.cfg",
        column=rule.source,
    )


def _show(value: object) -> str:
    text = ascii(value) if isinstance(value, str | bytes) else str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}...({len(text)} characters)"


def _without_blanks(array: pa.Array) -> pa.Array:
    buffer, _ = _buffer_and_lengths(array)
    if not np.isin(buffer, np.frombuffer(b" \t\r\n", np.uint8)).any():
        return array
    text = array.cast(pa.string())
    for blank in " \t\r\n":
        text = pc.replace_substring(text, blank, "")
    return text


def _buffer_and_lengths(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Return the bytes of all values, one after the other, and the length of each; a NULL has none."""
    if array.null_count:
        array = array.fill_null("" if pa.types.is_string(array.type) else b"")
    offsets = (
        np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
        if len(array)
        else np.zeros(1, np.int32)
    )
    data = array.buffers()[2]
    values = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    return values[offsets[0] : offsets[-1]], np.diff(offsets.astype(np.int64))


def _binary_array(source: pa.Array, values: np.ndarray, lengths: np.ndarray) -> pa.Array:
    """Build a binary array of these values and lengths with the NULLs of `source`."""
    offsets = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=offsets[1:])
    array = pa.Array.from_buffers(pa.binary(), len(lengths), [None, pa.py_buffer(offsets), pa.py_buffer(values)])
    return pc.if_else(source.is_valid(), array, None) if source.null_count else array
