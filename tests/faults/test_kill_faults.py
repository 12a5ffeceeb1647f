"""Loads that are killed: at every point that has a name, at random, and with all their processes: F1, F2, F4."""

import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

import pytest
from conftest import add_large_reports
from invariants import wait_until_alone
from processes import group_members, wait_until
from project import days_ago
from trial import Trial

slow = pytest.mark.slow_fault
MOST_S = 2.5  # about the seconds of the loads that are killed
KILLS = int(os.environ.get("FAULT_KILLS", "200"))
HEAL_EVERY = 5

# The point, whether the day is published by then, and how often its rows are asked for until it is healed.
POINTS = [
    ("query", False, 2),
    ("extract", False, 2),
    ("unstamped", False, 2),
    ("extracted", False, 1),
    ("decode", False, 1),
    ("footer", False, 1),
    ("PutObject", False, 1),
    ("in PutObject", False, 1),
    ("published", True, 1),
]
PARTS = [
    ("CreateMultipartUpload", False),
    ("UploadPart", False),
    ("in UploadPart", False),
    ("CompleteMultipartUpload", False),
    ("published", True),
]


@pytest.fixture
def multipart(trial: Trial) -> Trial:
    """A trial of one day whose file is sent in two parts."""
    trial.days = [days_ago(1)]
    add_large_reports(trial.project, trial.days[0], rows=32768, row_bytes=700)
    return trial


def crash_at(
    trial: Trial, point: str, whole_run: bool, *arguments: str, exempt: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Run a load that is killed at a point, and take the fault away."""
    environment = dict(trial.project.environment)
    trial.project.environment |= {"CRASH_AT": point} | ({"CRASH_RUN": "1"} if whole_run else {})
    run = trial.run(
        *arguments, cause=r"reports \S+: the process that was at it was killed", module="crashing", exempt=exempt,
        ended_by=signal.SIGKILL if whole_run else None,
    )  # fmt: skip
    trial.project.environment = environment
    assert run.code == (-signal.SIGKILL if whole_run else 30 if trial.missing else 0)
    if not whole_run:
        assert re.search(r"INFO: Task \S+_reports_\w+ died unexpectedly with exit code -9", run.output)
        assert re.search("ERROR: reports: 1 of 1 closed|INFO: reports: all 1 closed", run.output.splitlines()[-1])


@pytest.mark.fault("F1", "SIGKILL of the task's process, or of the whole run, at each point of a load")
@pytest.mark.parametrize("whole_run", [False, True], ids=["the process", "the whole run"])
@pytest.mark.parametrize(("point", "is_published", "queries"), POINTS)
@slow
def test_a_load_that_is_killed_leaves_the_day_or_none(
    trial: Trial, point: str, is_published: bool, queries: int, whole_run: bool
) -> None:
    trial.days = [days_ago(1)]
    add_large_reports(trial.project, trial.days[0], rows=1024, row_bytes=1024)

    crash_at(trial, point, whole_run)

    assert trial.missing == ([] if is_published else trial.days)
    trial.heal()
    # What was staged whole is used again, what is a part never.
    assert len(trial.mysql.answers()) == queries


@slow
@pytest.mark.fault("F1", "SIGKILL of the task's process, or of the whole run, at each point of an upload in parts")
@pytest.mark.parametrize("whole_run", [False, True], ids=["the process", "the whole run"])
@pytest.mark.parametrize(("point", "is_published"), PARTS)
def test_an_upload_in_parts_that_is_killed_leaves_the_day_or_none(
    multipart: Trial, point: str, is_published: bool, whole_run: bool
) -> None:
    crash_at(multipart, point, whole_run)

    assert multipart.missing == ([] if is_published else multipart.days)
    multipart.heal()
    assert len(multipart.mysql.answers()) == 1


@slow
@pytest.mark.fault(
    "F1", "SIGKILL of a run that loads a day again, at each point: the old object stays, or the new one is there"
)
@pytest.mark.parametrize(
    ("point", "is_published"),
    [("extract", False), ("footer", False), ("PutObject", False), ("in PutObject", False), ("published", True)],
)
def test_a_day_that_is_loaded_again_by_a_killed_run_is_the_old_one_or_the_new(
    trial: Trial, point: str, is_published: bool
) -> None:
    trial.days = [days_ago(1)]
    add_large_reports(trial.project, trial.days[0], rows=1024, row_bytes=1024)
    trial.heal()
    before = find_etag(trial)
    trial.project.cursor.execute("UPDATE reports SET account = account + 1")
    time.sleep(1)
    since = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S+00:00}"
    is_old = {} if is_published else {"I2": "the rows have changed since the day was loaded, which is not replaced"}

    crash_at(trial, point, True, "--loaded-since", since, exempt=is_old)

    assert (find_etag(trial) != before) == is_published
    again = trial.run("--loaded-since", since)
    assert again.code == 0
    assert find_etag(trial) != before
    trial.lost.clear()  # I2 of the run that was killed
    trial.heal()


def find_etag(trial: Trial) -> str:
    """Return the ETag of the one day's object."""
    head = trial.project.s3.head_object(Bucket=trial.project.bucket, Key=trial.project.key(trial.days[0]))
    return str(head["ETag"])


@slow
@pytest.mark.fault("F1", "SIGKILL of the task's process: the error lines say so")
def test_a_process_that_is_killed_is_said_to_be_the_cause(small: Trial) -> None:
    small.project.environment["CRASH_AT"] = "extract"

    run = small.run(cause=r"reports \S+: .*killed", module="crashing")

    assert run.code == 30
    del small.project.environment["CRASH_AT"]
    small.heal()


@slow
@pytest.mark.fault(
    "F1", "SIGKILL of the task's process with the lock on all results, before or after it hands its own over"
)
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("point", ["result", "no result"])
def test_a_process_that_is_killed_with_the_lock_on_results_stops_nothing(
    small: Trial, point: str, workers: int
) -> None:
    small.project.environment["CRASH_AT"] = point

    run = small.run("--workers", str(workers), module="crashing", within_s=60)

    assert run.code == 0
    assert "WARNING: a process was killed while it handed over its result: the others go on without it" in run.output
    del small.project.environment["CRASH_AT"]
    small.heal()


def kill_at_random(trial: Trial, chance: random.Random) -> str:
    """Kill the run, its parent or one of its other processes after a random time; return what was done."""
    after_s, who = chance.uniform(0.3, MOST_S), chance.choice(["run", "parent", "process"])
    done = f"{who} after {after_s:.3f} s"

    def kill(process: subprocess.Popen[str]) -> None:
        due = time.monotonic() + after_s
        while (left := due - time.monotonic()) > 0 and process.poll() is None:
            time.sleep(min(left, 0.005))
        others = [member for member in group_members(process.pid) if member != process.pid]
        chosen = [*others, process.pid] if who == "run" else [process.pid] if who == "parent" else others[:1]
        for member in chosen:
            try:
                os.kill(member, signal.SIGKILL)
            except ProcessLookupError:  # it has just ended by itself
                continue

    reported = trial.lost.copy()
    process = trial.project.start("Backfill", "--table", "reports", "--workers", "2")
    try:
        kill(process)
        output, _ = process.communicate(timeout=60)
    finally:
        alone = wait_until_alone(process.pid)
    trial.runs += 1
    trial.is_healed = False
    assert alone == "", f"{done}: {alone}\n{output}"
    assert trial._find_unequal() == "", f"{done}\n{output}"
    assert process.returncode in (0, 30, 35, -signal.SIGKILL), f"{done}\n{output}"
    assert (process.returncode == 0) <= (trial.missing == []), f"{done}\n{output}"
    assert trial.lost == reported
    return done


def check_random_kills(trial: Trial, seed: int, kills: int, bytes_per_s: int) -> None:
    """Kill so many loads of three days at random, and heal each fifth: some begin with what several have left."""
    chance = random.Random(seed)
    trial.days = [days_ago(days) for days in (3, 2, 1)]
    add_large_reports(trial.project, trial.days[0], rows=3 * 1024, row_bytes=1024)
    trial.project.cursor.execute("UPDATE reports SET date_start = date_start + INTERVAL id % 3 DAY")
    trial.project.configure("table.reports", slice_mb="1")
    for number in range(kills):
        trial.mysql.bytes_per_s = bytes_per_s
        trial.project.remove_days(trial.days)
        done = kill_at_random(trial, chance)
        print(f"seed {seed}, kill {number}: {done}, {len(trial.missing)} of 3 days missing")  # noqa: T201
        if number % HEAL_EVERY == HEAL_EVERY - 1 or number == kills - 1:
            trial.heal()


@pytest.mark.fault("F2", "SIGKILL of a run, its parent or one of its processes after a random time")
def test_a_load_that_is_killed_at_random_heals(trial: Trial) -> None:
    seed = int(os.environ.get("FAULT_SEED", str(random.randrange(2**32))))
    print(f"FAULT_SEED={seed}")  # noqa: T201

    check_random_kills(trial, seed, 2, bytes_per_s=0)


@slow
@pytest.mark.fault("F2", "SIGKILL of a run, its parent or one of its processes after a random time")
def test_loads_that_are_killed_at_random_heal(trial: Trial) -> None:
    seed = int(os.environ.get("FAULT_SEED", str(random.randrange(2**32))))
    print(f"FAULT_SEED={seed}")  # noqa: T201

    check_random_kills(trial, seed, KILLS, bytes_per_s=8_000_000)


@slow
@pytest.mark.fault("F4", "SIGKILL of the parent of four workers")
def test_processes_of_a_parent_that_is_killed_are_gone_in_two_seconds(trial: Trial) -> None:
    trial.days = [days_ago(days) for days in (4, 3, 2, 1)]
    add_large_reports(trial.project, trial.days[0], rows=4096, row_bytes=1024)
    trial.project.cursor.execute("UPDATE reports SET date_start = date_start + INTERVAL id % 4 DAY")
    trial.mysql.bytes_per_s = 100_000
    gone_s = []

    def kill_parent(process: subprocess.Popen[str]) -> None:
        wait_until(lambda: len(trial.mysql.answers()) == 4, seconds=30)
        assert len(group_members(process.pid)) == 5
        os.kill(process.pid, signal.SIGKILL)
        began = time.monotonic()
        assert wait_until_alone(process.pid, 2) == ""
        gone_s.append(timedelta(seconds=time.monotonic() - began))

    trial.run("--workers", "4", during=kill_parent, ended_by=signal.SIGKILL)

    assert gone_s[0] < timedelta(seconds=2)
    assert trial.missing == trial.days
    trial.mysql.lift()
    assert trial.s3.count()["PutObject"] == 0
    trial.heal()
    assert trial.s3.statuses("PutObject") == [200] * 4
