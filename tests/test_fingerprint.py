"""What tells whether a day has changed in MySQL."""

from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from project import Project, days_ago

from luigi_jobs.days import ONE_DAY, each_day
from luigi_jobs.fingerprint import Fingerprint, take_fingerprint, take_fingerprints
from luigi_jobs.mysql import connect, fetch
from luigi_jobs.plan import count_day, plan_day
from luigi_jobs.source import describe_table

DAY = date(2021, 1, 31)
KINDS = ["count", "max(changed)", "checksum"]


@pytest.mark.parametrize(
    ("column", "values", "zone"),
    [
        ("DATE", ["2021-03-27", "2021-03-28", "2021-03-29", "2021-03-00", "2021-02-28"], "Europe/Berlin"),
        ("DATETIME(6)", ["2021-03-28 00:00:00", "2021-03-28 23:59:59.999999", "2021-03-30 12:00:00"], "Europe/Berlin"),
        # Hours of a day that has 23 of them, in UTC.
        ("TIMESTAMP NULL", ["2021-03-27 22:59:59", "2021-03-27 23:00:00", "2021-03-28 21:59:59"], "Europe/Berlin"),
        (
            "TIMESTAMP(6) NULL",
            ["2021-10-30 21:59:59.999999", "2021-10-30 22:00:00", "2021-10-31 22:59:59"],
            "Europe/Berlin",
        ),
        ("TIMESTAMP NULL", ["2021-03-27 18:14:59", "2021-03-27 18:15:00"], "Asia/Kathmandu"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_fingerprints_of_a_window_are_those_of_its_days(
    project: Project, cursor: Any, column: str, values: list[str], zone: str, kind: str
) -> None:
    cursor.execute(f"CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, at {column}, changed INT, KEY (at))")
    for number, value in enumerate(values):
        cursor.execute("INSERT INTO t (at, changed) VALUES (%s, %s), (%s, %s)", (value, number, value, 9 + number))
    project.configure("lake", timezone=zone)
    project.configure("table.t", date_column="at", since="2021-01-01", fingerprint=kind)
    settings = project.load()
    first = date.fromisoformat(min(values)[:8] + "20")
    stop = first + 40 * ONE_DAY
    zone_info = ZoneInfo(zone)

    with connect(settings.mysql) as connection:
        source = describe_table(connection, settings.mysql, settings.table("t"))
        window = take_fingerprints(connection, source, first, stop, zone_info)
        single = {}
        for day in each_day(first, stop):
            plan = plan_day(connection, source, day, zone_info)
            rows = count_day(connection, source, day, zone_info)
            single[day] = take_fingerprint(connection, source, plan, rows)

    assert window == single
    assert sum(one.rows for one in window.values()) == 2 * sum(first <= _day(value, zone, column) for value in values)


def _day(value: str, zone: str, column: str) -> date:
    if value.endswith("-00"):
        return date.fromisoformat(value[:8] + "01") - ONE_DAY
    moment = datetime.fromisoformat(value)
    return moment.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).date() if "TIMESTAMP" in column else moment.date()


def test_fingerprint_is_read_back_and_nonsense_is_none() -> None:
    for one in (Fingerprint(3), Fingerprint(3, "max(größe)", "2021-01-01"), Fingerprint(0, "checksum")):
        assert Fingerprint.parse(str(one)) == one
        assert str(one).isascii()
    for text in ("", "{}", "[]", '{"rows": "x"}', "null", "3"):
        assert Fingerprint.parse(text) is None


def test_a_fingerprint_of_a_column_that_is_not_there_is_refused(reports: Project) -> None:
    reports.configure("table.reports", fingerprint="max(updated)")

    run = reports.luigi("Backfill", "--table", "reports")

    assert run.returncode == 35
    assert "[table.reports] fingerprint: " in run.stdout
    assert "has no column 'updated'" in run.stdout


def test_a_fingerprint_of_a_shape_is_refused(project: Project) -> None:
    project.cursor.execute("CREATE TABLE t (id INT PRIMARY KEY, at DATE, v POINT)")
    project.configure("table.t", date_column="at", since=str(days_ago(1)), fingerprint="max(v)")

    run = project.luigi("Backfill", "--table", "t")

    assert run.returncode == 35
    assert "[table.t] fingerprint: v is point, which has no greatest value; name another column" in run.stdout


@pytest.mark.parametrize("isolation", ["READ-COMMITTED", "REPEATABLE-READ"])
def test_the_snapshot_holds_whatever_the_servers_isolation(project: Project, isolation: str) -> None:
    project.add_reports([DAY], rows=3)
    settings = project.load()
    project.cursor.execute("SHOW GLOBAL VARIABLES WHERE variable_name IN ('tx_isolation', 'transaction_isolation')")
    name, before = project.cursor.fetchall()[0]
    project.cursor.execute(f"SET GLOBAL {name}='{isolation}'")
    try:
        with connect(settings.mysql) as connection:
            fetch(connection, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
            project.cursor.execute("DELETE FROM reports LIMIT 1")
            assert fetch(connection, "SELECT COUNT(*) FROM reports") == [(3,)]
    finally:
        project.cursor.execute(f"SET GLOBAL {name}='{before}'")


@pytest.mark.parametrize("column", ["DATE", "DATETIME", "TIMESTAMP NULL"])
@pytest.mark.parametrize(
    ("kind", "less", "more"),
    [
        *[("BINARY(8)", "0xFE", "0xFF"), ("FLOAT", "1234567", "1234568"), ("VARCHAR(9)", "'a'", "'b'")],
        *[("BIT(8)", "200", "201"), ("BIT(16)", "60255", "65535"), ("BIT(64)", "255", "256")],
        *[("DECIMAL(45,0)", "9", "10"), ("DECIMAL(10,2) ZEROFILL", "9", "10"), ("TIME(3)", "'99:00'", "'100:00'")],
        *[("DOUBLE(10,2) ZEROFILL", "2", "3"), ("INT ZEROFILL", "9", "10"), ("YEAR", "2000", "2001")],
        *[("VARCHAR(250)", "'10'", "'9'"), ("VARCHAR(250)", "REPEAT('a', 200)", "REPEAT('b', 200)")],
        *[("BIGINT UNSIGNED", "9", "18446744073709551615"), ("DATETIME(6)", "'2021-01-01'", "'2021-01-01 00:00:00.1'")],
    ],
)
def test_the_maximum_of_any_type_is_told_exactly(
    project: Project, kind: str, less: str, more: str, column: str
) -> None:
    """Of a day that has a partial date too, where its rows come in parts, and by either way of asking."""
    project.cursor.execute(f"CREATE TABLE t (id INT PRIMARY KEY, at {column}, v {kind}, KEY (at))")
    also = "2021-02-00" if column == "DATE" else str(DAY)
    project.cursor.execute(f"INSERT INTO t VALUES (1, '{DAY}', {more}), (2, '{also}', {less}), (3, '{DAY}', NULL)")
    project.configure("table.t", date_column="at", since="2021-01-01", fingerprint="max(v)")
    settings = project.load()

    def take() -> Fingerprint:
        with connect(settings.mysql) as connection:
            source = describe_table(connection, settings.mysql, settings.table("t"))
            window = take_fingerprints(connection, source, DAY, DAY + ONE_DAY, ZoneInfo("UTC"))[DAY]
            plan = plan_day(connection, source, DAY, ZoneInfo("UTC"))
            assert take_fingerprint(connection, source, plan, window.rows) == window
        return window

    most = take()
    assert most.rows == 3
    project.cursor.execute(f"UPDATE t SET v = {less} WHERE id = 1")
    least = take()
    project.cursor.execute(f"UPDATE t SET v = {more} WHERE id = 2")

    assert take() == most != least
