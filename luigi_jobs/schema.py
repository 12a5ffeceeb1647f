"""MySQL column -> SELECT expression and Arrow type. Pure; the schema never comes from values.

Each type has one function that returns a `Field`; the table at the end of the file maps type names to functions.
The expressions are those under which the binary protocol (connectorx) and the text protocol (PyMySQL) carry the
same values: docs/decisions/0002-one-select-for-both-drivers.md.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime

import pyarrow as pa
import pyarrow.compute as pc

from luigi_jobs.errors import SchemaError

UNSIGNED_BIGINT = pa.decimal128(20, 0)
MAX_DECIMAL_PRECISION = 38


@dataclass(frozen=True)
class Column:
    """A column as information_schema describes it: `data_type` is `int`, `column_type` is `int(10) unsigned`."""

    name: str
    data_type: str
    column_type: str
    precision: int | None = None
    scale: int | None = None

    @property
    def unsigned(self) -> bool:
        """Say whether the column is UNSIGNED."""
        return " unsigned" in self.column_type

    @property
    def quoted(self) -> str:
        """Return the name, quoted for MySQL."""
        return quote_name(self.name)


@dataclass(frozen=True)
class Field:
    """How a column is selected and what it becomes.

    Attributes:
        name: the column's name in MySQL and in the lake.
        expression: what is selected in its place.
        guarded: the same, with NULL for a value that is no real date; None where no guard is needed.
        wire_type: the Arrow type in which the text protocol's values are collected.
        type: the Arrow type in the lake.
    """

    name: str
    expression: str
    wire_type: pa.DataType
    type: pa.DataType
    guarded: str | None = None


def quote_name(name: str) -> str:
    """Quote an identifier for MySQL: https://dev.mysql.com/doc/refman/8.4/en/identifiers.html."""
    return "`" + name.replace("`", "``") + "`"


def plan_fields(columns: Iterable[Column], mariadb: bool) -> list[Field]:
    """Return one Field for each column, in order.

    Raises:
        SchemaError: a column's type has no faithful counterpart in the lake.
    """
    return [_plan_field(column, mariadb) for column in columns]


def _plan_field(column: Column, mariadb: bool) -> Field:
    plan = FIELD_PLANS.get(column.data_type)
    if plan is None:
        raise SchemaError(
            f"column {column.name} has type {column.column_type}, which has no faithful type in the lake: "
            "select it through a view that casts it, and name the view as `source`",
            column=column.name,
        )
    return plan(column, mariadb)


def select_list(fields: Iterable[Field], guard_dates: bool) -> str:
    """Return the SELECT list; with `guard_dates` values that are no real dates come as NULL."""
    return ", ".join(
        f"{(guard_dates and field.guarded) or field.expression} AS {quote_name(field.name)}" for field in fields
    )


def lake_schema(fields: Iterable[Field]) -> pa.Schema:
    """Return the Arrow schema of the fields, every one nullable."""
    return pa.schema([(field.name, field.type) for field in fields])


def cast_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Cast a batch, as a driver delivered it, to `schema`: N rows, the same columns in the same order.

    Raises:
        SchemaError: a value does not fit its type.
    """
    arrays = []
    for array, field in zip(batch.columns, schema, strict=True):
        try:
            real = _without_year_zero(array) if pa.types.is_temporal(array.type) else array
            arrays.append(real if real.type == field.type else real.cast(field.type))
        except pa.ArrowException as error:
            raise SchemaError(
                f"column {field.name} holds a value that does not fit {field.type}: {error}", column=field.name
            ) from error
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _without_year_zero(array: pa.Array) -> pa.Array:
    """Return the array with NULL for days of the year 0, which MySQL holds and no calendar has."""
    first = pa.scalar(date.min if pa.types.is_date(array.type) else datetime.min, array.type)
    before = pc.less(array, first)
    return pc.if_else(before, pa.scalar(None, array.type), array) if pc.any(before).as_py() else array


def _plan_integer(bits: int) -> Callable[[Column, bool], Field]:
    signed = {8: pa.int8(), 16: pa.int16(), 24: pa.int32(), 32: pa.int32(), 64: pa.int64()}
    unsigned = {8: pa.int16(), 16: pa.int32(), 24: pa.int32(), 32: pa.int64(), 64: UNSIGNED_BIGINT}

    def plan(column: Column, mariadb: bool) -> Field:
        expression = f"({column.quoted}+0)" if "zerofill" in column.column_type else column.quoted
        wire_type = pa.uint64() if column.unsigned else pa.int64()
        return Field(column.name, expression, wire_type, (unsigned if column.unsigned else signed)[bits])

    return plan


def _plan_year(column: Column, mariadb: bool) -> Field:
    return Field(column.name, column.quoted, pa.int64(), pa.int16())


def _plan_float(column: Column, mariadb: bool) -> Field:
    return Field(column.name, f"({column.quoted}*1e0)", pa.float64(), pa.float32())


def _plan_double(column: Column, mariadb: bool) -> Field:
    # Bare, the text protocol prints as many decimals as an expression of a view is declared with.
    return Field(column.name, f"({column.quoted}*1e0)", pa.float64(), pa.float64())


def _plan_decimal(column: Column, mariadb: bool) -> Field:
    precision, scale = column.precision or 10, column.scale or 0
    fits = precision <= MAX_DECIMAL_PRECISION
    lake_type = pa.decimal128(precision, scale) if fits else pa.string()
    return Field(column.name, f"CAST({column.quoted} AS CHAR)", pa.string(), lake_type)


def _plan_bit(column: Column, mariadb: bool) -> Field:
    bits = column.precision or 1
    lake_type = pa.bool_() if bits == 1 else UNSIGNED_BIGINT if bits == 64 else pa.int64()
    return Field(column.name, f"({column.quoted}+0)", pa.uint64(), lake_type)


def _guard_date(quoted: str) -> str:
    real = f"YEAR({quoted})>0 AND DAYOFMONTH({quoted}) BETWEEN 1 AND DAYOFMONTH(LAST_DAY({quoted}))"
    return f"IF({real}, {quoted}, NULL)"


def _plan_moment(lake_type: pa.DataType, wire_type: pa.DataType) -> Callable[[Column, bool], Field]:
    def plan(column: Column, mariadb: bool) -> Field:
        return Field(column.name, column.quoted, wire_type, lake_type, _guard_date(column.quoted))

    return plan


def _plan_text(column: Column, mariadb: bool) -> Field:
    return Field(column.name, column.quoted, pa.string(), pa.string())


def _plan_printed(column: Column, mariadb: bool) -> Field:
    return Field(column.name, f"CAST({column.quoted} AS CHAR)", pa.string(), pa.string())


def _plan_binary(column: Column, mariadb: bool) -> Field:
    return Field(column.name, column.quoted, pa.binary(), pa.binary())


def _plan_vector(column: Column, mariadb: bool) -> Field:
    return Field(column.name, f"CAST({column.quoted} AS BINARY)", pa.binary(), pa.binary())


def _plan_geometry(column: Column, mariadb: bool) -> Field:
    axis_order = "" if mariadb else ",'axis-order=long-lat'"
    return Field(column.name, f"ST_AsWKB({column.quoted}{axis_order})", pa.binary(), pa.binary())


_MICROSECONDS = pa.timestamp("us")

FIELD_PLANS: dict[str, Callable[[Column, bool], Field]] = {
    "tinyint": _plan_integer(8),
    "smallint": _plan_integer(16),
    "mediumint": _plan_integer(24),
    "int": _plan_integer(32),
    "bigint": _plan_integer(64),
    "year": _plan_year,
    "float": _plan_float,
    "double": _plan_double,
    "decimal": _plan_decimal,
    "bit": _plan_bit,
    "date": _plan_moment(pa.date32(), pa.date32()),
    "datetime": _plan_moment(_MICROSECONDS, _MICROSECONDS),
    "timestamp": _plan_moment(pa.timestamp("us", "UTC"), _MICROSECONDS),
    "time": _plan_printed,
    "json": _plan_printed,
    **dict.fromkeys(
        ("char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set", "uuid", "inet4", "inet6"),
        _plan_text,
    ),
    **dict.fromkeys(("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"), _plan_binary),
    "vector": _plan_vector,
    **dict.fromkeys(
        (
            "geometry",
            "point",
            "linestring",
            "polygon",
            "multipoint",
            "multilinestring",
            "multipolygon",
            "geometrycollection",
            "geomcollection",
        ),
        _plan_geometry,
    ),
}
