"""MySQL that cannot be reached, and lines to it that are slow, cut or silent: F6 to F9."""

import re

import pytest
from project import Project
from tcp_proxy import Fault
from trial import Trial

DRIVERS = ["connectorx", "pymysql"]
MID_ROW = 300_000
PING_ANSWER_BYTES = {"connectorx": 11, "pymysql": 0}  # what MySQL still sends when all rows have come
LOST = r"(LostConnectionError|SourceError): reports \S+: MySQL \S+: .*(lost|Lost).*; the next run tries again"
slow = pytest.mark.slow_fault


def break_password(project: Project) -> None:
    project.environment["MYSQL_PASSWORD"] = "wrong"


def break_name(project: Project) -> None:
    project.environment["MYSQL_HOST"] = "no-such-host.invalid"


def break_column(project: Project) -> None:
    project.configure("table.reports", date_column="nope")


def break_rights(project: Project) -> None:
    database = project.cursor.connection.db.decode()
    project.cursor.execute(f"REVOKE SELECT ON `{database}`.* FROM %s@'%%'", (project.environment["MYSQL_USER"],))
    project.cursor.execute(f"GRANT INSERT ON `{database}`.* TO %s@'%%'", (project.environment["MYSQL_USER"],))


def mend(trial: Trial, environment: dict[str, str]) -> None:
    database = trial.project.cursor.connection.db.decode()
    trial.project.environment = environment
    trial.project.configure("table.reports", date_column="date_start")
    trial.project.cursor.execute(f"GRANT SELECT ON `{database}`.* TO %s@'%%'", (trial.user,))


@pytest.mark.fault("F6", "MySQL refuses the connection")
def test_a_server_that_is_down_is_said_at_once(small: Trial) -> None:
    small.mysql.go_down()

    run = small.run(
        cause=r"UnreachableError: reports: cannot reach MySQL \S+: .*refused.*; check \[mysql\] host and port,",
        within_s=10,
    )

    assert run.code == 35
    assert small.missing == small.days
    small.heal()


@slow
@pytest.mark.fault("F6", "MySQL accepts the connection and says nothing")
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_server_that_does_not_greet_is_given_up(small: Trial, driver: str) -> None:
    small.project.configure("mysql", driver=driver, connect_timeout_s="2")
    small.mysql.fault = Fault("stall", on=b"")

    run = small.run(cause=r"UnreachableError: reports: cannot reach MySQL \S+: .*timed out", within_s=10)

    assert run.code == 35
    small.heal()


@slow
@pytest.mark.fault("F6", "wrong name, wrong password, no right to SELECT, unknown column")
@pytest.mark.parametrize(
    ("break_it", "cause"),
    [
        (break_name, r"cannot reach MySQL \S+no-such-host.invalid:\d+: .*; check \[mysql\] host and port"),
        (break_password, r"ConfigError: reports: MySQL \S+ refused the login .*; correct \[mysql\] user and password"),
        (break_rights, r"ConfigError: reports: MySQL \S+: SELECT command denied .*; grant u\w+ SELECT on all of it"),
        (break_column, r"ConfigError: reports: \[table.reports\] date_column: \S+ has no column 'nope'"),
    ],
)
def test_a_refusal_of_mysql_is_said_in_one_line(small: Trial, break_it: object, cause: str) -> None:
    before = dict(small.project.environment)
    break_it(small.project)  # type: ignore[operator]

    run = small.run(cause=cause, within_s=10)

    assert run.code == 35
    assert small.missing == small.days
    small.heal(lambda: mend(small, before))


@slow
@pytest.mark.fault("F7", "200 ms latency, 1 MB/s")
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_slow_line_is_no_error_and_progress_moves(large: Trial, driver: str) -> None:
    large.project.configure("mysql", driver=driver)
    large.project.configure("table.reports", slice_mb="16")
    large.mysql.latency_s, large.mysql.bytes_per_s = 0.2, 1_000_000

    run = large.run(module="small_batches")

    assert run.code == 0
    assert run.seconds > 5
    rows = [int(count) for count in re.findall(r"INFO: reports \S+: (\d+) of 4096 rows", run.output.replace(",", ""))]
    assert len(rows) >= 2
    assert rows == sorted(set(rows))
    large.heal()


@pytest.mark.fault("F8", "one stream of rows is cut or reset: at 0 bytes, in the first header, in a row")
@pytest.mark.parametrize(
    ("driver", "then", "after_bytes"),
    [
        ("connectorx", "reset", MID_ROW),
        *(
            pytest.param(driver, then, after_bytes, marks=slow)
            for driver in DRIVERS
            for then in ("cut", "reset")
            for after_bytes in (0, 3, MID_ROW)
            if (driver, then, after_bytes) != ("connectorx", "reset", MID_ROW)
        ),
    ],
)
def test_a_stream_that_is_lost_once_is_read_again(large: Trial, driver: str, then: str, after_bytes: int) -> None:
    large.project.configure("mysql", driver=driver)
    large.mysql.fault = Fault(then, after_bytes, times=1)

    run = large.run()

    assert run.code == 0
    assert large.mysql.hits == 1
    assert run.output.count("trying once more") == 1
    large.heal()


@slow
@pytest.mark.fault("F8", "every stream of rows is cut or reset: at 0 bytes, in the first header, in a row")
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(("then", "after_bytes"), [("cut", 0), ("reset", 3), ("cut", MID_ROW)])
def test_a_stream_that_is_always_lost_leaves_no_day(large: Trial, driver: str, then: str, after_bytes: int) -> None:
    large.project.configure("mysql", driver=driver)
    large.mysql.fault = Fault(then, after_bytes)

    run = large.run(cause=LOST)

    assert run.code == 30
    assert large.missing == large.days
    assert large.mysql.hits == 2
    large.heal()


@slow
@pytest.mark.fault("F8", "every stream of rows is cut in the last packet, which ends them, or before it")
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("missing_bytes", [1, 9, 10])
def test_rows_without_their_end_are_lost_rows(large: Trial, driver: str, missing_bytes: int) -> None:
    large.project.configure("mysql", driver=driver)
    large.project.configure("table.reports", slice_mb="16")
    large.heal()
    (whole,) = large.mysql.answers()
    large.project.remove_days(large.days)
    large.mysql.fault = Fault("cut", whole - PING_ANSWER_BYTES[driver] - missing_bytes)

    run = large.run(cause=LOST)

    assert run.code == 30
    assert large.missing == large.days
    assert large.mysql.hits == 2
    large.heal()


@slow
@pytest.mark.fault("F9", "streams of rows fall silent and stay open")
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("after_bytes", [0, MID_ROW])
def test_a_silent_stream_is_given_up_after_the_read_timeout(large: Trial, driver: str, after_bytes: int) -> None:
    large.project.configure("mysql", driver=driver, read_timeout_s="2")
    large.mysql.fault = Fault("stall", after_bytes)

    run = large.run(cause=LOST + r"|timed out|has sent nothing for 2 s", within_s=20)

    assert run.code == 30
    assert large.missing == large.days
    large.heal()


@slow
@pytest.mark.fault("F11", "MySQL goes away in the middle of the rows and stays away")
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_server_that_stays_away_leaves_no_day(large: Trial, driver: str) -> None:
    large.project.configure("mysql", driver=driver)
    large.mysql.fault = Fault(large.mysql.go_down, MID_ROW, times=1)

    run = large.run(cause=r"UnreachableError: reports \S+: cannot reach MySQL \S+: ", within_s=20)

    assert run.code == 30
    assert large.missing == large.days
    large.heal()
