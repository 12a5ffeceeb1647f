"""Runs of four workers that are told to end, and runs that are stopped for a while and go on: F3, F5."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator

import pytest
from conftest import add_large_reports
from processes import group_members, wait_until
from project import days_ago
from s3_proxy import S3Fault, Silence
from tcp_proxy import Fault
from trial import Trial

DRIVERS = ["connectorx", "pymysql"]
MID_ROW = 300_000
slow = pytest.mark.slow_fault


@pytest.fixture
def four_days(trial: Trial) -> Trial:
    """A trial of four days of some 1.5 MB, by a line so slow that none is loaded within ten seconds."""
    trial.days = [days_ago(days) for days in (4, 3, 2, 1)]
    add_large_reports(trial.project, trial.days[0], rows=4096, row_bytes=1024)
    trial.project.cursor.execute("UPDATE reports SET date_start = date_start + INTERVAL id % 4 DAY")
    trial.mysql.bytes_per_s = 100_000
    return trial


@slow
@pytest.mark.fault("F3", "SIGTERM, SIGINT or SIGHUP, once or twice, while four workers read")
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("sent", "times"),
    [(signal.SIGTERM, 1), (signal.SIGTERM, 2), (signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGHUP, 1)],
)
def test_a_run_that_is_told_to_end_leaves_nothing_and_goes_on_later(
    four_days: Trial, sent: signal.Signals, times: int, driver: str
) -> None:
    four_days.project.configure("mysql", driver=driver)

    def tell(process: subprocess.Popen[str]) -> None:
        wait_until(lambda: len(four_days.mysql.answers()) == 4, seconds=30)
        for _ in range(times):
            # Ctrl-C in a terminal, or its end, goes to all of the group, SIGTERM of cron or systemd to the parent.
            (os.kill if sent == signal.SIGTERM else os.killpg)(process.pid, sent)
        wait_until(lambda: process.poll() is not None, seconds=5)

    run = four_days.run("--workers", "4", during=tell, ended_by=sent)

    assert run.code == 128 + sent
    assert four_days.missing == four_days.days
    four_days.heal()


@slow
@pytest.mark.fault("F3", "SIGTERM while a day is sent, and again while S3 is silent to what tidies up")
def test_a_run_that_is_told_again_while_it_tidies_up_ends_in_time(small: Trial) -> None:
    sending, tidying = Silence(), Silence()
    small.s3.faults = [S3Fault("PutObject", sending), S3Fault("ListMultipartUploads", tidying)]

    def tell_twice(process: subprocess.Popen[str]) -> None:
        wait_until(lambda: sending.since, seconds=30)
        began = time.monotonic()
        process.terminate()
        wait_until(lambda: tidying.since, seconds=2)
        time.sleep(began + 2.4 - time.monotonic())  # beginning anew would take too long by now
        assert process.poll() is None
        process.terminate()
        wait_until(lambda: process.poll() is not None, seconds=began + 5 - time.monotonic())

    try:
        run = small.run(during=tell_twice, ended_by=signal.SIGTERM)
    finally:
        sending.end()
        tidying.end()

    assert f"ERROR: stopped by SIGTERM at reports {small.days[1]}; to go on: luigi " in run.output.splitlines()[-1]
    assert small.missing == small.days
    small.heal()


@pytest.fixture
def impatient_server(large: Trial) -> Iterator[Trial]:
    """A trial of one day of one query, of a server that gives up clients who take nothing for a second."""
    large.project.configure("table.reports", slice_mb="16")
    cursor = large.project.cursor
    cursor.execute("SELECT @@global.net_write_timeout")
    ((before,),) = cursor.fetchall()
    cursor.execute("SET GLOBAL net_write_timeout=1")
    yield large
    cursor.execute(f"SET GLOBAL net_write_timeout={before}")


def stop_until_lost(trial: Trial, choose: Callable[[int], list[int]], group: list[int]) -> Callable[[], None]:
    """Return what stops processes of the run until the server has given up the query that they read."""

    def list_queries() -> tuple[tuple[int], ...]:
        trial.project.cursor.execute(
            "SELECT id FROM information_schema.processlist WHERE user = %s AND info LIKE '%%/* luigi_jobs %%'",
            (trial.user,),
        )
        return tuple(trial.project.cursor.fetchall())

    def stop() -> None:
        chosen = choose(group[0])
        for process in chosen:
            os.kill(process, signal.SIGSTOP)
        assert len(list_queries()) == 1
        wait_until(lambda: list_queries() == (), seconds=30)
        for process in chosen:
            os.kill(process, signal.SIGCONT)

    return stop


@slow
@pytest.mark.fault("F5", "SIGSTOP of the process that reads, or of the whole run, until the server has given it up")
@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("whole_run", [False, True], ids=["the process", "the whole run"])
def test_a_reader_that_was_stopped_for_too_long_never_takes_a_part_for_the_day(
    impatient_server: Trial, whole_run: bool, driver: str
) -> None:
    trial = impatient_server
    trial.project.configure("mysql", driver=driver)
    group: list[int] = []
    choose = group_members if whole_run else (lambda leader: [each for each in group_members(leader) if each != leader])
    trial.mysql.fault = Fault(stop_until_lost(trial, choose, group), MID_ROW, times=1)

    run = trial.run(during=lambda process: group.append(process.pid))

    assert run.code == 0
    assert run.output.count("trying once more") == 1
    assert len(trial.mysql.answers()) == 2
    trial.heal()


@slow
@pytest.mark.fault("F5", "SIGSTOP of the process that reads for longer than read_timeout_s, and no SIGCONT")
def test_a_process_that_does_not_wake_up_is_given_up(large: Trial) -> None:
    large.project.configure("mysql", read_timeout_s="2")
    large.project.configure("table.reports", slice_mb="16")
    large.mysql.fault = Fault("stall", MID_ROW, times=1)

    def stop(process: subprocess.Popen[str]) -> None:
        wait_until(lambda: large.mysql.hits == 1, seconds=30)
        (child,) = [each for each in group_members(process.pid) if each != process.pid]
        os.kill(child, signal.SIGSTOP)

    run = large.run(during=stop, within_s=30, cause=r"reports \S+: MySQL \S+ has sent nothing for 2 s")

    assert run.code == 30
    assert large.missing == large.days
    large.heal()
