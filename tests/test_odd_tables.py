from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from project import Project
from reading import READERS, Columns, count_zero_dates, load_by_both, read_arrow
from torture import known_kinds, make_table, print_table

from luigi_jobs.schema import quote_name

DAY = date(2021, 1, 31)
SINCE = {"date_column": "at", "since": "2021-01-01"}
ODD_NAMES = [
    *("select", "ORDER", "a b", " leading", "NULL", "Q", "0", "1e5", "x" * 64, "ä" * 64, "ümlaut", "東京"),
    *(
        "we`ird",
        "``",
        "'",
        '"',
        "a\\b",
        "a/b",
        "a.b",
        ".",
        "list.element",
        "?",
        ":x",
        "{}",
        "$1",
        "#",
        "-- x",
        "/* x */",
    ),
    *(";", ",", "%", "%s", "%(x)s", "%%", "a\nb", "schema", "filename", "__index_level_0__", "ARROW:schema"),
    *("luigi_jobs.zero_dates", "zero date", "rows", "SELECT 1"),
]
READERS_OF_NAMES = pytest.mark.parametrize("reader", READERS)


@pytest.mark.fault("F31", "columns of some fifty hostile names, by both drivers, read back by three readers")
@READERS_OF_NAMES
def test_odd_names_of_columns_arrive_as_they_are(project: Project, reader: Callable[[bytes, Path], Columns]) -> None:
    columns = ", ".join(f"{quote_name(name)} INT" for name in ODD_NAMES)
    project.cursor.execute(f"CREATE TABLE odd (`the ``key` INT PRIMARY KEY, at DATE, {columns})")
    project.cursor.execute(f"INSERT INTO odd VALUES (7, '{DAY}', {', '.join(map(str, range(len(ODD_NAMES))))})")
    project.configure("table.odd", **SINCE)

    columns_read = reader(load_by_both(project, "odd", DAY), project.folder)

    assert columns_read == {"the `key": [7], "at": [DAY]} | {name: [number] for number, name in enumerate(ODD_NAMES)}


@pytest.mark.fault("F31", "columns called like our own aliases")
@READERS_OF_NAMES
def test_columns_called_like_the_flags_of_dates_that_are_none_keep_their_values(
    project: Project, reader: Callable[[bytes, Path], Columns]
) -> None:
    project.cursor.execute(
        "CREATE TABLE odd (id INT PRIMARY KEY, `zero date 1` INT, `zero date 0` DATE, at DATE, `zero date 3` DATETIME, "
        "`zero date 2` TEXT, `we``ird.date` TIMESTAMP(3) NULL)"
    )
    project.cursor.execute(
        f"INSERT INTO odd VALUES (1, 10, '0000-00-00', '{DAY}', '2021-00-00', 'a', '2021-01-01 00:00:00.001'), "
        f"(2, 20, '2021-02-03', '{DAY}', '2021-02-03', 'b', '0000-00-00'), (3, 30, NULL, '{DAY}', NULL, 'c', NULL)"
    )
    project.configure("table.odd", **SINCE)

    data = load_by_both(project, "odd", DAY)

    assert reader(data, project.folder) == {
        "id": [1, 2, 3],
        "zero date 1": [10, 20, 30],
        "zero date 0": [None, date(2021, 2, 3), None],
        "at": [DAY] * 3,
        "zero date 3": [None, datetime(2021, 2, 3), None],
        "zero date 2": ["a", "b", "c"],
        "we`ird.date": [datetime(2021, 1, 1, 0, 0, 0, 1000, tzinfo=UTC), None, None],
    }
    assert count_zero_dates(data) == {"zero date 0": 1, "zero date 3": 1, "we`ird.date": 1}


def test_generated_and_default_columns_come_like_any_other(project: Project) -> None:
    project.cursor.execute(
        "CREATE TABLE made (id INT PRIMARY KEY, at DATE, price DECIMAL(10,2), "
        "twice DECIMAL(12,2) AS (price * 2) VIRTUAL, label VARCHAR(40) AS (CONCAT('no ', id)) STORED, "
        "next_day DATE AS (at + INTERVAL 1 DAY) VIRTUAL, half DOUBLE AS (price / 2) STORED, "
        "code VARCHAR(40) DEFAULT (CONCAT('d', 1 + 1)), word VARCHAR(9) DEFAULT 'it''s', "
        "stamped TIMESTAMP(6) DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6))"
    )
    project.cursor.execute(f"INSERT INTO made (id, at, price) VALUES (1, '{DAY}', 1.11), (2, '{DAY}', NULL)")
    project.configure("table.made", **SINCE)

    columns = read_arrow(load_by_both(project, "made", DAY), project.folder)

    project.cursor.execute("SELECT * FROM made ORDER BY id")
    first, second = project.cursor.fetchall()
    stamped = columns.pop("stamped")
    assert [value.replace(tzinfo=None) for value in stamped] == [first[-1], second[-1]]
    assert list(zip(*columns.values(), strict=True)) == [first[:-1], second[:-1]]
    assert (first[4], str(first[3]), first[7]) == ("no 1", "2.22", "d2")


def test_invisible_columns_come_too(project: Project) -> None:
    project.cursor.execute("CREATE TABLE hidden (id INT PRIMARY KEY, at DATE, secret INT INVISIBLE)")
    project.cursor.execute(f"INSERT INTO hidden (id, at, secret) VALUES (1, '{DAY}', 42)")
    project.configure("table.hidden", **SINCE)

    columns = read_arrow(load_by_both(project, "hidden", DAY), project.folder)

    assert columns == {"id": [1], "at": [DAY], "secret": [42]}


def test_key_that_the_server_makes_itself_and_invisible_comes_too(project: Project) -> None:
    if "MariaDB" in project.cursor.connection.get_server_info():
        pytest.skip("only MySQL makes keys: sql_generate_invisible_primary_key")
    project.cursor.execute("SET SESSION sql_generate_invisible_primary_key=ON")
    try:
        project.cursor.execute("CREATE TABLE keyless (at DATE, n INT)")
    finally:
        project.cursor.execute("SET SESSION sql_generate_invisible_primary_key=DEFAULT")
    project.cursor.execute(f"INSERT INTO keyless VALUES ('{DAY}', 5), ('{DAY}', 4)")
    project.configure("table.keyless", **SINCE)

    columns = read_arrow(load_by_both(project, "keyless", DAY), project.folder)

    assert columns == {"my_row_id": [1, 2], "at": [DAY, DAY], "n": [5, 4]}


def test_table_with_system_versioning_has_its_rows_of_now(project: Project) -> None:
    if "MariaDB" not in project.cursor.connection.get_server_info():
        pytest.skip("only MariaDB has system versioning")
    project.cursor.execute("CREATE TABLE versioned (id INT PRIMARY KEY, at DATE, ratio DOUBLE) WITH SYSTEM VERSIONING")
    project.cursor.execute(f"INSERT INTO versioned VALUES (1, '{DAY}', 0.5), (2, '{DAY}', 0.1)")
    project.cursor.execute("UPDATE versioned SET ratio = 0.25 WHERE id = 1")
    project.cursor.execute("DELETE FROM versioned WHERE id = 2")
    project.configure("table.versioned", **SINCE)

    columns = read_arrow(load_by_both(project, "versioned", DAY), project.folder)

    assert columns == {"id": [1], "at": [DAY], "ratio": [0.25]}


@READERS_OF_NAMES
def test_table_of_500_columns_is_what_mysql_prints(project: Project, reader: Callable[[bytes, Path], Columns]) -> None:
    small = ["bigint unsigned", "decimal(38,10)", "double", "float", "date", "datetime(6)", "timestamp(6) NULL"]
    small += ["time(6)", "bit(9)", "year", "tinyint(1)", "varbinary(300)", "varchar(20) CHARACTER SET latin1", "bit(1)"]
    kinds = [kind for kind in known_kinds(project.cursor) if kind.mysql in small]
    columns = {f"column_{number}": kinds[number % len(kinds)] for number in range(500)}
    make_table(project.cursor, "wide", columns, [DAY])
    project.configure("table.wide", **SINCE)

    for zero_dates in ({}, {"zero": 1}):
        if zero_dates:
            project.cursor.execute("UPDATE wide SET zero = '0000-00-00' ORDER BY id LIMIT 1")
        data = load_by_both(project, "wide", DAY)
        found = reader(data, project.folder)
        printed = print_table(project.environment, project.cursor.connection.db.decode(), "wide", columns, DAY)

        assert count_zero_dates(data) == zero_dates
        assert len(kinds) == len(small)
        assert list(found) == ["id", "at", "zero", *columns]
        for name, kind in columns.items():
            expected = [None if text is None else kind.print.read(text) for text in printed[name]]
            assert list(map(repr, found[name])) == list(map(repr, expected)), name


@pytest.mark.fault("F27", "days of 23, 24 and 25 hours in Berlin, by both drivers")
@pytest.mark.parametrize(("day", "hours"), [(date(2021, 3, 28), 23), (date(2021, 10, 31), 25), (DAY, 24)])
def test_day_on_which_clocks_change_has_each_of_its_instants(project: Project, day: date, hours: int) -> None:
    project.cursor.execute("CREATE TABLE t (id INT PRIMARY KEY AUTO_INCREMENT, at TIMESTAMP(6) NULL, KEY (at))")
    noon = datetime(day.year, day.month, day.day, 12)
    moments = [noon + timedelta(minutes=30 * number, microseconds=1) for number in range(-96, 97)]
    project.cursor.executemany("INSERT INTO t (at) VALUES (%s)", [(moment,) for moment in moments])
    project.configure("lake", timezone="Europe/Berlin")
    project.configure("table.t", **SINCE)

    found = read_arrow(load_by_both(project, "t", day), project.folder)["at"]

    # The zone of March 28th begins at +01:00, that of October 31st at +02:00.
    first = noon - timedelta(hours=14 if day.month == 10 else 13)
    assert len(found) == hours * 2
    assert found[0] == (first + timedelta(microseconds=1)).replace(tzinfo=UTC)
    expected = [moment for moment in moments if first <= moment < first + timedelta(hours=hours)]
    assert found == [moment.replace(tzinfo=UTC) for moment in expected]


@pytest.mark.fault("F27", "wall times that a clock skips or has twice")
def test_wall_time_that_a_clock_skips_or_has_twice_stays(project: Project) -> None:
    project.cursor.execute("CREATE TABLE t (id INT PRIMARY KEY, at DATE, wall DATETIME(6))")
    walls = [datetime(2021, 3, 28, 2, 30, 0, 1), datetime(2021, 10, 31, 2, 30, 0, 999999)]
    project.cursor.executemany(f"INSERT INTO t VALUES (%s, '{DAY}', %s)", enumerate(walls))
    project.configure("lake", timezone="Europe/Berlin")
    project.configure("table.t", **SINCE)

    assert read_arrow(load_by_both(project, "t", DAY), project.folder)["wall"] == walls


@pytest.mark.fault("F29", "two values of 17 MB in one row")
def test_values_larger_than_a_packet_of_the_protocol_are_whole(project: Project) -> None:
    project.cursor.execute("CREATE TABLE big (id INT PRIMARY KEY, at DATE, bytes LONGBLOB, words LONGTEXT)")
    project.cursor.execute(f"INSERT INTO big VALUES (1, '{DAY}', REPEAT(0x00FF, 8500000), REPEAT('é', 8500000))")
    project.configure("table.big", **SINCE)

    columns = read_arrow(load_by_both(project, "big", DAY), project.folder)

    assert columns["bytes"] == [b"\0\xff" * 8500000]
    assert columns["words"] == ["é" * 8500000]
