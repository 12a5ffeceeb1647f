"""A checksum of rows that does not depend on their order: computed by MySQL, and the same from Arrow. Pure.

A row's text is that of its columns, one after the other; its hash the first 64 bits of the text's SHA-256; the
checksum the sum of the hashes. A column's text is what MySQL prints of the value that the lake has: a date that is none
is NULL.
"""

import hashlib
import math
import re
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from luigi_jobs.schema import Field, quote_name, real_date

_HASH_DIGITS = 16
_MOST_FIXED_DIGITS = 15  # MySQL prints numbers from 1e15 on, and below 1e-15, with an exponent


def checksum_rows(fields: Sequence[Field]) -> str:
    """Return the SQL expression of the checksum of all rows of a group; NULL for no rows."""
    tokens = ", ".join(token for field in fields for token in (_sql_token(field), "','"))
    return f"SUM(CAST(CONV(LEFT(SHA2(CONCAT({tokens}), 256), {_HASH_DIGITS}), 16, 10) AS UNSIGNED))"


def checksum_batch(batch: pa.RecordBatch, large: Sequence[bool]) -> int:
    """Return the checksum of a batch whose columns have the types of the table in MySQL.

    Args:
        large: for each column, whether its values may be large.
    """
    if not batch.num_columns or not batch.num_rows:
        return 0
    comma = pa.scalar(b",", pa.binary())
    tokens = [_token(array, is_large) for array, is_large in zip(batch.columns, large, strict=True)]
    texts = pc.binary_join_element_wise(*tokens, pa.scalar(b"", pa.binary()), comma)
    return sum(_hash(text) for text in texts.to_pylist())


def _hash(text: bytes) -> int:
    return int.from_bytes(hashlib.sha256(text).digest()[: _HASH_DIGITS // 2], "big")


def _sql_token(field: Field) -> str:
    """Return the SQL of a column's text: empty for NULL; text and bytes with their length, large ones by SHA-256."""
    text = _sql_text(field)
    if field.size:
        return f"IFNULL(SHA2({text}, 256),'')"
    if _is_text(field.type):
        return f"IFNULL(CONCAT(LENGTH({text}),':',{text}),'')"
    return f"IFNULL({text},'')"


def _sql_text(field: Field) -> str:
    if pa.types.is_date(field.type):
        return f"IF({real_date(quote_name(field.name))},CAST({field.expression} AS CHAR),NULL)"
    if pa.types.is_timestamp(field.type):
        moment = f"DATE_FORMAT({field.expression},'%Y-%m-%d %H:%i:%s.%f')"
        return f"IF({real_date(quote_name(field.name))},{moment},NULL)"
    if pa.types.is_decimal(field.type) and pa.types.is_string(field.wire_type):
        return f"({quote_name(field.name)}+0)"  # without the leading zeros of ZEROFILL
    if pa.types.is_string(field.wire_type):
        return f"CONVERT({field.expression} USING utf8mb4)"
    # As a number: YEAR prints 0 as 0000.
    return f"({field.expression}+0)" if pa.types.is_int16(field.type) else field.expression


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_binary(type_))


def _token(array: pa.Array, is_large: bool) -> pa.Array:
    if not _is_text(array.type):
        tokens = _print_values(array).cast(pa.binary())
    elif is_large:
        values = array.cast(pa.binary()).to_pylist()
        digests = [None if value is None else hashlib.sha256(value).hexdigest() for value in values]
        tokens = pa.array(digests, pa.string()).cast(pa.binary())
    else:
        data = array.cast(pa.binary())
        lengths = pc.binary_length(data).cast(pa.string()).cast(pa.binary())
        tokens = pc.binary_join_element_wise(lengths, data, pa.scalar(b":", pa.binary()))
    return pc.fill_null(tokens, pa.scalar(b"", pa.binary()))


def _print_values(array: pa.Array) -> pa.Array:
    """Return what MySQL prints of numbers, dates and moments."""
    kind = array.type
    if pa.types.is_boolean(kind):
        return array.cast(pa.int8()).cast(pa.string())
    if pa.types.is_floating(kind):
        values = array.cast(pa.float64()).to_pylist()
        return pa.array([None if value is None else print_double(value) for value in values], pa.string())
    if pa.types.is_timestamp(kind):
        return array.cast(pa.timestamp("us")).cast(pa.string())
    printed = array.cast(pa.string())
    if pa.types.is_decimal(kind) and pc.any(pc.match_substring(printed, "E")).as_py():
        return pa.array([None if value is None else f"{value:f}" for value in array.to_pylist()], pa.string())
    return printed


def print_double(value: float) -> str:
    """Return a DOUBLE as MySQL prints it: the shortest digits that give the value back."""
    if not math.isfinite(value):  # MySQL has none; a file may
        return repr(value)
    mantissa, _, exponent = repr(value).partition("e")
    sign, whole, fraction = re.fullmatch(r"(-?)(\d+)\.?(\d*)", mantissa).groups()  # type: ignore[union-attr]
    digits = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    if not digits:
        return f"{sign}0"
    if point > _MOST_FIXED_DIGITS or point < -_MOST_FIXED_DIGITS + 1:
        return f"{sign}{digits[0]}{digits[1:] and '.' + digits[1:]}e{point - 1}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    return f"{sign}{digits[:point].ljust(point, '0')}{digits[point:] and '.' + digits[point:]}"
