from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from luigi_jobs import values
from luigi_jobs.errors import SchemaError
from luigi_jobs.overrides import TYPES, OverrideError, lake_type, overridden_schema, override_batch
from luigi_jobs.settings import TypeRule

DECIMAL = pa.decimal128(10, 2)


def override(array: pa.Array, name: str) -> list[object]:
    batch = override_batch(pa.record_batch({"id": pa.nulls(len(array)), "c": array}), [TypeRule("c", name)])
    assert batch.schema.field("c").type == lake_type(name)
    return batch["c"].to_pylist()


@pytest.mark.parametrize(
    ("array", "name", "expected"),
    [
        (pa.array([1, 0, None], pa.int8()), "boolean", [True, False, None]),
        (pa.array([127, -128], pa.int64()), "int8", [127, -128]),
        (pa.array([Decimal(2**63 - 1)], pa.decimal128(20, 0)), "int64", [2**63 - 1]),
        (pa.array([Decimal("0.10"), None], DECIMAL), "double", [0.1, None]),
        (pa.array([Decimal("1.50")], DECIMAL), "decimal(38,10)", [Decimal("1.5000000000")]),
        (pa.array(["-5." + "0" * 30, None]), "decimal(10,2)", [Decimal("-5.00"), None]),
        (pa.array([1.5, float("inf"), None]), "float", [1.5, float("inf"), None]),
        (pa.array([7], pa.int16()), "string", ["7"]),
        (pa.array([date(2021, 1, 31)]), "timestamp", [datetime(2021, 1, 31)]),
        (pa.array([datetime(2021, 1, 31)], pa.timestamp("us")), "date", [date(2021, 1, 31)]),
        (pa.array([datetime(2021, 1, 31)], pa.timestamp("us")), "timestamp_utc", [datetime(2021, 1, 31, tzinfo=UTC)]),
        (pa.array(["2021-01-31"]), "date", [date(2021, 1, 31)]),
        (pa.array(["1e3", "-0.5", None, "1.10"]), "double", [1000.0, -0.5, None, 1.1]),
        (pa.array(["1.1"]), "float", [pytest.approx(1.1)]),
        (pa.array(["-12", "0"]), "int32", [-12, 0]),
        (pa.array([7, None]), "decimal(18,0)", [Decimal(7), None]),
        (pa.array([Decimal("1E-7"), Decimal(0)], pa.decimal128(20, 10)), "string", ["0.0000001000", "0.0000000000"]),
        (pa.array(["text"]), "binary", [b"text"]),
        (pa.array([], pa.int32()), "int8", []),
    ],
)  # fmt: skip
def test_override_of_values_that_fit(array: pa.Array, name: str, expected: list[object]) -> None:
    assert override(array, name) == expected


@pytest.mark.parametrize(
    ("array", "name", "row"),
    [
        (pa.array([0, 2], pa.int8()), "boolean", 1),
        (pa.array([128], pa.int64()), "int8", 0),
        (pa.array([Decimal(2**63)], pa.decimal128(20, 0)), "int64", 0),
        (pa.array([Decimal(2**53 + 1)], pa.decimal128(20, 0)), "double", 0),
        (pa.array([2**53 + 1]), "double", 0),
        (pa.array([0.5, 0.1]), "float", 1),
        (pa.array([1.5]), "int64", 0),
        (pa.array([float("nan")]), "int64", 0),
        (pa.array([None, Decimal("1.55")], DECIMAL), "decimal(10,1)", 1),
        (pa.array(["1.555"]), "decimal(10,2)", 0),
        (pa.array(["1", "x"]), "int64", 1),
        (pa.array(["0x1F"]), "int64", 0),
        (pa.array(["1", "012"]), "int64", 1),
        (pa.array(["1e400"]), "double", 0),
        (pa.array(["1e-400"]), "double", 0),
        (pa.array(["9007199254740993"]), "double", 0),
        (pa.array(["16777217"]), "float", 0),
        (pa.array(["1e39"]), "float", 0),
        (pa.array([10**18]), "decimal(18,0)", 0),
        (pa.array(["2021-02-31"]), "date", 0),
        (pa.array([datetime(2021, 1, 31, 5)], pa.timestamp("us")), "date", 0),
        (pa.array([b"\xff"]), "string", 0),
    ],
)
def test_override_of_a_value_that_would_change_is_an_error(array: pa.Array, name: str, row: int) -> None:
    with pytest.raises(OverrideError, match=f"types: column c holds .*, which is no {name[:3]}") as caught:
        override(array, name)

    assert caught.value.row == row


def test_schema_after_the_rules() -> None:
    schema = pa.schema([("id", pa.int64()), ("flag", pa.int8())])

    assert overridden_schema(schema, [TypeRule("flag", "boolean")]).field("flag").type == pa.bool_()
    for column, name in [("id", "date"), ("id", "timestamp_utc"), ("flag", "binary")]:
        with pytest.raises(SchemaError, match=f"types: column {column} is int.*, which cannot become {name[:4]}"):
            overridden_schema(schema, [TypeRule(column, name)])
    with pytest.raises(SchemaError, match="which cannot become int32"):
        overridden_schema(pa.schema([("b", pa.binary())]), [TypeRule("b", "int32")])


def test_types_are_those_that_the_settings_name() -> None:
    assert tuple(TYPES) == values.TYPES
    assert lake_type("decimal(12, 4)") == pa.decimal128(12, 4)
