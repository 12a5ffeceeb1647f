"""Runs that are told to end, and processes that are ended: nothing runs on, nothing is left."""

import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import group_members, wait_until
from project import Project, days_ago, last_days

from luigi_jobs import process, watch
from luigi_jobs.watch import Work

DRIVERS = ["connectorx", "pymysql"]


@pytest.fixture(params=DRIVERS)
def slow(project: Project, request: pytest.FixtureRequest) -> Project:
    """A day of two rows; MySQL thinks for a minute before it sends each."""
    project.add_reports([days_ago(1)], rows=2)
    project.cursor.execute("CREATE VIEW slow AS SELECT *, SLEEP(60) nap FROM reports")
    project.configure("mysql", driver=request.param)
    project.configure("table.slow", date_column="date_start", since=str(days_ago(1)))
    return project


def list_queries(project: Project, of: str = "; rows */") -> list[str]:
    project.cursor.execute("SELECT info FROM information_schema.processlist WHERE info LIKE '%* luigi_jobs %slow%'")
    return [text for (text,) in project.cursor.fetchall() if of in text and "processlist" not in text]


def test_a_stalled_connection_is_given_up_after_read_timeout_s(slow: Project) -> None:
    slow.configure("mysql", read_timeout_s="3")
    began = time.monotonic()

    run = slow.luigi("Backfill", "--table", "slow")

    assert run.returncode == 30, run.stdout
    assert time.monotonic() - began < 30
    assert run.stdout.splitlines()[-1].startswith("ERROR: slow: 1 of 1 closed days missing from the lake")
    if slow.sections["mysql"]["driver"] == "connectorx":
        line = (
            rf"^ERROR: slow {days_ago(1)}: MySQL 127.0.0.1:\d+ has sent nothing for 3 s \(read_timeout_s in \[mysql\]\)"
        )
        assert re.search(line, run.stdout, re.MULTILINE)
    wait_until(lambda: list_queries(slow) == [], seconds=5)
    assert slow.staged() == []


@pytest.mark.parametrize("slow", ["connectorx"], indirect=True)
def test_what_cannot_be_tidied_up_stops_nobody_from_being_watched(slow: Project) -> None:
    slow.cursor.execute("INSERT INTO reports (date_start) VALUES (%s)", (days_ago(2),))
    slow.configure("table.slow", since=str(days_ago(2)))
    slow.configure("mysql", read_timeout_s="3")
    run = slow.start("Backfill", "--table", "slow")
    wait_until(lambda: list_queries(slow) != [], seconds=20)
    stubborn = slow.staging / "slow" / f"date={days_ago(1):%Y%m%d}" / "no file.partial"
    stubborn.mkdir()

    output, _ = run.communicate(timeout=40)

    assert run.returncode == 30
    assert output.count("has sent nothing for 3 s") >= 2
    assert (
        f"cannot sweep {slow.staging}/slow: Is a directory; check [lake] staging_dir; to load: "
        in output.splitlines()[-1]
    )
    assert stubborn.exists()


def test_whatever_goes_wrong_in_watching_is_said_once_and_watching_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looked: list[int] = []

    def look() -> None:
        looked.append(1)
        raise SystemExit if len(looked) > 3 else ValueError

    monkeypatch.setattr(process, "look", look)
    monkeypatch.setattr(process, "LOOK_EVERY_S", 0.0)

    with pytest.raises(SystemExit):
        process._look_again_and_again()

    assert len(looked) == 4
    assert caplog.messages == ["cannot look after the run's processes: ValueError; trying again"]


@pytest.fixture
def uncounted(project: Project) -> Project:
    """A loaded day whose rows MySQL needs minutes to count."""
    project.add_reports([days_ago(1)], rows=2, refresh_days="3")
    assert project.luigi("Backfill", "--table", "reports").returncode == 0
    project.cursor.execute("CREATE VIEW slow AS SELECT * FROM reports WHERE SLEEP(60) = 0")
    project.configure("table.reports", source="slow")
    return project


@pytest.mark.parametrize("is_planned", [True, False], ids=["planning", "loading"])
def test_a_count_is_ended_with_the_run_that_waits_for_it(uncounted: Project, is_planned: bool) -> None:
    if not is_planned:
        uncounted.remove_days([days_ago(1)])
    run = uncounted.start("Backfill", "--table", "reports")
    wait_until(lambda: list_queries(uncounted, of="COUNT(") != [], seconds=20)
    began = time.monotonic()

    os.kill(run.pid, signal.SIGINT)
    output, _ = run.communicate(timeout=10)

    assert run.returncode == 130, output
    assert time.monotonic() - began < 5
    assert "ERROR: stopped by SIGINT" in output.splitlines()[-1]
    assert "Traceback" not in output
    wait_until(lambda: list_queries(uncounted, of="COUNT(") == [], seconds=2)


@pytest.mark.parametrize("is_planned", [True, False], ids=["planning", "loading"])
def test_a_count_is_ended_when_it_is_given_up(uncounted: Project, is_planned: bool) -> None:
    if not is_planned:
        uncounted.remove_days([days_ago(1)])
    uncounted.configure("mysql", read_timeout_s="2")

    run = uncounted.luigi("Backfill", "--table", "reports")

    assert run.returncode == (35 if is_planned else 30), run.stdout
    assert re.search(r"MySQL \S+ has sent nothing for 2 s \(read_timeout_s in \[mysql\]\)", run.stdout)
    wait_until(lambda: list_queries(uncounted, of="COUNT(") == [], seconds=2)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_an_audit_that_is_told_to_end_ends_its_queries(uncounted: Project, number: signal.Signals, code: int) -> None:
    audit = subprocess.Popen(
        [str(Path(sys.executable).with_name("luigi-jobs")), "audit"],
        cwd=uncounted.folder,
        env=uncounted.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: list_queries(uncounted, of="COUNT(") != [], seconds=20)

    audit.send_signal(number)
    _, errors = audit.communicate(timeout=5)

    assert (audit.returncode, errors) == (code, f"ERROR: stopped by {number.name}; nothing was changed\n")
    wait_until(lambda: list_queries(uncounted, of="COUNT(") == [], seconds=2)


def test_what_takes_longer_than_the_timeout_in_all_is_no_stall(project: Project) -> None:
    project.add_reports([days_ago(1)], rows=6)
    project.cursor.execute("CREATE VIEW slow AS SELECT *, SLEEP(1) nap FROM reports")
    project.configure("mysql", read_timeout_s="3")
    project.configure("table.slow", source="reports", date_column="date_start", since=str(days_ago(1)))

    assert project.luigi("Backfill", "--table", "slow").returncode == 0


@pytest.mark.fault("F3", "SIGTERM, SIGINT or SIGHUP, once or twice, while MySQL thinks")
@pytest.mark.parametrize(
    ("sent", "times"),
    [(signal.SIGTERM, 1), (signal.SIGTERM, 2), (signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGHUP, 2)],
)
@pytest.mark.parametrize("slow", ["connectorx"], indirect=True)
def test_a_run_that_is_told_to_end_ends_and_leaves_nothing(slow: Project, sent: signal.Signals, times: int) -> None:
    run = slow.start("Backfill", "--table", "slow", "--workers", "4")
    wait_until(lambda: list_queries(slow) != [], seconds=20)
    began = time.monotonic()

    for _ in range(times):
        os.kill(run.pid, sent) if sent == signal.SIGTERM else os.killpg(run.pid, sent)
    output, _ = run.communicate(timeout=10)

    assert run.returncode == 128 + sent, output
    assert time.monotonic() - began < 5
    last = output.splitlines()[-1]
    assert last.startswith(f"ERROR: stopped by {sent.name} at slow {days_ago(1)}; to go on: luigi --module luigi_jobs")
    assert "Traceback" not in output
    assert group_members(run.pid) == []
    wait_until(lambda: list_queries(slow) == [], seconds=2)
    assert slow.staged() == []
    assert slow.days("slow") == []


@pytest.mark.parametrize(
    "command",
    [
        ["luigi-jobs", "audit"],
        ["luigi", "--module", "luigi_jobs", "Backfill", "--table", "reports", "--local-scheduler"],
    ],
    ids=["audit", "run"],
)
def test_nohup_outlives_the_terminal(uncounted: Project, command: list[str]) -> None:
    program, *arguments = command
    run = subprocess.Popen(
        ["nohup", str(Path(sys.executable).with_name(program)), *arguments],
        cwd=uncounted.folder,
        env=uncounted.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: list_queries(uncounted, of="COUNT(") != [], seconds=20)
    run.send_signal(signal.SIGHUP)
    time.sleep(1)
    still_runs = run.poll() is None
    run.terminate()

    assert (still_runs, run.wait(timeout=5)) == (True, 143)


@pytest.mark.fault("F1", "SIGKILL of a process whose query MySQL still thinks about: the query is ended")
@pytest.mark.parametrize("slow", ["connectorx"], indirect=True)
def test_the_query_of_a_process_that_is_killed_is_ended(slow: Project) -> None:
    run = slow.start("Backfill", "--table", "slow")
    wait_until(lambda: list_queries(slow) != [], seconds=20)
    (child,) = [process for process in group_members(run.pid) if process != run.pid]

    os.kill(child, signal.SIGKILL)
    output, _ = run.communicate(timeout=20)

    assert run.returncode == 30
    assert f"slow: 1 of 1 closed days missing from the lake: {days_ago(1)}; last error: " in output.splitlines()[-1]
    wait_until(lambda: list_queries(slow) == [], seconds=3)
    assert slow.staged() == []


@pytest.mark.fault("F3", "SIGTERM, and the next run goes on, with a local scheduler and under luigid")
def test_a_day_that_a_stopped_run_was_at_is_loaded_by_the_next(project: Project, scheduler: str) -> None:
    project.add_reports(last_days(3))
    project.cursor.execute("CREATE VIEW slow AS SELECT *, SLEEP(0.2) nap FROM reports")
    project.configure("table.slow", date_column="date_start", since=str(days_ago(3)))
    run = project.start("Backfill", "--table", "slow", scheduler=scheduler)
    wait_until(lambda: list_queries(project) != [], seconds=20)
    os.kill(run.pid, signal.SIGTERM)
    run.communicate(timeout=10)

    assert project.luigi("Backfill", "--table", "slow", scheduler=scheduler).returncode == 0
    assert project.days("slow") == last_days(3)


@pytest.mark.parametrize("has_memory_files", [True, False])
def test_shared_memory_is_taken_at_once(monkeypatch: pytest.MonkeyPatch, has_memory_files: bool) -> None:
    if not has_memory_files:
        monkeypatch.delattr(os, "memfd_create")

    file = watch._open_shared(100_000)

    facts = os.fstat(file)
    os.close(file)
    assert (facts.st_size, facts.st_blocks * 512 >= 100_000, facts.st_nlink) == (100_000, True, 0)


def test_no_temporary_folder_is_needed() -> None:
    look = "; print([process.watch.list_work(), process.watch.last_failure('reports')])"
    code = "import tempfile; tempfile.tempdir = '/nowhere'; from luigi_jobs import process" + look

    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "[[], '']\n"


def test_work_is_written_down_and_struck_out() -> None:
    work = Work("reports", "2021-01-31", 7)
    watch.begin(Work("orders", "2021-01-30"))
    watch.begin(work)
    with watch.waiting():
        time.sleep(0.05)
        (seen,) = [seen for seen in watch.list_work() if seen.process == os.getpid()]
        assert (seen.work, seen.waited_s >= 0.05) == (work, True)
    (seen,) = [seen for seen in watch.list_work() if seen.process == os.getpid()]
    assert seen.waited_s == 0

    watch.end(os.getpid())

    assert [seen for seen in watch.list_work() if seen.process == os.getpid()] == []


def test_a_process_is_no_dead_one_because_no_more_files_can_be_opened() -> None:
    living = subprocess.Popen(["sleep", "60"])
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        is_alive = process._is_alive(living.pid)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    living.kill()
    wait_until(lambda: not process._is_alive(living.pid), seconds=5)  # nobody has waited for it
    living.wait()

    assert (is_alive, process._is_alive(living.pid)) == (True, False)
