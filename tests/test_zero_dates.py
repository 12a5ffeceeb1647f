import logging
from datetime import UTC, date, datetime

import pytest
from project import Project
from reading import DRIVERS, count_zero_dates, load_by_both, load_object, read_arrow

from luigi_jobs import slices
from luigi_jobs.errors import SchemaError

DAY = date(2021, 1, 31)
ROWS = 1200


@pytest.fixture
def dated(project: Project) -> Project:
    """A day with dates that are none in three columns, of every sort that MySQL can be made to hold."""
    project.cursor.execute("SET SESSION sql_mode='ALLOW_INVALID_DATES'")
    project.cursor.execute(
        "CREATE TABLE dated (id INT PRIMARY KEY, at DATE, d DATE, t DATETIME(6), s TIMESTAMP NULL, fine DATE)"
    )
    rows = [
        ("0000-00-00", "0000-00-00 00:00:00", "0000-00-00"),
        ("2021-00-00", "2021-00-00 01:02:03", "2021-01-01"),
        ("2021-02-00", "2021-02-28 00:00:00", None),
        ("2021-02-31", "2021-02-30 23:59:59.999999", "2021-01-01"),
        ("0000-01-01", "2021-01-01 00:00:00", "2021-01-01"),
        ("2020-02-29", "0000-00-10 00:00:00", "2021-01-01"),
        (None, None, None),
    ]
    project.cursor.executemany(
        f"INSERT INTO dated VALUES (%s, '{DAY}', %s, %s, %s, '9999-12-31')",
        [(number, *row) for number, row in enumerate(rows)],
    )
    project.cursor.execute("SET SESSION sql_mode=''")
    project.configure("table.dated", date_column="at", since="2021-01-01")
    return project


def make_long_day(project: Project, zero: int, column: str = "d") -> None:
    """Make a day that is read in many slices, of which one has a row with a date that is none."""
    project.add_numbers(ROWS)
    project.cursor.execute(
        "CREATE TABLE long_day (id INT PRIMARY KEY, at DATE, d DATE, t DATETIME, body VARCHAR(1000), KEY (at))"
    )
    project.cursor.execute(
        f"INSERT INTO long_day SELECT n, '{DAY}', '2021-02-03', '2021-02-03 04:05:06', REPEAT('x', 1000) "
        f"FROM numbers WHERE n <= {ROWS}"
    )
    project.cursor.execute(f"UPDATE long_day SET {column} = '0000-00-00' WHERE id = %s", (zero,))
    project.cursor.execute("ANALYZE TABLE long_day")
    project.configure("table.long_day", date_column="at", since="2021-01-01", slice_mb="1")


@pytest.fixture
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slices, "FIRST_SLICE_BYTES", 64 * 1024)


def test_dates_that_are_none_are_null_and_counted_in_the_footer_by_column(dated: Project) -> None:
    data = load_by_both(dated, "dated", DAY)

    columns = read_arrow(data, dated.folder)
    assert columns["d"] == [None, None, None, None, None, date(2020, 2, 29), None]
    assert columns["t"] == [None, None, datetime(2021, 2, 28), None, datetime(2021, 1, 1), None, None]
    new_year = datetime(2021, 1, 1, tzinfo=UTC)
    assert columns["s"] == [None, new_year, None, new_year, new_year, new_year, None]
    assert columns["fine"] == [date(9999, 12, 31)] * 7
    assert count_zero_dates(data) == {"d": 5, "t": 4, "s": 1}


@pytest.mark.parametrize("driver", DRIVERS)
def test_dates_that_are_none_are_one_warning_for_the_day(
    dated: Project, driver: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "luigi-interface"):
        load_object(dated, driver, "dated", DAY)

    assert [record.getMessage() for record in caplog.records] == [
        f"dated {DAY}: values that are no real dates became NULL: 5 in d, 1 in s, 4 in t"
    ]


def test_day_without_dates_that_are_none_says_so_and_warns_of_nothing(
    dated: Project, caplog: pytest.LogCaptureFixture
) -> None:
    dated.cursor.execute("DELETE FROM dated WHERE id < 6")

    with caplog.at_level(logging.WARNING, "luigi-interface"):
        assert count_zero_dates(load_by_both(dated, "dated", DAY)) == {}

    assert caplog.records == []


@pytest.mark.parametrize("value", ["0000-01-01", "0000-12-31"])
def test_days_of_the_year_zero_alone_are_null_and_counted(
    dated: Project, value: str, caplog: pytest.LogCaptureFixture
) -> None:
    dated.cursor.execute("UPDATE dated SET d = %s, t = '2021-01-01', s = '2021-01-01'", (value,))
    dated.cursor.execute("UPDATE dated SET t = '0000-03-04 05:06:07.000008', d = '0001-01-01' WHERE id = 2")

    data = load_by_both(dated, "dated", DAY)

    assert read_arrow(data, dated.folder)["d"] == [None, None, date(1, 1, 1), None, None, None, None]
    assert count_zero_dates(data) == {"d": 6, "t": 1}
    assert caplog.text.count("became NULL: 6 in d, 1 in t") == 2


@pytest.mark.parametrize("column", ["d", "t"])
@pytest.mark.parametrize("value", ["0000-00-00", "2021-00-00", "2021-02-00", "0000-05-06"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_date_that_is_none_can_be_an_error_with_column_key_and_value(
    dated: Project, driver: str, value: str, column: str
) -> None:
    dated.cursor.execute("UPDATE dated SET d = '2021-01-01', t = '2021-01-01', s = '2021-01-01'")
    dated.cursor.execute(f"UPDATE dated SET {column} = %s WHERE id = 4", (value,))
    dated.configure("table.dated", zero_dates="error")

    with pytest.raises(SchemaError) as caught:
        load_object(dated, driver, "dated", DAY)

    message = str(caught.value)
    assert f"column {column} of row id=4 holds {value}" in message
    assert "set `zero_dates = null` in" in message
    assert (caught.value.table, caught.value.day) == ("dated", DAY)
    assert (dated.staged(), dated.keys("dated")) == ([], [])


@pytest.mark.parametrize("driver", DRIVERS)
def test_error_names_every_column_of_a_key_and_odd_names(project: Project, driver: str) -> None:
    project.cursor.execute(
        "CREATE TABLE k (`a b` INT, b VARCHAR(9), at DATE, `zero date 0` DATE, PRIMARY KEY (`a b`, b))"
    )
    project.cursor.execute(f"INSERT INTO k VALUES (1, 'x', '{DAY}', '2021-01-01'), (2, 'y%s', '{DAY}', '2021-06-00')")
    project.configure("table.k", date_column="at", since="2021-01-01", zero_dates="error")

    with pytest.raises(SchemaError, match=r"column zero date 0 of row a b=2, b='?y%s'? holds 2021-06-00"):
        load_object(project, driver, "k", DAY)


def test_day_column_with_a_partial_date_belongs_to_the_day_before_and_is_null(project: Project) -> None:
    project.cursor.execute("CREATE TABLE p (id INT PRIMARY KEY, at DATE, KEY (at))")
    project.cursor.execute(
        f"INSERT INTO p VALUES (1, '{DAY}'), (2, '2021-02-00'), (3, '2021-02-01'), (4, '2021-01-00')"
    )
    project.configure("table.p", date_column="at", since="2021-01-01")

    data = load_by_both(project, "p", DAY)

    assert read_arrow(data, project.folder) == {"id": [1, 2], "at": [DAY, None]}
    assert count_zero_dates(data) == {"at": 1}


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("key", ["PRIMARY KEY (id), KEY (at)", "PRIMARY KEY (at, id)"])
def test_partial_date_of_a_day_in_slices_is_loaded_once(
    project: Project, key: str, caplog: pytest.LogCaptureFixture
) -> None:
    project.add_numbers(4 * ROWS)
    project.cursor.execute(f"CREATE TABLE thin (id INT, at DATE, body VARCHAR(1000), {key})")
    project.cursor.execute(
        f"INSERT INTO thin SELECT n, '{DAY}' - INTERVAL n % 4 DAY, REPEAT('x', 1000) FROM numbers WHERE n <= {4 * ROWS}"
    )
    project.cursor.execute("UPDATE thin SET at = '2021-02-00' WHERE id IN (400, 404)")
    project.cursor.execute("ANALYZE TABLE thin")
    project.configure("table.thin", date_column="at", since="2021-01-01", slice_mb="1")

    with caplog.at_level(logging.DEBUG, "luigi-interface"):
        data = load_by_both(project, "thin", DAY)

    assert caplog.text.count("slices along id") == 2
    columns = read_arrow(data, project.folder)
    assert sorted(columns["id"]) == list(range(4, 4 * ROWS + 1, 4))
    assert [number for number, at in zip(columns["id"], columns["at"], strict=True) if at is None] == [400, 404]
    assert count_zero_dates(data) == {"at": 2}


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("zero", [1, ROWS // 2, ROWS])
@pytest.mark.parametrize("connections", ["1", "3"])
def test_dates_that_are_none_in_one_slice_of_many_are_counted_once(
    project: Project, zero: int, connections: str, caplog: pytest.LogCaptureFixture
) -> None:
    make_long_day(project, zero)
    project.configure("table.long_day", connections=connections)

    with caplog.at_level(logging.DEBUG, "luigi-interface"):
        data = load_by_both(project, "long_day", DAY)

    assert caplog.text.count("slices along id") == 2
    assert "one piece" not in caplog.text
    columns = read_arrow(data, project.folder)
    assert columns["id"] == list(range(1, ROWS + 1))
    assert [number for number, value in enumerate(columns["d"], 1) if value != date(2021, 2, 3)] == [zero]
    assert set(columns["t"]) == {datetime(2021, 2, 3, 4, 5, 6)}
    assert count_zero_dates(data) == {"d": 1}
    assert caplog.text.count("values that are no real dates became NULL: 1 in d\n") == 2


@pytest.mark.usefixtures("small_slices")
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("connections", ["1", "3"])
def test_date_that_is_none_in_one_slice_of_many_can_be_an_error(
    project: Project, driver: str, connections: str
) -> None:
    make_long_day(project, ROWS - 7, column="t")
    project.configure("table.long_day", connections=connections, zero_dates="error")

    with pytest.raises(SchemaError, match=rf"column t of row id={ROWS - 7} holds 0000-00-00 00:00:00"):
        load_object(project, driver, "long_day", DAY)
    assert (project.staged(), project.keys("long_day")) == ([], [])
