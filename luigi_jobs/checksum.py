"""A checksum of rows: computed by MySQL, and the same from Arrow, whatever the order of rows and columns. Pure.

A row's text is that of its columns by name, one after the other; its hash the first 64 bits of the text's SHA-256; the
checksum the sum of the hashes. A column's text is that of the value that the lake has, written so that every server
prints it alike and that a wider type of the column does not change it.
"""

import hashlib
import math
from collections.abc import Callable, Iterable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from luigi_jobs.schema import Field, quote_name, real_date

_HASH_DIGITS = 16
_MOST_BYTES = 255  # longer text counts by its SHA-256, so that a row's text stays below max_allowed_packet
# Servers differ in which doubles they print with an exponent. A power of two changes no digit of a double, and takes
# those between the two bounds to where all servers do; those beyond are there already.
_LEAST_SCALED, _MOST_SCALED, _SCALE = 1e-40, 1e100, 2.0**200


def checksum_rows(fields: Iterable[Field]) -> str:
    """Return the SQL expression of the checksum of all rows of a group; NULL for no rows."""
    ordered = sorted(fields, key=lambda field: field.name.lower())
    tokens = ", ".join(token for field in ordered for token in (_sql_token(field), "','"))
    return f"SUM(CAST(CONV(LEFT(SHA2(CONCAT({tokens}), 256), {_HASH_DIGITS}), 16, 10) AS UNSIGNED))"


def checksum_batch(batch: pa.RecordBatch) -> int:
    """Return the checksum of a batch whose columns have the names and types that `checksum_rows` was given."""
    if not batch.num_columns or not batch.num_rows:
        return 0
    order = sorted(range(batch.num_columns), key=lambda number: batch.schema.names[number].lower())
    comma = pa.scalar(b",", pa.binary())
    tokens = [_token(batch.column(number)) for number in order]
    texts = pc.binary_join_element_wise(*tokens, pa.scalar(b"", pa.binary()), comma)
    return sum(_hash(text) for text in texts.to_pylist())


def _hash(text: bytes) -> int:
    return int.from_bytes(hashlib.sha256(text).digest()[: _HASH_DIGITS // 2], "big")


def _sql_token(field: Field) -> str:
    """Return the SQL of a column's text: empty for NULL; text and bytes with their length, long ones by SHA-256."""
    text = sql_text(field)
    if not _is_text(field.type):
        return f"IFNULL({text},'')"
    # What is not known to be binary, the result of UNHEX() for one, would be taken for text beside text.
    short = f"CONCAT(LENGTH({text}),':',CAST({text} AS BINARY))"
    return f"IFNULL(IF(LENGTH({text})>{_MOST_BYTES},CONCAT('#',SHA2({text},256)),{short}),'')"


def sql_text(field: Field) -> str:
    """Return the SQL of the text of a column's value; NULL for NULL, and for a date that is none."""
    kind, quoted = field.type, quote_name(field.name)
    if pa.types.is_date(kind):
        return f"IF({real_date(quoted)},CAST({field.expression} AS CHAR),NULL)"
    if pa.types.is_timestamp(kind):
        return f"IF({real_date(quoted)},DATE_FORMAT({field.expression},'%Y-%m-%d %H:%i:%s.%f'),NULL)"
    if pa.types.is_floating(kind):
        number = field.expression
        return f"IF(ABS({number}) BETWEEN {_LEAST_SCALED} AND {_MOST_SCALED},{number}*{_SCALE},{number})"
    if pa.types.is_decimal(kind):
        is_printed = pa.types.is_string(field.wire_type)  # then it may have leading zeros, or another scale in a view
        number = (
            f"CAST({quoted} AS DECIMAL({kind.precision},{kind.scale}))" if is_printed else f"({field.expression}+0)"
        )
        return f"TRIM(TRAILING '0' FROM {number})" if kind.scale else f"CONCAT({number},'.')"
    if pa.types.is_string(field.wire_type):
        return f"CONVERT({field.expression} USING utf8mb4)"
    # As a number: YEAR prints 0 as 0000, and a view what is declared ZEROFILL below it with zeros.
    return field.expression if _is_text(kind) else f"({field.expression}+0)"


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_binary(type_))


def _token(array: pa.Array) -> pa.Array:
    tokens = _print_text(array.cast(pa.binary())) if _is_text(array.type) else _print_values(array).cast(pa.binary())
    return pc.fill_null(tokens, pa.scalar(b"", pa.binary()))


def _print_text(data: pa.Array) -> pa.Array:
    lengths = pc.binary_length(data)
    tokens = pc.binary_join_element_wise(
        lengths.cast(pa.string()).cast(pa.binary()), data, pa.scalar(b":", pa.binary())
    )
    if (pc.max(lengths).as_py() or 0) <= _MOST_BYTES:
        return tokens
    is_long = pc.fill_null(pc.greater(lengths, _MOST_BYTES), False)
    digests = [b"#" + hashlib.sha256(value).hexdigest().encode() for value in data.filter(is_long).to_pylist()]
    return pc.replace_with_mask(tokens, is_long, pa.array(digests, pa.binary()))


def _print_values(array: pa.Array) -> pa.Array:
    """Return the text of numbers, dates and moments."""
    kind = array.type
    if pa.types.is_boolean(kind):
        return array.cast(pa.int8()).cast(pa.string())
    if pa.types.is_floating(kind):
        return _print_each(array.cast(pa.float64()), print_double)
    if pa.types.is_timestamp(kind):
        return array.cast(pa.timestamp("us")).cast(pa.string())
    printed = array.cast(pa.string())
    if not pa.types.is_decimal(kind):
        return printed
    if pc.any(pc.match_substring(printed, "E")).as_py():
        printed = _print_each(array, "{:f}".format)
    if kind.scale:
        return pc.utf8_rtrim(printed, "0")
    return pc.binary_join_element_wise(printed, "", ".")


def _print_each(array: pa.Array, write: Callable[[Any], str]) -> pa.Array:
    return pa.array([None if value is None else write(value) for value in array.to_pylist()], pa.string())


def print_double(value: float) -> str:
    """Return a DOUBLE as MySQL prints it, scaled: the shortest digits that give the value back, and an exponent."""
    if not math.isfinite(value):  # MySQL has none; a file may
        return repr(value)
    if _LEAST_SCALED <= abs(value) <= _MOST_SCALED:
        value *= _SCALE
    mantissa, _, exponent = repr(value).partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa.removesuffix(".0")  # the latter is 0 or -0
