"""The rules `types = column: type`: checked casts, after which a value is exactly what it was, or an error. Pure."""

import re
from collections.abc import Callable, Iterable
from decimal import Decimal

import pyarrow as pa
import pyarrow.compute as pc

from luigi_jobs.errors import SchemaError
from luigi_jobs.refused import show
from luigi_jobs.settings import TypeRule

TYPES = {
    "boolean": pa.bool_(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "timestamp_utc": pa.timestamp("us", "UTC"),
}
_WIDE = pa.decimal256(76, 38)  # holds every DECIMAL of MySQL: 65 digits, at most 38 of them decimals


def lake_type(name: str) -> pa.DataType:
    """Return the Arrow type of a name: one of TYPES, or `decimal(p,s)`."""
    if name in TYPES:
        return TYPES[name]
    precision, scale = map(int, re.findall(r"\d+", name))
    return pa.decimal128(precision, scale)


def overridden_schema(schema: pa.Schema, rules: Iterable[TypeRule]) -> pa.Schema:
    """Return the schema after the rules.

    Raises:
        SchemaError: no value of the column's type can become the rule's type.
    """
    for rule in rules:
        index = schema.get_field_index(rule.column)
        try:
            _convert(pa.array([], schema.field(index).type), lake_type(rule.type))
        except pa.ArrowException as error:
            raise SchemaError(
                f"types: column {rule.column} is {schema.field(index).type}, which cannot become {rule.type}",
                column=rule.column,
            ) from error
        schema = schema.set(index, pa.field(rule.column, lake_type(rule.type)))
    return schema


def override_batch(batch: pa.RecordBatch, rules: Iterable[TypeRule]) -> pa.RecordBatch:
    """Cast the columns that rules name: N rows, the same columns in the same order.

    Raises:
        SchemaError: a value would not be the same any more; `row` holds its number in the batch.
    """
    for rule in rules:
        index = batch.schema.get_field_index(rule.column)
        array, kind = batch.column(index), lake_type(rule.type)
        converted = _convert_checked(array, kind)
        if converted is None:
            row = next(row for row in range(len(array)) if _convert_checked(array.slice(row, 1), kind) is None)
            raise OverrideError(rule, array[row].as_py(), row)
        batch = batch.set_column(index, pa.field(rule.column, kind), converted)
    return batch


class OverrideError(SchemaError):
    """A value does not fit the type that a rule gives its column; `row` is its number in the batch."""

    def __init__(self, rule: TypeRule, value: object, row: int):
        super().__init__(
            f"types: column {rule.column} holds {show(value)}, which is no {rule.type}", column=rule.column
        )
        self.row = row


def _convert_checked(array: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """Return the array as another type, or None when a value would not be the same any more."""
    conversion = _class_of(array.type), _class_of(kind)
    try:
        converted = _convert(array, kind)
        if conversion in _EXACT:
            return converted
        if conversion == ("text", "float"):
            return converted if _are_the_same_numbers(array, converted) else None
        back = _convert(converted, array.type)
    except pa.ArrowException:
        return None
    same = pc.equal(back, array)
    if conversion[0] == "float":
        same = pc.or_(same, pc.and_(pc.is_nan(back), pc.is_nan(array)))
    return converted if pc.all(same, min_count=0).as_py() else None


def _convert(array: pa.Array, kind: pa.DataType) -> pa.Array:
    source, target = _class_of(array.type), _class_of(kind)
    if target not in _CONVERSIONS[source]:
        raise pa.ArrowInvalid(f"{array.type} cannot become {kind}")
    if "decimal" in (source, target) and {source, target} & {"text", "integer"}:
        if (source, target) == ("decimal", "text"):  # Arrow would write 1E-7
            return pa.array([None if value is None else f"{value:f}" for value in array.to_pylist()], kind)
        array = array.cast(_WIDE)  # Arrow asks for room for every number, not only for those that are there
    return array.cast(kind)


def _are_the_same_numbers(texts: pa.Array, numbers: pa.Array) -> bool:
    """Say whether each number, as it is printed, is the one its text says: to 1.1 yes, to 9007199254740993 no."""
    pairs = zip(texts.to_pylist(), numbers.cast(pa.string()).to_pylist(), strict=True)
    return all(text == number or Decimal(text) == Decimal(number) for text, number in pairs)


def _class_of(kind: pa.DataType) -> str:
    return next(name for name, includes in _CLASSES.items() if includes(kind))


_CLASSES: dict[str, Callable[[pa.DataType], bool]] = {
    "boolean": pa.types.is_boolean,
    "integer": pa.types.is_integer,
    "float": pa.types.is_floating,
    "decimal": pa.types.is_decimal,
    "text": pa.types.is_string,
    "bytes": pa.types.is_binary,
    "day": pa.types.is_date,
    "moment": pa.types.is_timestamp,
}
# What may become what; a number is no date, for nobody said in which unit it counts since when.
_CONVERSIONS = {
    "boolean": {"boolean", "integer", "text"},
    "integer": {"boolean", "integer", "float", "decimal", "text"},
    "float": {"integer", "float", "decimal", "text"},
    "decimal": {"integer", "float", "decimal", "text"},
    "text": {"integer", "float", "decimal", "text", "bytes", "day", "moment"},
    "bytes": {"text", "bytes"},
    "day": {"text", "day", "moment"},
    "moment": {"text", "day", "moment"},
}
# Conversions that fail by themselves where a value would change.
_EXACT = {
    *((source, "text") for source in ("float", "decimal", "bytes", "day", "moment", "text")),
    *(("text", target) for target in ("bytes", "decimal", "moment")),
}
