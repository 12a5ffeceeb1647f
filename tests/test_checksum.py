"""The checksum of rows: MySQL's and that of what the lake has are one."""

import struct
from datetime import date
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from project import Project
from torture import known_kinds, make_table

from luigi_jobs.checksum import checksum_batch, checksum_rows, print_double
from luigi_jobs.day_of_table import open_day
from luigi_jobs.mysql import connect, fetch
from luigi_jobs.pipeline import decode_day, extract_day, load_day
from luigi_jobs.schema import Field
from luigi_jobs.source import describe_table

DAY = date(2021, 1, 31)
DOUBLES = [
    0.0,
    -0.0,
    1.0,
    -1.5,
    0.1,
    1e14,
    1e15,
    1e16,
    123456789012345680.0,
    1e-5,
    1e-14,
    1e-15,
    1.5e-15,
    1e-16,
    5e-324,
]


def ask(project: Project, query: str) -> list[Any]:
    project.configure("table.any", date_column="at", since="2021-01-01")
    with connect(project.load().mysql) as connection:
        return fetch(connection, query)


def test_checksum_of_every_type_is_mysqls(project: Project, cursor: Any) -> None:
    kinds = {f"c{number}": kind for number, kind in enumerate(known_kinds(cursor))}
    make_table(cursor, "torture", kinds, [DAY])
    project.configure("table.torture", date_column="at", since="2021-01-01")
    settings = project.load()
    one = open_day("torture", DAY)
    for step in (extract_day, decode_day, load_day):
        step(one)
    loaded = project.read(DAY, "torture").combine_chunks().to_batches()[0]
    with connect(settings.mysql) as connection:
        source = describe_table(connection, settings.mysql, settings.table("torture"))
        wrong = {}
        for field in source.fields:
            mysqls = fetch(connection, f"SELECT {checksum_rows([field])} FROM torture")[0][0]
            ours = checksum_batch(loaded.select([field.name]), [bool(field.size)])
            if mysqls != ours:
                wrong[source.column(field.name).column_type] = (mysqls, ours)
        mysqls = fetch(connection, f"SELECT {checksum_rows(source.fields)} FROM torture")[0][0]

    assert wrong == {}
    assert mysqls == checksum_batch(loaded, [bool(field.size) for field in source.fields])


def test_checksum_heeds_no_order_but_which_values_stand_together() -> None:
    rows = pa.record_batch({"a": [1, 2, None], "b": ["x", "y", ""]})
    turned, mixed = (pa.record_batch({"a": [2, None, 1], "b": b}) for b in (["y", "", "x"], ["x", "", "y"]))
    text = [False, False]

    assert checksum_batch(turned, text) == checksum_batch(rows, text) != checksum_batch(mixed, text)


@pytest.mark.parametrize("is_large", [True, False])
def test_checksum_tells_values_apart_that_join_to_the_same_text(is_large: bool) -> None:
    pairs = [("a", "b"), ("ab", ""), ("", "ab"), (",a", "b"), ("a", ",b"), (None, ""), ("", None), (None, None)]
    sums = {checksum_batch(pa.record_batch({"a": [a], "b": [b]}), [is_large] * 2) for a, b in pairs}

    assert len(sums) == len(pairs)


def test_checksum_of_no_rows_is_nothing() -> None:
    assert checksum_batch(pa.record_batch({"a": pa.array([], pa.int64())}), [False]) == 0


def test_doubles_are_printed_as_mysql_does(project: Project, cursor: Any) -> None:
    doubles = DOUBLES + [struct.unpack("d", struct.pack("Q", number * 36_893_488_147_419))[0] for number in range(9999)]
    cursor.execute("CREATE TABLE doubles (value DOUBLE)")
    cursor.executemany("INSERT INTO doubles VALUES (%s)", [(repr(value),) for value in doubles if abs(value) < 1e308])

    for value, text in ask(project, "SELECT value, CAST(value AS CHAR) FROM doubles"):
        assert print_double(value) == text


@settings(max_examples=500)
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_doubles_are_printed_so_that_they_can_be_read_back(value: float) -> None:
    assert struct.pack("d", float(print_double(value))) == struct.pack("d", value)


def test_rows_too_long_for_one_text_are_summed_too(project: Project, cursor: Any) -> None:
    cursor.execute("CREATE TABLE large (a LONGTEXT, b LONGTEXT)")
    cursor.execute("INSERT INTO large SELECT REPEAT('x', 9000000), REPEAT('y', 9000000)")
    fields = [Field(name, f"`{name}`", pa.string(), pa.string(), size=f"OCTET_LENGTH(`{name}`)") for name in "ab"]

    ((mysqls,),) = ask(project, f"SELECT {checksum_rows(fields)} FROM large")

    row = pa.record_batch({"a": ["x" * 9_000_000], "b": ["y" * 9_000_000]})
    assert mysqls == checksum_batch(row, [True, True])
