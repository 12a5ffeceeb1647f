"""Random rows of one wide table, bound as parameters, against the Python values they were made of."""

import json
import string
import struct
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import cycle, islice
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from project import Project
from reading import count_zero_dates, load_by_both, read_arrow

DAY = date(2021, 1, 31)
ROWS = 50
_CHARACTERS = st.characters(exclude_categories=["Cs"])
_LATIN1 = st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"])
_FIRST_INSTANT, _LAST_INSTANT = datetime(1970, 1, 1, 0, 0, 1), datetime(2038, 1, 19, 3, 14, 7, 999999)
_TIME_LIMIT = (838 * 3600 + 59 * 60 + 59) * 10**6


def whole(bits: int) -> st.SearchStrategy[int]:
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def unsigned(bits: int) -> st.SearchStrategy[int]:
    return st.integers(0, 2**bits - 1)


def exact(digits: int, decimals: int) -> st.SearchStrategy[str]:
    """Decimals as text: a Decimal with an exponent is a DOUBLE to MySQL."""
    limit = 10**digits - 1
    return st.integers(-limit, limit).map(lambda number: f"{Decimal(f'{number}e-{decimals}'):f}")


def floats(width: Any) -> st.SearchStrategy[float]:
    """Floats without the sign of a zero, which MariaDB drops."""
    return st.floats(allow_nan=False, allow_infinity=False, width=width).map(lambda number: number + 0.0)


def as_time(microseconds: int) -> str:
    seconds, fraction = divmod(abs(microseconds), 10**6)
    sign = "-" if microseconds < 0 else ""
    return f"{sign}{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{fraction:06d}"


def utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC)


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | floats(64) | st.text(_CHARACTERS, max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(_CHARACTERS, max_size=5), inner, max_size=3),
    max_leaves=5,
)
POINTS = st.tuples(floats(32), floats(32)).map(lambda xy: struct.pack("<IbIdd", 0, 1, 1, *xy))
COLUMNS: dict[str, tuple[st.SearchStrategy[Any], Any]] = {
    # type: (values that are bound, what the lake has for one; None: the value itself)
    "TINYINT": (whole(8), None),
    "SMALLINT": (whole(16), None),
    "MEDIUMINT": (whole(24), None),
    "INT": (whole(32), None),
    "BIGINT": (whole(64), None),
    "TINYINT UNSIGNED": (unsigned(8), None),
    "SMALLINT UNSIGNED": (unsigned(16), None),
    "MEDIUMINT UNSIGNED": (unsigned(24), None),
    "INT(10) ZEROFILL": (unsigned(32), None),
    "BIGINT UNSIGNED": (unsigned(64), Decimal),
    "FLOAT": (floats(32), None),
    "DOUBLE": (floats(64), None),
    "DECIMAL(12,4)": (exact(12, 4), Decimal),
    "DECIMAL(38,10)": (exact(38, 10), Decimal),
    "DECIMAL(38,30)": (exact(38, 30), Decimal),
    "DECIMAL(65,30)": (exact(65, 30), None),
    "DATE": (st.dates(), None),
    "DATETIME(6)": (st.datetimes(), None),
    "TIMESTAMP(6) NULL": (st.datetimes(_FIRST_INSTANT, _LAST_INSTANT), utc),
    "TIME(6)": (st.integers(-_TIME_LIMIT, _TIME_LIMIT).map(as_time), None),
    "YEAR": (st.integers(1901, 2155), None),
    "BIT(1)": (unsigned(1), bool),
    "BIT(33)": (unsigned(33), None),
    "BIT(64)": (unsigned(64), Decimal),
    "CHAR(20)": (st.text(_CHARACTERS, max_size=20), lambda text: text.rstrip(" ")),
    "VARCHAR(20)": (st.text(_CHARACTERS, max_size=20), None),
    "VARCHAR(20) CHARACTER SET latin1": (st.text(_LATIN1, max_size=20), None),
    "VARCHAR(20) CHARACTER SET utf16": (st.text(_CHARACTERS, max_size=20), None),
    "LONGTEXT": (st.text(max_size=40, alphabet=string.printable), None),
    "ENUM('a','b','é')": (st.sampled_from(["a", "b", "é"]), None),
    "SET('a','b','c')": (st.sets(st.sampled_from("abc")).map(lambda members: ",".join(sorted(members))), None),
    "BINARY(8)": (st.binary(max_size=8), lambda data: data.ljust(8, b"\0")),
    "VARBINARY(40)": (st.binary(max_size=40), None),
    "BLOB": (st.binary(max_size=40), None),
    "JSON": (JSONS.map(lambda value: json.dumps(value, ensure_ascii=False)), json.loads),
    "POINT": (POINTS, lambda data: data[4:]),
}
NO_REAL_DATES = ["0000-00-00 00:00:00", "2021-00-10 00:00:00", "2021-02-00 12:00:00", "0000-07-01 00:00:00"]
# A few values for each column; fifty rows are made of them in ever other combinations.
POOLS = st.tuples(*(st.lists(st.none() | values, min_size=1, max_size=7) for values, _ in COLUMNS.values()))


@pytest.fixture
def wide(project: Project) -> Iterator[Project]:
    columns = ", ".join(f"c{number} {kind}" for number, kind in enumerate(COLUMNS))
    project.cursor.execute(f"CREATE TABLE wide (id INT PRIMARY KEY, at DATE, seen DATETIME, {columns})")
    project.configure("table.wide", date_column="at", since="2021-01-01")
    project.cursor.execute("SET SESSION sql_mode='STRICT_ALL_TABLES'")  # a value that does not fit is an error
    yield project
    project.cursor.execute("SET SESSION sql_mode=''")


@given(pools=POOLS, no_real_dates=st.lists(st.none() | st.sampled_from(NO_REAL_DATES), min_size=1, max_size=5))
@settings(max_examples=24, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_random_rows_are_in_the_lake_as_they_were_bound(
    wide: Project, pools: tuple[list[Any], ...], no_real_dates: list[str | None]
) -> None:
    columns = [list(islice(cycle(pool), ROWS)) for pool in (no_real_dates, *pools)]
    wide.cursor.execute("DELETE FROM wide")
    holders = ", ".join(["%s"] * (2 + len(columns)))
    rows = [(number, DAY, *values) for number, values in enumerate(zip(*columns, strict=True))]
    wide.cursor.executemany(f"INSERT INTO wide VALUES ({holders})", rows)

    data = load_by_both(wide, "wide", DAY)

    loaded = read_arrow(data, wide.folder)
    none = ROWS - columns[0].count(None)
    assert loaded["seen"] == [None] * ROWS
    assert count_zero_dates(data) == ({"seen": none} if none else {})
    for number, (kind, (_, convert)) in enumerate(COLUMNS.items()):
        found = loaded[f"c{number}"]
        if kind == "JSON":  # MySQL sorts keys and sets blanks
            found = [value and json.loads(value) for value in found]
        expected = columns[number + 1]
        if convert:
            expected = [None if value is None else convert(value) for value in expected]
        assert found == expected, kind
