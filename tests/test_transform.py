import sys
from datetime import datetime
from decimal import Decimal

import pandas as pd
import pyarrow as pa
import pytest

from luigi_jobs.errors import ConfigError, DecodeError, SchemaError
from luigi_jobs.transform import Transform

SCHEMA = pa.schema([("id", pa.int64()), ("count", pa.int32()), ("spend", pa.decimal128(12, 4)), ("name", pa.string())])
BATCH = pa.RecordBatch.from_pylist(
    [{"id": 2**53 + 1, "count": None, "spend": Decimal("0.1"), "name": "é"}, {"id": 1, "count": 2, "spend": None}],
    SCHEMA,
)


def keep(frame: pd.DataFrame) -> pd.DataFrame:
    return frame


def tidy(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(upper=frame["name"].str.upper(), double=frame["count"] * 2).drop(columns="name")


def drop_rows(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[frame["id"] > 1]


def fail(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[["no such column"]]


def return_none(frame: pd.DataFrame) -> None:
    return None


def untyped(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(extra=None)


def other_columns(frame: pd.DataFrame) -> pd.DataFrame:
    return frame if len(frame) else frame.drop(columns="name")


def other_types(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(count="many") if len(frame) else frame


def exit_early(frame: pd.DataFrame) -> pd.DataFrame:
    sys.exit(0)


def set_index(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.set_index("id")


def twice(frame: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([frame, frame], axis="columns")


def unsigned(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype({"id": "uint64[pyarrow]"})


def unnamed(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.rename(columns={"id": ""})


def nanoseconds(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(at=pd.Series([pd.Timestamp("2021-01-31")] * len(frame), dtype="datetime64[ns]"))


def apply(name: str) -> pa.Table:
    transform = Transform(f"test_transform:{name}", SCHEMA)
    return pa.Table.from_batches(transform.apply(BATCH), transform.schema)


def test_values_survive_the_way_through_pandas() -> None:
    assert apply("keep").schema == SCHEMA
    assert apply("keep").to_pylist() == BATCH.to_pylist()


def test_columns_added_and_dropped_are_in_the_schema_before_any_row() -> None:
    transform = Transform("test_transform:tidy", SCHEMA)

    assert transform.schema.names == ["id", "count", "spend", "upper", "double"]
    assert transform.schema.field("upper").type == pa.string()
    assert [(row["upper"], row["double"]) for row in apply("tidy").to_pylist()] == [("É", None), (None, 4)]


def test_nanoseconds_become_microseconds() -> None:
    assert apply("nanoseconds").schema.field("at").type == pa.timestamp("us")
    assert apply("nanoseconds")["at"].to_pylist() == [datetime(2021, 1, 31)] * 2


def test_rows_may_be_dropped() -> None:
    assert apply("drop_rows")["id"].to_pylist() == [2**53 + 1]


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (
            "test_transform:nope",
            ConfigError,
            "transform = test_transform:nope: AttributeError: .*has no attribute 'nope'",
        ),
        ("no_such_module:f", ConfigError, "No module named 'no_such_module'; PYTHONPATH must lead to the module"),
        ("test_transform:fail", DecodeError, "transform = test_transform:fail failed: KeyError: .*no such column"),
        ("test_transform:return_none", DecodeError, "failed: TypeError: it returned a NoneType, not a DataFrame"),
        (
            "test_transform:untyped",
            SchemaError,
            "column 'extra' of an empty frame has type null, which the lake does not take",
        ),
        ("test_transform:exit_early", DecodeError, "failed: SystemExit: 0"),
        ("test_transform:set_index", DecodeError, r"it left \['id'\] in the index, which is dropped: use reset_index"),
        ("test_transform:twice", DecodeError, "test_transform:twice failed: ValueError: .*uplicate"),
        (
            "test_transform:unsigned",
            SchemaError,
            "column 'id' of an empty frame has type uint64, which the lake does not",
        ),
        ("test_transform:unnamed", SchemaError, "column '' of an empty frame has type int64, which the lake does not"),
        ("os:system", DecodeError, "transform = os:system failed: TypeError"),
    ],
)
def test_transform_that_cannot_work_is_refused_before_any_row(name: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Transform(name, SCHEMA)


@pytest.mark.parametrize(("name", "message"), [("other_columns", "returned columns"), ("other_types", "other types")])
def test_transform_that_depends_on_the_rows_is_refused(name: str, message: str) -> None:
    with pytest.raises(DecodeError, match=message):
        apply(name)
