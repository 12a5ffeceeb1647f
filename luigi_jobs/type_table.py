"""What each of MySQL's types is selected as and becomes: the one table, from which README's is written. Pure.

The expressions are those under which the binary protocol (connectorx) and the text protocol (PyMySQL) carry the
same values: docs/decisions/0002-one-select-for-both-drivers.md.
"""

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from luigi_jobs.errors import SchemaError
from luigi_jobs.schema import Column, Field

MAX_DECIMAL_PRECISION = 38
SMALL_OCTETS = 1020  # VARCHAR(255) of utf8mb4


@dataclass(frozen=True)
class TypePlan:
    """How columns of one type are selected and what they become.

    Attributes:
        mysql: the type, as README writes it.
        expression: what is selected; `Q` is the quoted column.
        wire_type: the Arrow type in which the text protocol's values are collected.
        type: the Arrow type in the lake; None: decimal128 of the column's own precision and scale.
        on_mysql: the expression on MySQL, where MariaDB's differs.
    """

    mysql: str
    expression: str
    wire_type: pa.DataType
    type: pa.DataType | None
    on_mysql: str = ""


_TEXT, _BYTES, _SIGNED, _UNSIGNED = pa.string(), pa.binary(), pa.int64(), pa.uint64()
_20_DIGITS, _MOMENT = pa.decimal128(20, 0), pa.timestamp("us")
_AS_TEXT = "CAST(Q AS CHAR)"

TYPE_TABLE: dict[str, TypePlan] = {
    "tinyint": TypePlan("TINYINT, BOOLEAN", "Q", _SIGNED, pa.int8()),
    "smallint": TypePlan("SMALLINT", "Q", _SIGNED, pa.int16()),
    "mediumint": TypePlan("MEDIUMINT", "Q", _SIGNED, pa.int32()),
    "int": TypePlan("INT", "Q", _SIGNED, pa.int32()),
    "bigint": TypePlan("BIGINT", "Q", _SIGNED, pa.int64()),
    "tinyint unsigned": TypePlan("TINYINT UNSIGNED", "Q", _UNSIGNED, pa.int16()),
    "smallint unsigned": TypePlan("SMALLINT UNSIGNED", "Q", _UNSIGNED, pa.int32()),
    "mediumint unsigned": TypePlan("MEDIUMINT UNSIGNED", "Q", _UNSIGNED, pa.int32()),
    "int unsigned": TypePlan("INT UNSIGNED", "Q", _UNSIGNED, pa.int64()),
    "bigint unsigned": TypePlan("BIGINT UNSIGNED", "Q", _UNSIGNED, _20_DIGITS),
    "tinyint zerofill": TypePlan("TINYINT ZEROFILL", "(Q+0)", _UNSIGNED, pa.int16()),
    "smallint zerofill": TypePlan("SMALLINT ZEROFILL", "(Q+0)", _UNSIGNED, pa.int32()),
    "mediumint zerofill": TypePlan("MEDIUMINT ZEROFILL", "(Q+0)", _UNSIGNED, pa.int32()),
    "int zerofill": TypePlan("INT ZEROFILL", "(Q+0)", _UNSIGNED, pa.int64()),
    "bigint zerofill": TypePlan("BIGINT ZEROFILL", "(Q+0)", _UNSIGNED, _20_DIGITS),
    "year": TypePlan("YEAR", "Q", _SIGNED, pa.int16()),
    "float": TypePlan("FLOAT", "(Q*1e0)", pa.float64(), pa.float32()),
    "double": TypePlan("DOUBLE", "Q", pa.float64(), pa.float64()),
    # Bare, the text protocol prints as many decimals as the column, or the expression of a view, is declared with.
    "declared double": TypePlan("DOUBLE(m,d), or DOUBLE in a view", "(Q*1e0)", pa.float64(), pa.float64()),
    "decimal": TypePlan("DECIMAL(p,s) with p <= 38", _AS_TEXT, _TEXT, None),
    "long decimal": TypePlan("DECIMAL(p,s) with p > 38", _AS_TEXT, _TEXT, _TEXT),
    "bit(1)": TypePlan("BIT(1)", "(Q+0)", _UNSIGNED, pa.bool_()),
    "bit": TypePlan("BIT(2) to BIT(63)", "(Q+0)", _UNSIGNED, pa.int64()),
    "bit(64)": TypePlan("BIT(64)", "(Q+0)", _UNSIGNED, _20_DIGITS),
    "date": TypePlan("DATE", "Q", pa.date32(), pa.date32()),
    "datetime": TypePlan("DATETIME(n)", "Q", _MOMENT, _MOMENT),
    "timestamp": TypePlan("TIMESTAMP(n)", "Q", _MOMENT, pa.timestamp("us", "UTC")),
    "time": TypePlan("TIME(n)", _AS_TEXT, _TEXT, _TEXT),
    "char": TypePlan("CHAR", "Q", _TEXT, _TEXT),
    "varchar": TypePlan("VARCHAR", "Q", _TEXT, _TEXT),
    "tinytext": TypePlan("TINYTEXT", "Q", _TEXT, _TEXT),
    "text": TypePlan("TEXT", "Q", _TEXT, _TEXT),
    "mediumtext": TypePlan("MEDIUMTEXT", "Q", _TEXT, _TEXT),
    "longtext": TypePlan("LONGTEXT", "Q", _TEXT, _TEXT),
    "enum": TypePlan("ENUM", "Q", _TEXT, _TEXT),
    "set": TypePlan("SET", "Q", _TEXT, _TEXT),
    "json": TypePlan("JSON", _AS_TEXT, _TEXT, _TEXT),
    "uuid": TypePlan("UUID", "Q", _TEXT, _TEXT),
    "inet4": TypePlan("INET4", "Q", _TEXT, _TEXT),
    "inet6": TypePlan("INET6", "Q", _TEXT, _TEXT),
    "binary": TypePlan("BINARY", "Q", _BYTES, _BYTES),
    "varbinary": TypePlan("VARBINARY", "Q", _BYTES, _BYTES),
    "tinyblob": TypePlan("TINYBLOB", "Q", _BYTES, _BYTES),
    "blob": TypePlan("BLOB", "Q", _BYTES, _BYTES),
    "mediumblob": TypePlan("MEDIUMBLOB", "Q", _BYTES, _BYTES),
    "longblob": TypePlan("LONGBLOB", "Q", _BYTES, _BYTES),
    "null": TypePlan("NULL in a view", "CAST(Q AS BINARY)", _BYTES, _BYTES),
    "vector": TypePlan("VECTOR", "CAST(Q AS BINARY)", _BYTES, _BYTES),
    "geometry": TypePlan("GEOMETRY and its kinds", "ST_AsWKB(Q)", _BYTES, _BYTES, "ST_AsWKB(Q,'axis-order=long-lat')"),
}
GEOMETRIES = (
    *("geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon"),
    *("geometrycollection", "geomcollection"),
)
_OVERRIDDEN = TypePlan("any other, with `types`", _AS_TEXT, _TEXT, _TEXT)


def plan_fields(
    columns: Iterable[Column], mariadb: bool, overridden: Collection[str] = (), is_view: bool = False
) -> list[Field]:
    """Return one Field for each column, in order.

    Args:
        overridden: the columns whose type luigi.cfg names; one of an unknown type comes as MySQL prints it.

    Raises:
        SchemaError: a column's type has no faithful counterpart in the lake.
    """
    return [_plan_field(column, mariadb, column.name in overridden, is_view) for column in columns]


def _plan_field(column: Column, mariadb: bool, overridden: bool, is_view: bool) -> Field:
    plan = TYPE_TABLE.get(_name_type(column, is_view))
    if plan is None and not overridden:
        raise SchemaError(
            f"column {column.name} has type {column.column_type}, which has no faithful type in the lake: "
            f"set `types = {column.name}: string` in the table's section to have it as MySQL prints it, "
            "or select it through a view that casts it",
            column=column.name,
        )
    plan = plan or _OVERRIDDEN
    expression = plan.expression if mariadb else plan.on_mysql or plan.expression
    return Field(
        name=column.name,
        expression=expression.replace("Q", column.quoted, 1),
        wire_type=plan.wire_type,
        type=plan.type or pa.decimal128(column.precision or 10, column.scale or 0),
        is_date=column.data_type in ("date", "datetime", "timestamp"),
        size=_size(column, mariadb),
    )


def _size(column: Column, mariadb: bool) -> str:
    if column.data_type == "json" and not mariadb:
        return f"JSON_STORAGE_SIZE({column.quoted})"
    is_large = column.data_type in GEOMETRIES or (column.octets or 0) > SMALL_OCTETS
    return f"OCTET_LENGTH({column.quoted})" if is_large else ""


def _name_type(column: Column, is_view: bool) -> str:
    """Return the column's row of the table."""
    kind, full = column.data_type, column.column_type
    if kind in GEOMETRIES:
        kind = "geometry"
    elif kind == "decimal" and (column.precision or 10) > MAX_DECIMAL_PRECISION:
        kind = "long decimal"
    elif full in ("binary(0)", "varbinary(0)"):
        kind = "null"
    elif kind == "double" and (is_view or "(" in full):
        kind = "declared double"
    elif kind == "bit" and column.precision in (None, 1, 64):
        kind = f"bit({column.precision or 1})"
    elif f"{kind} unsigned" in TYPE_TABLE and " unsigned" in full:
        kind += " zerofill" if "zerofill" in full else " unsigned"
    return kind


def describe_types() -> Iterator[tuple[str, str, str]]:
    """Yield (MySQL's types, what is selected, Parquet type) for README, alike types on one line."""
    lines: dict[tuple[str, str], list[str]] = {}
    for plan in TYPE_TABLE.values():
        selected = f"`{plan.expression}`" + (f", on MySQL `{plan.on_mysql}`" if plan.on_mysql else "")
        lines.setdefault((selected, _name_parquet_type(plan)), []).append(plan.mysql)
    for (selected, parquet), names in lines.items():
        yield ", ".join(names), selected, parquet


def _name_parquet_type(plan: TypePlan) -> str:
    if plan.type is None:
        return "decimal(p,s)"
    names = {"halffloat": "float", "bool": "boolean", "date32[day]": "date", "timestamp[us]": "timestamp, no zone"}
    names |= {"timestamp[us, tz=UTC]": "timestamp, UTC", "decimal128(20, 0)": "decimal(20,0)"}
    return names.get(str(plan.type), str(plan.type))
