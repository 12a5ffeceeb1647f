"""Queries that MySQL ends, and rows that change while they are read: F10, F25."""

import re
from collections.abc import Callable

import pytest
from project import Project
from tcp_proxy import ALWAYS, Fault
from trial import Trial

DRIVERS = ["connectorx", "pymysql"]
MID_ROW = 300_000
slow = pytest.mark.slow_fault


@pytest.fixture
def one_slice(large: Trial) -> Trial:
    """A trial of one day of some 6 MB, which is one query."""
    large.project.configure("table.reports", slice_mb="16")
    return large


def kill(trial: Trial, what: str) -> Callable[[], None]:
    """Return what ends the queries for rows that run at that moment."""

    def kill_now() -> None:
        cursor = trial.project.cursor
        cursor.execute(
            "SELECT id FROM information_schema.processlist WHERE user = %s AND info LIKE '%%luigi_jobs %%; rows */%%'",
            (trial.user,),
        )
        for (identifier,) in cursor.fetchall():
            cursor.execute(f"KILL {what} {identifier}")

    return kill_now


@pytest.mark.fault("F10", "KILL QUERY or KILL CONNECTION in the middle of the rows, once")
@pytest.mark.parametrize(
    ("what", "driver"),
    [
        ("CONNECTION", "connectorx"),
        pytest.param("CONNECTION", "pymysql", marks=slow),
        pytest.param("QUERY", "connectorx", marks=slow),
        pytest.param("QUERY", "pymysql", marks=slow),
    ],
)
def test_a_query_that_is_killed_is_asked_again(one_slice: Trial, what: str, driver: str) -> None:
    one_slice.project.configure("mysql", driver=driver)
    one_slice.mysql.fault = Fault(kill(one_slice, what), MID_ROW, times=1)

    run = one_slice.run()

    assert run.code == 0
    assert one_slice.mysql.hits == 1
    assert run.output.count("trying once more") == 1
    one_slice.heal()


@slow
@pytest.mark.fault("F10", "KILL QUERY or KILL CONNECTION in the middle of the rows, every time")
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("what", ["CONNECTION", "QUERY"])
def test_a_query_that_is_killed_twice_leaves_no_day(one_slice: Trial, what: str, driver: str) -> None:
    one_slice.project.configure("mysql", driver=driver)
    one_slice.mysql.fault = Fault(kill(one_slice, what), MID_ROW)

    run = one_slice.run(cause=r"LostConnectionError: reports \S+: MySQL \S+: .*; the next run tries again")

    assert run.code == 30
    assert one_slice.missing == one_slice.days
    assert one_slice.mysql.hits == 2
    one_slice.heal()


@slow
@pytest.mark.fault("F10", "rows come so slowly that the query reaches its time limit on the server")
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_query_that_reaches_its_limit_says_so(one_slice: Trial, driver: str) -> None:
    one_slice.project.configure("mysql", driver=driver, statement_timeout_s="1")
    one_slice.mysql.bytes_per_s = 1_000_000

    run = one_slice.run(
        cause=r"LostConnectionError: reports \S+: MySQL \S+: .*(max_statement_time|maximum statement).*; the next"
    )

    assert run.code == 30
    assert len(re.findall(r"(max_statement_time|maximum statement).*; trying once more", run.output)) == 1
    assert len(one_slice.mysql.answers()) == 2
    assert one_slice.missing == one_slice.days
    one_slice.heal()


def insert_a_row(project: Project, day: object) -> Callable[[], None]:
    def insert() -> None:
        project.cursor.execute("INSERT INTO reports (date_start, account, encoded) VALUES (%s, 7, 'QQ==')", (day,))

    return insert


@slow
@pytest.mark.fault("F25", "a row is added to a day while it is read by one query")
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_day_of_one_query_is_one_snapshot(one_slice: Trial, driver: str) -> None:
    one_slice.project.configure("mysql", driver=driver)
    one_slice.mysql.fault = Fault(insert_a_row(one_slice.project, one_slice.days[0]), MID_ROW, times=1)

    run = one_slice.run(exempt={"I2": "the row came after the snapshot was taken"})

    assert run.code == 0
    assert 7 not in one_slice.project.read(one_slice.days[0])["account"].to_pylist()
    one_slice.lost.clear()
    one_slice.heal(lambda: one_slice.project.cursor.execute("DELETE FROM reports WHERE account = 7"))


@slow
@pytest.mark.fault("F25", "a row is added to a day while it is read in slices, once")
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_day_that_moves_between_slices_is_read_again(large: Trial, driver: str) -> None:
    large.project.configure("mysql", driver=driver)
    large.mysql.fault = Fault(insert_a_row(large.project, large.days[0]), MID_ROW, times=1)

    run = large.run()

    assert run.code == 0
    assert large.project.read(large.days[0]).num_rows == 4097
    large.heal()


@slow
@pytest.mark.fault("F25", "rows are added to a day as long as it is read in slices")
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_day_that_keeps_moving_is_left_for_the_next_run(large: Trial, driver: str) -> None:
    large.project.configure("mysql", driver=driver)
    large.mysql.fault = Fault(insert_a_row(large.project, large.days[0]), MID_ROW, times=ALWAYS)

    run = large.run(cause=r"MovedError: reports \S+: [\d,]+ rows arrived and MySQL counts [\d,]+ .*the next run tries")

    assert run.code == 30
    assert large.missing == large.days
    large.heal()
