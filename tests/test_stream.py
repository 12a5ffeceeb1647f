import gc
import math
import re
import struct
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pymysql
import pytest
from project import Project, days_ago

from luigi_jobs.convert import Converter
from luigi_jobs.errors import ConfigError, SchemaError, SourceError, ZeroDateError
from luigi_jobs.mysql import connect
from luigi_jobs.plan import count_day, day_condition
from luigi_jobs.schema import Guards, take_flags
from luigi_jobs.source import describe_table
from luigi_jobs.stream import Query, stream_rows

DAY = date(2021, 1, 31)
DRIVERS = ["connectorx", "pymysql"]
FIRST_INSTANT = datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)
LAST_INSTANT = datetime(2038, 1, 19, 3, 14, 7, 999999, tzinfo=UTC)
EVERY_TYPE = [
    # (type, two values as SQL, what the lake has for them)
    ("tinyint", "-128", "127", -128, 127),
    ("tinyint(1)", "2", "-1", 2, -1),
    ("smallint", "-32768", "32767", -32768, 32767),
    ("mediumint", "-8388608", "8388607", -8388608, 8388607),
    ("int", "-2147483648", "2147483647", -(2**31), 2**31 - 1),
    ("bigint", "-9223372036854775808", "9007199254740993", -(2**63), 2**53 + 1),
    ("tinyint unsigned", "0", "255", 0, 255),
    ("smallint unsigned", "0", "65535", 0, 65535),
    ("mediumint unsigned", "0", "16777215", 0, 16777215),
    ("int unsigned", "0", "4294967295", 0, 2**32 - 1),
    ("bigint unsigned", "0", "18446744073709551615", Decimal(0), Decimal(2**64 - 1)),
    ("int(8) zerofill", "42", "0", 42, 0),
    ("float", "16777216", "-1.5", 16777216.0, -1.5),
    ("double", "1.1", "-1.7976931348623157e308", 1.1, -1.7976931348623157e308),
    ("decimal(10,2)", "-0.01", "99999999.99", Decimal("-0.01"), Decimal("99999999.99")),
    ("decimal(38,30)", "0.000000000000000000000000000001", "-1", Decimal("1E-30"), Decimal("-1")),
    ("decimal(65,30)", "-0.000000000000000000000000000001", "5", "-0.000000000000000000000000000001", "5." + "0" * 30),
    ("date", "'1000-01-01'", "'9999-12-31'", date(1000, 1, 1), date(9999, 12, 31)),
    ("datetime", "'1000-01-01'", "'9999-12-31 23:59:59'", datetime(1000, 1, 1), datetime(9999, 12, 31, 23, 59, 59)),
    ("datetime(6)", "'2021-03-28 02:30:00.000001'", "NULL", datetime(2021, 3, 28, 2, 30, 0, 1), None),
    ("timestamp(6) NULL", "'1970-01-01 00:00:01'", "'2038-01-19 03:14:07.999999'", FIRST_INSTANT, LAST_INSTANT),
    ("time", "'-838:59:59'", "'00:00:00'", "-838:59:59", "00:00:00"),
    ("time(6)", "'-00:00:00.000001'", "'838:59:58.999999'", "-00:00:00.000001", "838:59:58.999999"),
    ("year", "0", "2155", 0, 2155),
    ("bit(1)", "b'1'", "b'0'", True, False),
    ("bit(9)", "b'101010101'", "b'0'", 341, 0),
    ("bit(64)", "0xFFFFFFFFFFFFFFFF", "0", Decimal(2**64 - 1), Decimal(0)),
    ("char(10)", "'Zürich'", "''", "Zürich", ""),
    ("varchar(100)", "'😀 東京'", "'%s %(x)s \\\\ \\''", "😀 東京", "%s %(x)s \\ '"),
    ("text CHARACTER SET latin1", "'é'", "'a\\nb\\0c'", "é", "a\nb\0c"),
    ("longtext", "'<script>'", "NULL", "<script>", None),
    ("enum('a','b')", "'b'", "NULL", "b", None),
    ("set('x','y')", "'x,y'", "''", "x,y", ""),
    ("json", "'{\"a\": \"é\"}'", "'[1]'", '{"a": "é"}', "[1]"),
    ("binary(4)", "'ab'", "0xFF00FF00", b"ab\0\0", b"\xff\0\xff\0"),
    ("varbinary(10)", "''", "0x00FF", b"", b"\0\xff"),
    ("blob", "0xC328", "NULL", b"\xc3\x28", None),
    ("point", "ST_GeomFromText('POINT(1 2)')", "NULL", struct.pack("<bIdd", 1, 1, 1.0, 2.0), None),
]  # fmt: skip


def read(
    project: Project, driver: str, table: str, guard_dates: bool = False, day: date = DAY, batch_rows: int = 1000
) -> pa.Table:
    """Read a day by a driver, cast to the lake's types."""
    project.configure("mysql", driver=driver)
    settings = project.load()
    with connect(settings.mysql) as connection:
        source = describe_table(connection, settings.mysql, settings.table(table))
        condition = day_condition(source, day, settings.lake.timezone)
        count = count_day(connection, source, day, settings.lake.timezone)
    converter = Converter(source.schema, source.primary_key, settings.table(table), "partition")
    query = Query(condition, guards=Guards(guard_dates), batch_rows=batch_rows)
    batches = stream_rows(settings.mysql, source, query)
    if guard_dates:
        batches = (take_flags(batch, source.fields, query.guards, Counter()) for batch in batches)
    rows = pa.Table.from_batches(converter.convert(batches), source.schema)
    assert rows.num_rows == count
    return rows


@pytest.fixture
def every_type(project: Project) -> Project:
    columns = ", ".join(f"c{number} {row[0]}" for number, row in enumerate(EVERY_TYPE))
    project.cursor.execute(f"CREATE TABLE every_type (id INT PRIMARY KEY, at DATE, {columns})")
    for row_id, values in enumerate(
        [[row[1] for row in EVERY_TYPE], [row[2] for row in EVERY_TYPE], ["NULL"] * len(EVERY_TYPE)]
    ):
        project.cursor.execute(f"INSERT INTO every_type VALUES ({row_id}, '{DAY}', {', '.join(values)})")
    project.configure("table.every_type", date_column="at", since="2021-01-01")
    return project


@pytest.mark.parametrize("driver", DRIVERS)
def test_every_type_comes_as_mysql_has_it(every_type: Project, driver: str) -> None:
    rows = read(every_type, driver, "every_type")

    for number, (kind, _, _, *expected) in enumerate(EVERY_TYPE):
        assert rows.column(f"c{number}").to_pylist() == [*expected, None], kind


def test_both_drivers_give_the_same_table(every_type: Project) -> None:
    first, second = (read(every_type, driver, "every_type") for driver in DRIVERS)

    assert first.schema == second.schema
    assert first.equals(second)


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_day_without_rows_has_the_full_schema(every_type: Project, driver: str) -> None:
    full = read(every_type, driver, "every_type")
    empty = read(every_type, driver, "every_type", day=date(2021, 2, 1))

    assert (empty.num_rows, empty.schema) == (0, full.schema)


@pytest.mark.parametrize("driver", DRIVERS)
def test_dates_that_are_none_are_null_with_guards_and_an_error_without(project: Project, driver: str) -> None:
    project.cursor.execute("CREATE TABLE z (id INT PRIMARY KEY, at DATE, d DATE, t DATETIME(6), s TIMESTAMP NULL)")
    project.cursor.execute(
        f"INSERT INTO z VALUES (1, '{DAY}', '2021-02-28', '2021-01-01', '2021-01-01'), "
        f"(2, '{DAY}', '0000-00-00', '2021-00-00', '0000-00-00'), (3, '{DAY}', '2021-01-00', '0000-00-00', NULL)"
    )
    project.configure("table.z", date_column="at", since="2021-01-01")

    with pytest.raises(ZeroDateError):
        read(project, driver, "z")
    rows = read(project, driver, "z", guard_dates=True)

    assert rows.column("d").to_pylist() == [date(2021, 2, 28), None, None]
    assert rows.column("t").to_pylist() == [datetime(2021, 1, 1), None, None]
    assert rows.column("s").to_pylist() == [datetime(2021, 1, 1, tzinfo=UTC), None, None]


@pytest.mark.fault("F30", "tables of hostile names, by both drivers")
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("name", ["order", "we`ird", "a b", "%s", "x';DROP TABLE reports;--", "ümlaut"])
def test_odd_table_and_column_names_are_quoted(project: Project, driver: str, name: str) -> None:
    quoted = "`" + name.replace("`", "``") + "`"
    project.cursor.execute(f"CREATE TABLE {quoted} ({quoted} INT PRIMARY KEY, `select` DATE)")
    project.cursor.execute(f"INSERT INTO {quoted} VALUES (7, '{DAY}')")
    project.configure("table.odd", source=name.replace("%", "%%"), date_column="select", since="2021-01-01")

    assert read(project, driver, "odd").to_pylist() == [{name: 7, "select": DAY}]


@pytest.mark.parametrize("driver", DRIVERS)
def test_timestamps_are_cut_by_the_business_day(project: Project, driver: str) -> None:
    project.cursor.execute("CREATE TABLE t (id INT PRIMARY KEY, at TIMESTAMP(3) NULL, wall DATETIME(3))")
    moments = ["2026-10-24 21:59:59.999", "2026-10-24 22:00:00", "2026-10-25 22:59:59.999", "2026-10-25 23:00:00"]
    project.cursor.executemany("INSERT INTO t VALUES (%s, %s, %s)", [(i, m, m) for i, m in enumerate(moments)])
    project.configure("lake", timezone="Europe/Berlin")
    project.configure("table.instants", source="t", date_column="at", since="2026-01-01")
    project.configure("table.wall", source="t", date_column="wall", since="2026-01-01")
    change_of_clocks = date(2026, 10, 25)

    assert read(project, driver, "instants", day=change_of_clocks)["id"].to_pylist() == [1, 2]
    assert read(project, driver, "wall", day=change_of_clocks)["id"].to_pylist() == [2, 3]


@pytest.mark.parametrize("driver", DRIVERS)
def test_large_rows_come_in_small_batches(project: Project, driver: str) -> None:
    project.cursor.execute("CREATE TABLE big (id INT PRIMARY KEY AUTO_INCREMENT, at DATE, body LONGTEXT)")
    project.add_numbers(32)
    for _ in range(2):
        project.cursor.execute(f"INSERT INTO big (at, body) SELECT '{DAY}', REPEAT('x', 1000000) FROM numbers")
    project.cursor.execute("ANALYZE TABLE big")
    project.configure("table.big", date_column="at", since="2021-01-01")

    rows = read(project, driver, "big", batch_rows=10)

    assert rows["body"].num_chunks >= 5
    assert rows["id"].to_pylist() == sorted(rows["id"].to_pylist())
    assert {len(body) for body in rows["body"].to_pylist()} == {1000000}


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["Backfill", "--table", "reports"], 35), (["LoadDay", "--table", "reports", "--date", str(days_ago(1))], 30)],
)
def test_wrong_password_fails_at_once_in_one_line_without_the_password(
    reports: Project, arguments: list[str], code: int
) -> None:
    reports.environment["MYSQL_PASSWORD"] = "canary%@/'ß"

    started = time.monotonic()
    run = reports.luigi(*arguments)

    assert time.monotonic() - started < 10  # the fast driver alone would try for 30 s
    assert run.returncode == code
    said = [line for line in run.stdout.splitlines() if "refused the login" in line]
    assert len([line for line in said if "; last error: " not in line]) == 1
    assert "Traceback" not in run.stdout
    for shape in ("canary", "%25", "%40"):
        assert shape not in run.stdout


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        (
            {"password": "wrong"},
            ConfigError,
            "refused the login to .*Access denied.*correct \\[mysql\\] user and password",
        ),
        ({"database": "no_such"}, ConfigError, "has no database 'no_such': correct \\[mysql\\] database"),
        ({"host": "no-such-host.invalid"}, SourceError, "cannot reach MySQL .*check \\[mysql\\] host and port"),
        ({"port": "9"}, SourceError, "cannot reach MySQL .*check \\[mysql\\] host and port"),
    ],
)
def test_connect_that_fails_says_which(
    reports: Project, keys: dict[str, str], error: type[Exception], message: str
) -> None:
    reports.configure("mysql", **keys)
    settings = reports.load().mysql

    with pytest.raises(error, match=message) as caught, connect(settings):
        pass

    assert "wrong" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_tls_that_is_required_is_used_or_refused(reports: Project) -> None:
    reports.cursor.execute("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
    server_has_tls = bool(reports.cursor.fetchone()[1])
    reports.configure("mysql", ssl_mode="REQUIRED")
    settings = reports.load()

    if server_has_tls:
        with connect(settings.mysql) as connection:
            assert describe_table(connection, settings.mysql, settings.table("reports")).encrypted
    else:
        with pytest.raises(ConfigError, match="has no TLS"), connect(settings.mysql):
            pass


@pytest.mark.parametrize("driver", DRIVERS)
def test_text_survives_a_server_that_sets_another_character_set(project: Project, driver: str, plain_user: str) -> None:
    project.cursor.execute("CREATE TABLE t (id INT PRIMARY KEY, at DATE, body VARCHAR(20))")
    project.cursor.execute(f"INSERT INTO t VALUES (1, '{DAY}', '😀 Zürich'), (2, '{DAY}', 'b')")
    project.configure("table.t", date_column="at", since="2021-01-01")
    project.configure("mysql", user=plain_user, password="secret")
    project.cursor.execute("SET GLOBAL init_connect='SET NAMES latin1, sql_select_limit=1'")
    try:
        assert read(project, driver, "t")["body"].to_pylist() == ["😀 Zürich", "b"]
    finally:
        project.cursor.execute("SET GLOBAL init_connect=''")


@pytest.mark.parametrize(("driver", "guard_dates"), [("connectorx", False), ("connectorx", True), ("pymysql", True)])
def test_days_of_the_year_zero_are_null(project: Project, driver: str, guard_dates: bool) -> None:
    project.cursor.execute("CREATE TABLE y (id INT PRIMARY KEY, at DATE, d DATE)")
    project.cursor.execute(f"INSERT INTO y VALUES (1, '{DAY}', '0000-01-01'), (2, '{DAY}', '0001-01-01')")
    project.configure("table.y", date_column="at", since="2021-01-01")

    rows = read(project, driver, "y", guard_dates=guard_dates)

    assert rows["d"].to_pylist() == [None, date(1, 1, 1)]


@pytest.mark.parametrize("driver", DRIVERS)
def test_expressions_of_a_view_keep_every_digit(project: Project, driver: str) -> None:
    project.cursor.execute("CREATE TABLE d (id INT PRIMARY KEY, at DATE, price DOUBLE(10,2), z DOUBLE, f FLOAT)")
    project.cursor.execute(f"INSERT INTO d VALUES (1, '{DAY}', 10.01, -0e0, -0e0)")
    project.cursor.execute("CREATE VIEW v AS SELECT id, at, price / 3 third, PI() pi, z, f FROM d")
    project.configure("table.v", date_column="at", since="2021-01-01")

    (row,) = read(project, driver, "v").to_pylist()

    assert (row["third"], row["pi"]) == (10.01 / 3, math.pi)
    project.cursor.execute("SELECT z, f FROM d")  # MySQL keeps the sign of a zero, MariaDB does not
    assert repr(project.cursor.fetchone()) == repr((row["z"], row["f"]))


@pytest.fixture
def plain_user(project: Project) -> Iterator[str]:
    """A user without rights but SELECT, whose sessions init_connect is for; the password is `secret`."""
    name = f"u{project.cursor.connection.db.decode()[-12:]}"
    project.cursor.execute("CREATE USER %s@'%%' IDENTIFIED BY 'secret'", (name,))
    project.cursor.execute(f"GRANT SELECT ON `{project.cursor.connection.db.decode()}`.* TO %s@'%%'", (name,))
    yield name
    project.cursor.execute("DROP USER %s@'%%'", (name,))


def test_columns_that_may_not_be_read_are_an_error_and_not_left_out(reports: Project, plain_user: str) -> None:
    database = reports.cursor.connection.db.decode()
    reports.cursor.execute(f"REVOKE SELECT ON `{database}`.* FROM %s@'%%'", (plain_user,))
    reports.cursor.execute(f"GRANT SELECT (id, date_start) ON `{database}`.reports TO %s@'%%'", (plain_user,))
    reports.configure("table.reports", decode="")
    reports.configure("mysql", user=plain_user, password="secret")
    settings = reports.load()

    with (
        pytest.raises(ConfigError, match=f"denied.*grant {plain_user} SELECT on all of it"),
        connect(settings.mysql) as connection,
    ):
        describe_table(connection, settings.mysql, settings.table("reports"))


def test_session_is_the_same_on_every_server(reports: Project, server: Any) -> None:
    reports.cursor.execute("SET GLOBAL time_zone='+09:00'")
    reports.cursor.execute("SET GLOBAL sql_mode='ANSI_QUOTES,PAD_CHAR_TO_FULL_LENGTH'")
    try:
        with connect(reports.load().mysql) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT @@time_zone, @@sql_mode, @@character_set_client, @@character_set_results")
            assert cursor.fetchone() == ("+00:00", "", "utf8mb4", "utf8mb4")
            with pytest.raises(pymysql.Error, match="READ ONLY transaction"):
                cursor.execute("DELETE FROM reports")
    finally:
        reports.cursor.execute("SET GLOBAL time_zone='SYSTEM'")
        reports.cursor.execute("SET GLOBAL sql_mode=DEFAULT")


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        (
            {"source": "nope"},
            ConfigError,
            r"\[table.reports\] source: MySQL has no table \w+.nope, or \w+ may not read",
        ),
        ({"date_column": "nope"}, ConfigError, r"\[table.reports\] date_column: .*reports has no column 'nope'"),
        ({"date_column": "account"}, ConfigError, r"date_column: account is int; a day is cut from DATE, DATETIME"),
        ({"decode": "nope -> x: hex"}, ConfigError, r"\[table.reports\] decode: .*reports has no column 'nope'"),
    ],
)
def test_describe_table_names_what_is_missing(
    reports: Project, keys: dict[str, str], error: type[Exception], message: str
) -> None:
    reports.configure("table.reports", **keys)
    settings = reports.load()

    with connect(settings.mysql) as connection, pytest.raises(error, match=message):
        describe_table(connection, settings.mysql, settings.table("reports"))


@pytest.mark.parametrize("driver", DRIVERS)
def test_statement_timeout_ends_a_query(reports: Project, driver: str) -> None:
    reports.cursor.execute("CREATE VIEW slow AS SELECT id, date_start, SLEEP(1) nap FROM reports")
    reports.configure("table.slow", date_column="date_start", since="2021-01-01")
    reports.configure("mysql", statement_timeout_s="1")
    reports.cursor.execute("SELECT MIN(date_start) FROM reports")
    (day,) = reports.cursor.fetchone()

    with pytest.raises(SourceError, match=r"max_statement_time|maximum statement execution"):
        read(reports, driver, "slow", day=day)


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("kills", [1, 2])
def test_connection_that_is_killed_is_tried_once_more_and_then_a_readable_error(
    reports: Project, driver: str, kills: int
) -> None:
    reports.cursor.execute("CREATE VIEW slow AS SELECT id, date_start, SLEEP(0.2) nap FROM reports")
    reports.configure("table.slow", date_column="date_start", since="2021-01-01")
    reports.configure("mysql", driver=driver)

    run = reports.start("LoadDay", "--table", "slow", "--date", str(days_ago(1)))
    killed: set[int] = set()
    deadline = time.monotonic() + 30
    while len(killed) < kills and run.poll() is None and time.monotonic() < deadline:
        for connection, _ in reading(reports, "`nap` AS"):
            if connection not in killed:
                reports.cursor.execute("KILL %s", (connection,))
                killed.add(connection)
        time.sleep(0.05)
    output, _ = run.communicate(timeout=60)

    assert output.count("; trying once more") == 1
    assert "panicked" not in output
    if kills == 1:
        assert run.returncode == 0
        assert reports.read(days_ago(1), "slow").num_rows == 20
        return
    assert run.returncode == 30
    reason = r"(ERROR \d+|the connection was lost|Lost connection)"
    assert re.search(rf"LostConnectionError: slow \S+: MySQL \S+: {reason}", output)
    assert "Traceback" not in output
    assert reports.days("slow") == []


@pytest.mark.parametrize("driver", DRIVERS)
def test_stream_that_is_left_early_ends_its_connection(project: Project, driver: str) -> None:
    project.cursor.execute("CREATE TABLE many (id INT PRIMARY KEY, at DATE, body VARCHAR(200))")
    project.add_numbers(262144)
    project.cursor.execute(f"INSERT INTO many SELECT n, '{DAY}', REPEAT('x', 200) FROM numbers")
    project.configure("table.many", date_column="at", since="2021-01-01")
    project.configure("mysql", driver=driver)
    settings = project.load()
    with connect(settings.mysql) as connection:
        source = describe_table(connection, settings.mysql, settings.table("many"))

    batches = stream_rows(settings.mysql, source, Query(day_condition(source, DAY, UTC)))
    assert next(batches).num_rows < 262144
    batches.close()
    gc.collect()

    deadline = time.monotonic() + 20
    while reading(project, "many"):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def reading(project: Project, table: str) -> list[Any]:
    project.cursor.execute(
        "SELECT id, info FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND info LIKE %s",
        (f"%{table}%",),
    )
    return list(project.cursor.fetchall())


@pytest.mark.parametrize("driver", DRIVERS)
def test_text_that_is_no_utf8_is_said_to_be(project: Project, driver: str) -> None:
    project.cursor.execute("CREATE TABLE t (id INT PRIMARY KEY, at DATE, v VARCHAR(9) CHARACTER SET ucs2)")
    project.configure("table.t", date_column="at", since="2021-01-01")
    try:
        project.cursor.execute("INSERT INTO t VALUES (1, %s, _ucs2 0xD800)", (DAY,))
    except pymysql.Error:
        pytest.skip("this server takes no half of a surrogate pair")

    with pytest.raises(SchemaError, match="t: a column of text holds a value that is no UTF-8"):
        read(project, driver, "t")


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_row_may_be_larger_than_what_the_server_takes(project: Project, driver: str) -> None:
    project.cursor.execute("CREATE TABLE t (id INT PRIMARY KEY, at DATE, a LONGTEXT, b LONGTEXT)")
    project.cursor.execute("INSERT INTO t SELECT 1, %s, REPEAT('x', 900000), REPEAT('y', 900000)", (DAY,))
    project.configure("table.t", date_column="at", since="2021-01-01")
    project.cursor.execute("SELECT @@global.max_allowed_packet")
    ((before,),) = project.cursor.fetchall()
    project.cursor.execute("SET GLOBAL max_allowed_packet = 1048576")
    try:
        table = read(project, driver, "t")
    finally:
        project.cursor.execute("SET GLOBAL max_allowed_packet = %s", (before,))

    assert table["a"].to_pylist() == ["x" * 900_000]
