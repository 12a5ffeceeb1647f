"""The checksum of rows: MySQL's and that of what the lake has are one."""

import math
import random
import struct
from datetime import date
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from project import Project
from torture import known_kinds, make_table

from luigi_jobs.checksum import checksum_batch, checksum_rows, print_double, sql_text
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
            ours = checksum_batch(loaded.select([field.name]))
            if mysqls != ours:
                wrong[source.column(field.name).column_type] = (mysqls, ours)
        mysqls = fetch(connection, f"SELECT {checksum_rows(source.fields)} FROM torture")[0][0]

    assert wrong == {}
    assert mysqls == checksum_batch(loaded)


def test_checksum_heeds_no_order_but_which_values_stand_together() -> None:
    rows = pa.record_batch({"a": [1, 2, None], "b": ["x", "y", ""]})
    turned, mixed = (pa.record_batch({"a": [2, None, 1], "b": b}) for b in (["y", "", "x"], ["x", "", "y"]))

    assert checksum_batch(turned) == checksum_batch(rows) != checksum_batch(mixed)
    assert checksum_batch(rows.select(["b", "a"])) == checksum_batch(rows)


@pytest.mark.parametrize("count", [1, 127, 128, 254, 255, 256])
def test_checksum_tells_values_apart_that_join_to_the_same_text(count: int) -> None:
    a, b = "a" * count, "b" * count
    pairs = [(a, b), (a + b, ""), ("", a + b), ("," + a, b), (a, "," + b), (None, ""), ("", None), (None, None)]
    sums = {checksum_batch(pa.record_batch({"a": [a], "b": [b]})) for a, b in pairs}

    assert len(sums) == len(pairs)


def test_checksum_of_no_rows_is_nothing() -> None:
    assert checksum_batch(pa.record_batch({"a": pa.array([], pa.int64())})) == 0


@pytest.mark.parametrize("kind", ["DOUBLE", "FLOAT", "DOUBLE(30,10)"])
def test_doubles_are_printed_as_mysql_does(project: Project, cursor: Any, kind: str) -> None:
    bits = [struct.unpack("d", struct.pack("Q", number * 36_893_488_147_419))[0] for number in range(9999)]
    digits = random.Random(1)
    short = [digits.randint(-(10**17), 10**17) / 10 ** digits.randint(0, 40) for _ in range(9999)]
    cursor.execute(f"CREATE TABLE doubles (id INT PRIMARY KEY AUTO_INCREMENT, at DATE, value {kind})")
    most = {"DOUBLE": 1e308, "FLOAT": 1e38, "DOUBLE(30,10)": 1e15}[kind]
    cursor.executemany(
        "INSERT INTO doubles (value) VALUES (%s)",
        [(repr(value),) for value in DOUBLES + bits + short if abs(value) < most],
    )
    project.configure("table.doubles", date_column="at", since="2021-01-01")
    settings = project.load()
    with connect(settings.mysql) as connection:
        source = describe_table(connection, settings.mysql, settings.table("doubles"))
        field = source.fields[-1]
        rows = fetch(connection, f"SELECT {field.expression}, CONCAT({sql_text(field)}) FROM doubles")

    assert len(rows) > 9999
    assert [(print_double(value), text) for value, text in rows if print_double(value) != text] == []


@settings(max_examples=500)
@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_doubles_that_are_two_are_printed_as_two(one: float, other: float) -> None:
    assert (print_double(one) == print_double(other)) == (struct.pack("d", one) == struct.pack("d", other))
    assert print_double(one) != print_double(math.nextafter(one, math.inf))


def test_rows_too_long_for_one_text_are_summed_too(project: Project, cursor: Any) -> None:
    cursor.execute("CREATE TABLE large (a LONGTEXT, b LONGTEXT)")
    cursor.execute("INSERT INTO large SELECT REPEAT('x', 9000000), REPEAT('y', 9000000)")
    fields = [Field(name, f"`{name}`", pa.string(), pa.string()) for name in "ab"]

    ((mysqls,),) = ask(project, f"SELECT {checksum_rows(fields)} FROM large")

    assert mysqls == checksum_batch(pa.record_batch({"a": ["x" * 9_000_000], "b": ["y" * 9_000_000]}))


@pytest.mark.parametrize(
    ("kind", "wider"),
    [
        ("VARCHAR(255)", "VARCHAR(256)"),
        ("VARCHAR(300) CHARACTER SET latin1", "VARCHAR(300) CHARACTER SET utf8mb4"),
        ("VARCHAR(300) CHARACTER SET latin1", "LONGTEXT CHARACTER SET utf8mb4"),
        ("VARBINARY(10)", "BLOB"),
        ("DECIMAL(12,4)", "DECIMAL(14,6)"),
        ("DECIMAL(5,0)", "DECIMAL(14,6)"),
        ("FLOAT", "DOUBLE"),
        ("INT", "BIGINT"),
        ("DATETIME", "DATETIME(6)"),
    ],
)
def test_a_wider_column_has_the_same_checksum(project: Project, cursor: Any, kind: str, wider: str) -> None:
    cursor.execute(f"CREATE TABLE t (id INT PRIMARY KEY, at DATE, v {kind})")
    values = ["20210131", "20210201"] if kind == "DATETIME" else ["1200", "0", "7"]
    for number, value in enumerate(values):
        cursor.execute(f"INSERT INTO t VALUES ({number}, '{DAY}', %s)", (value,))
    before = checksum_of(project, "t")

    cursor.execute(f"ALTER TABLE t MODIFY v {wider} FIRST")

    assert checksum_of(project, "t") == before
    cursor.execute("UPDATE t SET v = v + 1 WHERE id = 1")
    assert checksum_of(project, "t") != before


def checksum_of(project: Project, table: str) -> int:
    project.configure(f"table.{table}", date_column="at", since="2021-01-01")
    settings = project.load()
    with connect(settings.mysql) as connection:
        source = describe_table(connection, settings.mysql, settings.table(table))
        return int(fetch(connection, f"SELECT {checksum_rows(source.fields)} FROM {table}")[0][0])


@pytest.mark.parametrize(("hexadecimal", "other"), [("FFFE80C3", "FEFF81C2"), ("FF", "FE"), ("41", "42")])
def test_bytes_that_a_view_makes_are_told_apart_beside_text(
    project: Project, cursor: Any, hexadecimal: str, other: str
) -> None:
    cursor.execute("CREATE TABLE b (id INT PRIMARY KEY, at DATE, n VARCHAR(20), h VARCHAR(100))")
    cursor.execute("INSERT INTO b VALUES (1, %s, 'é', %s)", (DAY, hexadecimal))
    cursor.execute("CREATE VIEW v AS SELECT id, at, n, UNHEX(h) x FROM b")
    before = checksum_of(project, "v")
    row = {"id": pa.array([1], pa.int32()), "at": [DAY], "n": ["é"], "x": [bytes.fromhex(hexadecimal)]}

    cursor.execute("UPDATE b SET h = %s", (other,))

    assert before == checksum_batch(pa.record_batch(row))
    assert checksum_of(project, "v") not in (None, before)
