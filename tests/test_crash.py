"""A load that is killed leaves the old day or none; the plain command, run again, heals everything."""

import json
import os
import signal
import time
from datetime import date
from pathlib import Path

import pytest
from processes import group_members, wait_until
from project import Project, days_ago, last_days

from luigi_jobs import pipeline

DAY = days_ago(1)


def open_uploads(project: Project) -> list[str]:
    answer = project.s3.list_multipart_uploads(Bucket=project.bucket, Prefix=f"{project.prefix}/")
    return [upload["Key"] for upload in answer.get("Uploads", ())]


def add_large_day(project: Project, day: date) -> None:
    """Fill a day whose Parquet file takes more than one part: 24 MB that do not compress."""
    project.add_reports([], since=str(day))
    project.add_numbers(32768)
    project.cursor.execute(
        "INSERT INTO reports (date_start, account, spend, encoded) "
        f"SELECT '{day}', 1, 1.5, TO_BASE64(RANDOM_BYTES(768)) FROM numbers"
    )


@pytest.mark.fault(
    "F1", "SIGKILL of the task's process, or of the whole run: what is left in staging, and what becomes of it"
)
@pytest.mark.parametrize("whole_run", [False, True], ids=["the task's process", "the whole run"])
@pytest.mark.parametrize(
    ("point", "day_is_there", "staged", "swept"),
    [
        ("extract", False, ["extract.arrow.partial"], []),
        (
            "decode",
            False,
            ["decoded.parquet.partial", "extract.arrow", "made_by.json"],
            ["extract.arrow", "made_by.json"],
        ),
        ("PutObject", False, ["decoded.parquet", "made_by.json"], ["decoded.parquet", "made_by.json"]),
        ("published", True, ["decoded.parquet", "made_by.json"], []),
    ],
)
def test_killed_load_leaves_the_whole_day_or_none_and_heals(
    project: Project, point: str, day_is_there: bool, staged: list[str], swept: list[str], whole_run: bool
) -> None:
    project.add_reports([DAY], rows=500)
    project.environment |= {"CRASH_AT": point} | ({"CRASH_RUN": "1"} if whole_run else {})

    killed = project.luigi("Backfill", "--table", "reports", module="crashing")

    assert killed.returncode == (-signal.SIGKILL if whole_run else 0 if day_is_there else 30)
    assert project.days() == ([DAY] if day_is_there else [])
    assert [Path(path).name for path in project.staged()] == (staged if whole_run else swept)

    del project.environment["CRASH_AT"]
    again = project.luigi("Backfill", "--table", "reports", module="crashing")

    assert again.returncode == 0, again.stdout
    project.check_reports([DAY])
    assert project.staged() == []


@pytest.mark.fault("F1", "SIGKILL in an upload in parts: no upload stays open")
@pytest.mark.parametrize("point", ["UploadPart", "CompleteMultipartUpload"])
@pytest.mark.parametrize("whole_run", [True, False])
def test_killed_multipart_upload_leaves_no_day_and_no_upload_behind(
    project: Project, point: str, whole_run: bool
) -> None:
    add_large_day(project, DAY)
    project.environment |= {"CRASH_AT": point} | ({"CRASH_RUN": "1"} if whole_run else {})

    killed = project.luigi("Backfill", "--table", "reports", module="crashing")

    assert killed.returncode == (-signal.SIGKILL if whole_run else 30)
    assert project.days() == []
    assert open_uploads(project) == ([project.key(DAY)] if whole_run else [])

    del project.environment["CRASH_AT"]
    assert project.luigi("Backfill", "--table", "reports").returncode == 0
    project.check_reports([DAY])
    assert open_uploads(project) == []
    assert project.staged() == []


def test_killed_load_leaves_the_old_object_until_the_new_one_stands(project: Project) -> None:
    project.add_reports([DAY])
    project.environment["CRASH_AT"] = "PutObject"
    project.put_days([DAY])

    # A day that stands is not loaded again, so nothing can crash.
    assert project.luigi("Backfill", "--table", "reports", module="crashing").returncode == 0
    assert project.s3.get_object(Bucket=project.bucket, Key=project.key(DAY))["Body"].read() == b"x"


@pytest.mark.fault("F1", "SIGKILL before the PUT: a whole staged day is used again")
def test_what_a_killed_run_staged_is_used_again_without_reading_mysql(project: Project) -> None:
    project.add_reports([DAY])
    project.environment["CRASH_AT"] = "PutObject"
    project.luigi("Backfill", "--table", "reports", module="crashing")
    del project.environment["CRASH_AT"]
    project.cursor.execute("UPDATE reports SET account = 99")

    assert project.luigi("Backfill", "--table", "reports").returncode == 0

    assert 99 not in project.read(DAY)["account"].to_pylist()


@pytest.mark.fault("F1", "SIGKILL before the PUT, and settings, schema, rows or time move on: the day is read again")
@pytest.mark.parametrize("change", ["settings", "schema", "rows", "age"])
def test_what_a_killed_run_staged_is_read_again_when_it_was_made_otherwise(project: Project, change: str) -> None:
    project.add_reports([DAY])
    project.environment["CRASH_AT"] = "PutObject"
    project.luigi("Backfill", "--table", "reports", module="crashing")
    del project.environment["CRASH_AT"]
    project.cursor.execute("UPDATE reports SET account = 99")
    if change == "settings":
        project.configure("table.reports", decode="encoded -> text: base64 | utf8")
    elif change == "schema":
        project.cursor.execute("ALTER TABLE reports ADD COLUMN text INT")
    elif change == "rows":
        project.cursor.execute(f"INSERT INTO reports (date_start) VALUES ('{DAY}')")
    else:
        (stamp,) = project.staging.rglob("made_by.json")
        made_by = json.loads(stamp.read_text())
        stamp.write_text(json.dumps(made_by | {"extracted_at": time.time() - pipeline.REUSE_S - 1}))

    assert project.luigi("Backfill", "--table", "reports").returncode == 0

    assert 99 in project.read(DAY)["account"].to_pylist()
    assert project.staged() == []


def test_staging_of_a_killed_run_is_swept_even_when_nothing_is_missing(project: Project) -> None:
    project.add_reports([DAY])
    project.environment |= {"CRASH_AT": "published", "CRASH_RUN": "1"}
    project.luigi("Backfill", "--table", "reports", module="crashing")
    assert project.staged() != []
    del project.environment["CRASH_AT"]

    assert project.luigi("Backfill", "--table", "reports").returncode == 0

    assert project.staged() == []


@pytest.mark.fault("F4", "SIGKILL or SIGTERM of the parent of four workers while MySQL thinks")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_killed_parent_takes_its_workers_with_it(project: Project, sent: signal.Signals) -> None:
    project.add_reports(last_days(4))
    project.cursor.execute("CREATE VIEW slow AS SELECT *, SLEEP(0.5) nap FROM reports")
    project.configure("table.slow", date_column="date_start", since=str(days_ago(4)))

    run = project.start("Backfill", "--table", "slow", "--workers", "4")
    wait_until(lambda: len(group_members(run.pid)) >= 5)
    os.kill(run.pid, sent)
    run.communicate(timeout=10)

    assert run.returncode == (-sent if sent == signal.SIGKILL else 128 + sent)
    wait_until(lambda: group_members(run.pid) == [])
    assert project.days("slow") == []
