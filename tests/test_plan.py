"""How a day is read: which index, along what, on tables of every shape."""

from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from project import Project

from luigi_jobs.mysql import connect
from luigi_jobs.plan import DayPlan, count_day, plan_day
from luigi_jobs.source import Source, describe_table

DAY = date(2021, 1, 31)
BERLIN = ZoneInfo("Europe/Berlin")
CONDITION = "`at` >= '2021-01-31' AND `at` < '2021-02-01'"
MOMENTS = "`at` >= '2021-01-31 00:00:00' AND `at` < '2021-02-01 00:00:00'"
# Four days of 256 rows each; `n` runs from 1 to 1024.
IN_ORDER = "SELECT n, DATE('2021-01-28') + INTERVAL (n - 1) DIV 256 DAY FROM numbers"
INTERLEAVED = "SELECT n, DATE('2021-01-28') + INTERVAL n % 4 DAY FROM numbers"


@pytest.fixture
def numbers(project: Project) -> Project:
    project.add_numbers(1024)
    project.configure("lake", timezone="Europe/Berlin")
    return project


def plan(project: Project, columns: str, rows: str) -> tuple[Source, DayPlan]:
    project.cursor.execute(f"CREATE TABLE t ({columns})")
    project.cursor.execute(f"INSERT INTO t (id, at) {rows}")
    project.cursor.execute("ANALYZE TABLE t")
    return plan_again(project, "t")


def plan_again(project: Project, table: str) -> tuple[Source, DayPlan]:
    project.configure(f"table.{table}", date_column="at", since="2021-01-01")
    settings = project.load()
    with connect(settings.mysql) as connection:
        source = describe_table(connection, settings.mysql, settings.table(table))
        planned = plan_day(connection, source, DAY, BERLIN)
        assert count_day(connection, source, DAY, BERLIN) == planned.rows
    return source, planned


@pytest.mark.parametrize("kind", ["DATE", "DATETIME", "DATETIME(6)"])
@pytest.mark.parametrize("index", ["KEY (at)", "KEY (id)"])
def test_a_day_that_lies_together_is_read_along_the_primary_key(numbers: Project, kind: str, index: str) -> None:
    _, planned = plan(numbers, f"id BIGINT PRIMARY KEY, at {kind}, {index}", IN_ORDER)

    assert (planned.rows, planned.index) == (256, "PRIMARY")
    assert planned.axis
    assert (planned.axis.column, planned.axis.low, planned.axis.high) == ("id", 769, 1025)
    assert (planned.axis.fixed, planned.axis.rest) == ("", "")


@pytest.mark.parametrize(("engine", "is_counted"), [("InnoDB", False), ("MyISAM", True)])
def test_the_ends_of_the_date_index_say_where_a_day_lies_before_it_is_counted(
    numbers: Project, engine: str, is_counted: bool
) -> None:
    source, planned = plan(numbers, "id INT PRIMARY KEY, at DATE, KEY (at, id)", IN_ORDER)
    numbers.cursor.execute(f"ALTER TABLE t ENGINE={engine}")
    source, planned = plan_again(numbers, "t")

    assert source.is_transactional == (not is_counted)
    assert (planned.rows, planned.index, planned.is_counted) == (256, "PRIMARY", is_counted)


def test_a_day_of_instants_is_cut_by_the_business_day(numbers: Project) -> None:
    _, planned = plan(numbers, "id INT PRIMARY KEY, at TIMESTAMP NULL, KEY (at)", IN_ORDER)

    assert planned.condition == "`at` >= '2021-01-30 23:00:00' AND `at` < '2021-01-31 23:00:00'"
    assert (planned.rows, planned.index) == (256, "PRIMARY")


def test_an_interleaved_day_is_read_by_the_date_index_along_the_key(numbers: Project) -> None:
    _, planned = plan(numbers, "id INT PRIMARY KEY, at DATE, KEY by_day (at)", INTERLEAVED)

    assert (planned.condition, planned.rows, planned.index) == (CONDITION, 256, "by_day")
    assert planned.axis
    assert (planned.axis.column, planned.axis.low, planned.axis.high) == ("id", 3, 1024)
    assert planned.axis.fixed == "`at` = '2021-01-31'"
    assert planned.axis.rest == "`at` > '2021-01-31' AND `at` < '2021-02-01'"


@pytest.mark.parametrize("key", ["id INT PRIMARY KEY", "id VARCHAR(20) PRIMARY KEY", "id INT"])
def test_an_interleaved_day_of_moments_is_cut_by_the_time_of_day(numbers: Project, key: str) -> None:
    _, planned = plan(numbers, f"{key}, at DATETIME, KEY by_day (at)", INTERLEAVED)

    assert (planned.condition, planned.rows, planned.index) == (MOMENTS, 256, "by_day")
    assert planned.axis
    assert (planned.axis.column, planned.axis.is_moment) == ("at", True)


@pytest.mark.parametrize(
    ("columns", "index"),
    [
        ("id INT, at DATE, KEY by_day (at)", ""),
        ("id VARCHAR(20) PRIMARY KEY, at DATE, KEY by_day (at)", ""),
        ("id INT PRIMARY KEY, at DATE, KEY (at, other), other INT", ""),
        ("id INT, at DATE", ""),
        ("id INT PRIMARY KEY, at DATE", ""),
    ],
)
def test_a_day_without_a_key_to_cut_by_is_one_select(numbers: Project, columns: str, index: str) -> None:
    _, planned = plan(numbers, columns, INTERLEAVED)

    assert planned == DayPlan(CONDITION, 256, index)


def test_composite_key_is_cut_by_its_first_column(numbers: Project) -> None:
    columns = "account INT DEFAULT 1, id INT, at DATE, PRIMARY KEY (account, id), KEY by_day (at)"
    source, planned = plan(numbers, columns, INTERLEAVED)

    assert source.primary_key == ("account", "id")
    assert planned.index == "by_day"
    assert planned.axis
    assert (planned.axis.column, planned.axis.low, planned.axis.high) == ("account", 1, 2)


def test_key_that_begins_with_the_date_is_cut_by_what_follows(numbers: Project) -> None:
    source, planned = plan(numbers, "id INT, at DATE, PRIMARY KEY (at, id), KEY (at)", INTERLEAVED)

    assert source.primary_key == ("at", "id")
    assert planned.index == "PRIMARY"
    assert planned.axis
    assert (planned.axis.column, planned.axis.fixed) == ("id", "`at` = '2021-01-31'")


def test_key_that_begins_with_the_moment_is_cut_by_it(numbers: Project) -> None:
    _, planned = plan(numbers, "id INT, at DATETIME, PRIMARY KEY (at, id)", INTERLEAVED)

    assert planned.index == "PRIMARY"
    assert planned.axis
    assert (planned.axis.column, planned.axis.is_moment) == ("at", True)


@pytest.mark.parametrize("hidden", ["prefix", "invisible"])
def test_indexes_that_do_not_serve_are_not_used(numbers: Project, hidden: str) -> None:
    mariadb = "MariaDB" in numbers.cursor.connection.get_server_info()
    index = {"prefix": "KEY (name(2), at)", "invisible": f"KEY (at) {'IGNORED' if mariadb else 'INVISIBLE'}"}[hidden]
    source, planned = plan(numbers, f"id INT PRIMARY KEY, at DATE, name VARCHAR(20), {index}", INTERLEAVED)

    assert source.date_index == ""
    assert planned == DayPlan(CONDITION, 256)


def test_a_view_is_one_select(numbers: Project) -> None:
    plan(numbers, "id INT PRIMARY KEY, at DATE, KEY (at)", IN_ORDER)
    numbers.cursor.execute("CREATE VIEW v AS SELECT * FROM t")

    source, planned = plan_again(numbers, "v")

    assert source.is_view
    assert planned == DayPlan(CONDITION, 256)


def test_a_day_without_rows_has_a_plan(numbers: Project) -> None:
    _, planned = plan(numbers, "id INT PRIMARY KEY, at DATE, KEY (at)", "SELECT n, '2020-01-01' FROM numbers")

    assert planned.rows == 0


def test_partial_dates_are_counted_and_lie_on_the_axis(numbers: Project) -> None:
    columns = "id INT PRIMARY KEY, at DATE, KEY (at)"
    _, planned = plan(numbers, columns, f"{IN_ORDER} UNION SELECT 2000, '2021-01-32' UNION SELECT 2001, '2021-02-00'")

    assert planned.rows == 257
    assert planned.axis
    assert planned.axis.high == 2002


def test_a_table_whose_key_has_gaps_is_judged_by_the_optimizers_estimate(numbers: Project) -> None:
    _, planned = plan(
        numbers,
        "id BIGINT PRIMARY KEY, at DATE, KEY (at)",
        "SELECT n * 1000000, DATE('2021-01-28') + INTERVAL (n - 1) DIV 256 DAY FROM numbers",
    )

    assert planned.index == "PRIMARY"
    assert planned.axis
    assert (planned.axis.low, planned.axis.high) == (769_000_000, 1_024_000_001)


def test_unsigned_keys_reach_their_greatest_value(numbers: Project) -> None:
    rows = "SELECT 18446744073709550591 + n, '2021-01-31' FROM numbers"
    _, planned = plan(numbers, "id BIGINT UNSIGNED PRIMARY KEY, at DATE, KEY (at)", rows)

    assert planned.axis
    assert (planned.axis.low, planned.axis.high) == (2**64 - 1024, 2**64)


def test_table_names_are_quoted(project: Project, cursor: Any) -> None:
    cursor.execute("CREATE TABLE `we``ird` (`or``der` INT PRIMARY KEY, `at` DATE, KEY `k``ey` (at))")
    cursor.execute("INSERT INTO `we``ird` VALUES (1, '2021-01-31'), (1000, '2021-01-31')")
    project.configure("table.odd", source="we`ird", date_column="at", since="2021-01-01")
    settings = project.load()

    with connect(settings.mysql) as connection:
        source = describe_table(connection, settings.mysql, settings.table("odd"))
        assert plan_day(connection, source, DAY, BERLIN).rows == 2
