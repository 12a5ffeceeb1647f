"""Runs at the same time, a run that comes late, and columns that change while days are loaded: F22 to F24."""

import os
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from conftest import add_large_reports
from processes import wait_until
from project import COMMAND_TIMEOUT_S, days_ago, last_days
from s3_proxy import S3Fault
from trial import Trial

slow = pytest.mark.slow_fault


@pytest.fixture
def six_days(trial: Trial) -> Trial:
    trial.days = last_days(6)
    trial.project.add_reports(trial.days, rows=50)
    return trial


@slow
@pytest.mark.fault("F22", "two or three runs at once, of equal or overlapping ranges, of one or more workers")
@pytest.mark.parametrize(
    "others",
    [
        [[]],
        [[], []],
        [["--start", str(days_ago(4))], ["--stop", str(days_ago(2))]],
        [["--workers", "2"], ["--workers", "2", "--start", str(days_ago(3))]],
    ],
    ids=["two of all days", "three of all days", "three that overlap", "three of two workers"],
)
def test_runs_at_the_same_time_are_all_green(six_days: Trial, others: list[list[str]]) -> None:
    outputs = []

    def run_others(_: object) -> None:
        runs = [six_days.project.start("Backfill", "--table", "reports", *arguments) for arguments in others]
        for run in runs:
            outputs.append(run.communicate(timeout=COMMAND_TIMEOUT_S)[0])
            six_days.runs += 1
            assert run.returncode == 0, outputs[-1]

    run = six_days.run("--workers", "2", during=run_others)

    assert run.code == 0
    assert "ERROR" not in "".join([run.output, *outputs])
    assert six_days.s3.statuses("PutObject").count(200) == 6
    assert len(six_days.mysql.answers()) == 6  # what one run has read no other reads
    six_days.heal()


def stop_and_overtake(trial: Trial, group: list[int], arguments: list[str]) -> Callable[[], None]:
    """Return what stops a run, has a later one from another host publish newer rows, and lets the first go on."""

    def overtake() -> None:
        os.killpg(group[0], signal.SIGSTOP)
        try:
            trial.project.cursor.execute("UPDATE reports SET account = 99")
            trial.project.configure("lake", staging_dir=str(trial.project.folder / "another host"))
            later = trial.project.luigi("Backfill", "--table", "reports", *arguments)
            trial.project.configure("lake", staging_dir=str(trial.project.staging))
        finally:
            os.killpg(group[0], signal.SIGCONT)
        assert later.returncode == 0, later.stdout

    return overtake


@pytest.mark.fault("F23", "a run is stopped at its PUT, or at the completion of its upload, and another overtakes it")
@pytest.mark.parametrize(
    ("kind", "replaces"),
    [
        ("PutObject", False),
        pytest.param("PutObject", True, marks=slow),
        pytest.param("CompleteMultipartUpload", False, marks=slow),
        pytest.param("CompleteMultipartUpload", True, marks=slow),
    ],
)
def test_the_rows_of_the_later_run_stay(trial: Trial, kind: str, replaces: bool) -> None:
    trial.days = [days_ago(1)]
    rows, row_bytes = (64, 64) if kind == "PutObject" else (32768, 700)
    add_large_reports(trial.project, trial.days[0], rows=rows, row_bytes=row_bytes)
    arguments: list[str] = []
    if replaces:
        trial.heal()
        second = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=1)
        wait_until(lambda: datetime.now(UTC) > second)
        arguments = ["--loaded-since", second.isoformat()]
    before = len(trial.s3.statuses(kind))
    group: list[int] = []
    overtake = stop_and_overtake(trial, group, arguments)
    trial.s3.faults = [S3Fault(kind, overtake, times=1)]

    run = trial.run(*arguments, during=lambda process: group.append(process.pid))

    assert run.code == 0
    assert trial.s3.statuses(kind)[before:] == [200, 412]  # the later run's, and then that of the one which was stopped
    assert f"reports {trial.days[0]}: another run has published it as it was later" in run.output
    assert set(trial.project.read(trial.days[0])["account"].to_pylist()) == {99}
    trial.heal()


DDL = {
    "add": ("ADD COLUMN clicks INT DEFAULT 5", "DROP COLUMN clicks"),
    "widen": ("MODIFY account BIGINT", "MODIFY account INT"),
    "drop": ("DROP COLUMN account", "ADD COLUMN account INT AFTER date_start"),
    "rename": ("CHANGE account client INT", "CHANGE client account INT"),
    "narrow": ("MODIFY account SMALLINT", "MODIFY account INT"),
}


def change_after_first_day(trial: Trial, statement: str) -> Callable[[subprocess.Popen[str]], None]:
    """Return what changes the table when the newest of the days that were missing is in the lake."""

    def change(process: subprocess.Popen[str]) -> None:
        wait_until(lambda: trial.s3.statuses("PutObject")[1:2] == [200], seconds=30)
        trial.project.cursor.execute(f"ALTER TABLE reports {statement}")
        assert process.poll() is None, "the run has ended before the table was changed"

    return change


@pytest.fixture
def begun(trial: Trial) -> Trial:
    """A trial of sixteen days of which the newest is in the lake; each takes its time."""
    trial.days = last_days(16)
    trial.project.add_reports(trial.days)
    trial.project.cursor.execute("CREATE TABLE kept AS SELECT id, account FROM reports")
    trial.run("--limit", "1", exempt={"I6": "a limit is no error"})
    return trial


def restore(trial: Trial, statement: str) -> None:
    trial.project.cursor.execute(f"ALTER TABLE reports {statement}")
    trial.project.cursor.execute("UPDATE reports JOIN kept USING (id) SET reports.account = kept.account")


@slow
@pytest.mark.fault("F24", "a column is added or widened while days are loaded")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("add", r"column clicks \(int32\) was gained"),
        ("widen", "column account has changed from int32 to int64"),
    ],
)
def test_a_column_that_is_gained_or_widened_meanwhile_is_said(begun: Trial, change: str, said: str) -> None:
    run = begun.run(during=change_after_first_day(begun, DDL[change][0]))

    assert run.code == 0
    lines = [line for line in run.output.splitlines() if line.startswith("WARNING: reports: since ")]
    assert len([line for line in lines if said.replace("\\", "") in line]) >= 1
    schemas = [begun.project.read(day).schema.remove_metadata() for day in begun.days]
    assert len({str(schema) for schema in schemas}) == 2
    assert schemas[-1] == schemas[-2]
    assert schemas[0] != schemas[-1]
    begun.heal()


@slow
@pytest.mark.fault("F24", "a column is dropped, renamed or narrowed while days are loaded")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("drop", r"column account \(int32\) was lost"),
        ("rename", r"column account \(int32\) was lost"),
        ("narrow", "column account has changed from int32 to int16"),
    ],
)
def test_a_column_that_is_lost_or_changed_meanwhile_stops_the_days_that_follow(
    begun: Trial, change: str, said: str
) -> None:
    run = begun.run(
        during=change_after_first_day(begun, DDL[change][0]),
        cause=rf"SchemaError: reports \S+: since {begun.days[-1]} in the lake {said}: bring it back ",
        exempt={"I2": "MySQL has lost the column"},
    )

    assert run.code == 30
    assert 0 < len(begun.missing) < 15
    begun.heal(lambda: restore(begun, DDL[change][1]))
    schemas = {str(begun.project.read(day).schema.remove_metadata()) for day in begun.days}
    assert len(schemas) == 1


@slow
@pytest.mark.fault("F24", "a column is dropped while the first days of a table are loaded")
def test_a_column_that_is_lost_while_the_first_days_are_loaded_stops_the_days_that_follow(trial: Trial) -> None:
    trial.days = last_days(16)
    trial.project.add_reports(trial.days)
    trial.project.cursor.execute("CREATE TABLE kept AS SELECT id, account FROM reports")

    run = trial.run(
        during=change_after_first_day(trial, DDL["drop"][0]),
        cause=r"SchemaError: reports \S+: .*column account \(int32\) was lost",
        exempt={"I2": "MySQL has lost the column"},
    )

    assert run.code == 30
    trial.heal(lambda: restore(trial, DDL["drop"][1]))
