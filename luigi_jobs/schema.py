"""Columns, how they are selected and cast. Pure; type_table.py says what each of MySQL's types becomes."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa
import pyarrow.compute as pc

from luigi_jobs.errors import LargeSliceError, SchemaError

_YEAR_ONE = date.min.toordinal() - date(1970, 1, 1).toordinal()
_UNITS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_INTEGERS = ("tinyint", "smallint", "mediumint", "int", "bigint")


@dataclass(frozen=True)
class Column:
    """A column as information_schema describes it: `data_type` is `int`, `column_type` is `int(10) unsigned`.

    `octets` is the most bytes that text or bytes may have.
    """

    name: str
    data_type: str
    column_type: str
    precision: int | None = None
    scale: int | None = None
    octets: int | None = None

    @property
    def is_integer(self) -> bool:
        """Say whether the column's values are whole numbers that a range can be cut of."""
        return self.data_type in _INTEGERS and "zerofill" not in self.column_type

    @property
    def quoted(self) -> str:
        """Return the name, quoted for MySQL."""
        return quote_name(self.name)


@dataclass(frozen=True)
class Guards:
    """What is kept from a driver: with `dates` values that are no real dates, and values above `most_bytes` unless 0.

    They come as NULL, and after the columns follow flags that are 1 where this happened.
    """

    dates: bool = False
    most_bytes: int = 0


@dataclass(frozen=True)
class Field:
    """How a column is selected and what it becomes.

    Attributes:
        name: the column's name in MySQL and in the lake.
        expression: what is selected in its place.
        wire_type: the Arrow type in which the text protocol's values are collected.
        type: the Arrow type in the lake.
        is_date: a date or a time stamp, which may hold a value that is no real date.
        size: the SQL expression of a value's bytes, where values may be large; else empty.
    """

    name: str
    expression: str
    wire_type: pa.DataType
    type: pa.DataType
    is_date: bool = False
    size: str = ""

    @property
    def is_zero_date(self) -> str:
        """Return the SQL expression that is 1 for a value that is no real date, else 0."""
        quoted = quote_name(self.name)
        return f"({quoted} IS NOT NULL AND ({real_date(quoted)}) IS NOT TRUE)"

    def select(self, guards: Guards) -> str:
        """Return what is selected in the column's place."""
        if guards.dates and self.is_date:
            return f"IF({real_date(quote_name(self.name))}, {self.expression}, NULL)"
        if guards.most_bytes and self.size:
            return f"IF({self.size} > {guards.most_bytes}, NULL, {self.expression})"
        return self.expression


def real_date(quoted: str) -> str:
    """Return the SQL condition that a quoted column's value is a real date."""
    return f"YEAR({quoted})>0 AND DAYOFMONTH({quoted}) BETWEEN 1 AND DAYOFMONTH(LAST_DAY({quoted}))"


def quote_name(name: str) -> str:
    """Quote an identifier for MySQL: https://dev.mysql.com/doc/refman/8.4/en/identifiers.html."""
    return "`" + name.replace("`", "``") + "`"


def select_list(fields: Sequence[Field], guards: Guards) -> str:
    """Return the SELECT list: the columns, and after them the flags of the guards, which `take_flags` cuts off."""
    columns = [f"{field.select(guards)} AS {quote_name(field.name)}" for field in fields]
    flags = [field.is_zero_date for field in fields if guards.dates and field.is_date]
    if guards.most_bytes and (sizes := [field.size for field in fields if field.size]):
        flags.append(f"IFNULL({' OR '.join(f'{size} > {guards.most_bytes}' for size in sizes)}, 0)")
    return ", ".join(columns + [f"{flag} AS `flag {number}`" for number, flag in enumerate(flags)])


def take_flags(
    batch: pa.RecordBatch, fields: Sequence[Field], guards: Guards, zero_dates: Counter[str]
) -> pa.RecordBatch:
    """Cut the flags off a batch that was selected with guards, and count zero dates by column.

    Raises:
        LargeSliceError: a value was too large.
    """
    count = len(fields)
    for field in fields if guards.dates else ():
        if field.is_date:
            if flagged := pc.sum(batch.column(count).cast(pa.int64())).as_py():
                zero_dates[field.name] += flagged
            count += 1
    if count < batch.num_columns and pc.sum(batch.column(count).cast(pa.int64())).as_py():
        raise LargeSliceError(f"values have more than {guards.most_bytes:,} bytes")
    return batch.select(list(range(len(fields))))


def lake_schema(fields: Iterable[Field]) -> pa.Schema:
    """Return the Arrow schema of the fields, every one nullable."""
    return pa.schema([(field.name, field.type) for field in fields])


def cast_batch(batch: pa.RecordBatch, schema: pa.Schema, zero_dates: Counter[str]) -> pa.RecordBatch:
    """Cast a batch, as a driver delivered it, to `schema`: N rows, the same columns in the same order.

    Days of the year 0, which MySQL holds and no calendar has, become NULL and are counted in `zero_dates`.

    Raises:
        SchemaError: a value does not fit its type.
    """
    arrays = []
    for array, field in zip(batch.columns, schema, strict=True):
        try:
            real = (
                _without_year_zero(array, field.name, zero_dates)
                if pa.types.is_timestamp(array.type) or pa.types.is_date32(array.type)
                else array
            )
            arrays.append(real if real.type == field.type else real.cast(field.type))
        except pa.ArrowException as error:
            raise SchemaError(
                f"column {field.name} holds a value that does not fit {field.type}: {error}", column=field.name
            ) from error
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _without_year_zero(array: pa.Array, name: str, zero_dates: Counter[str]) -> pa.Array:
    per_day = 1 if pa.types.is_date32(array.type) else 86400 * _UNITS_PER_SECOND[array.type.unit]
    least = pc.min(array)
    if not least.is_valid or least.value >= _YEAR_ONE * per_day:
        return array
    first = date.min if pa.types.is_date32(array.type) else datetime.min
    before = pc.less(array, pa.scalar(first, array.type))
    zero_dates[name] += pc.sum(before).as_py()
    return pc.if_else(before, pa.scalar(None, array.type), array)
