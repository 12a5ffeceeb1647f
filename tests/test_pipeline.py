import logging
import shutil
import subprocess
import sys
import threading
from datetime import date
from typing import Any

import pyarrow as pa
import pytest
from luigi.rpc import RPCError
from project import Project, days_ago, today, without_footer

from luigi_jobs import extract, reader, retry
from luigi_jobs.day_of_table import DayOfTable, open_day
from luigi_jobs.errors import (
    DecodeError,
    LakeError,
    LuigiJobsError,
    NotClosedError,
    SchemaError,
    SourceError,
    StagingError,
)
from luigi_jobs.pipeline import decode_day, extract_day, load_day
from luigi_jobs.progress import Progress
from luigi_jobs.stored_days import Lake

DAY = days_ago(1)


@pytest.fixture
def one(project: Project) -> DayOfTable:
    """One closed day of reports; its project's settings are those of this process."""
    project.add_reports([DAY])
    project.load()
    return open_day("reports", DAY)


def run_steps(one: DayOfTable) -> None:
    extract_day(one)
    decode_day(one)
    load_day(one)


@pytest.mark.parametrize("driver", ["connectorx", "pymysql"])
def test_steps_bring_a_day_to_the_lake_and_clean_up(project: Project, driver: str) -> None:
    project.configure("mysql", driver=driver)
    project.add_reports([DAY], rows=3000)
    project.load()
    one = open_day("reports", DAY)

    extract_day(one)
    assert project.staged() == [f"reports/date={DAY:%Y%m%d}/{name}" for name in ("extract.arrow", "made_by.json")]
    decode_day(one)
    assert project.staged() == [f"reports/date={DAY:%Y%m%d}/{name}" for name in ("decoded.parquet", "made_by.json")]
    load_day(one)

    assert project.staged() == []
    project.check_reports([DAY])
    assert project.read(DAY).schema == pa.schema(
        [
            ("id", pa.int64()),
            ("date_start", pa.date32()),
            ("account", pa.int32()),
            ("spend", pa.decimal128(12, 4)),
            ("decoded", pa.binary()),
        ]
    )


@pytest.mark.fault("F28", "a day without rows, step by step")
def test_a_day_without_rows_is_a_file_with_the_full_schema(project: Project) -> None:
    project.add_reports([days_ago(2)])
    project.load()

    for day in (days_ago(2), DAY):
        run_steps(open_day("reports", day))

    empty = project.read(DAY)
    assert empty.num_rows == 0
    assert empty.schema == project.read(days_ago(2)).schema


def test_a_day_loaded_again_is_the_same_bytes_under_the_same_key(project: Project, one: DayOfTable) -> None:
    run_steps(one)
    first = without_footer(project.s3.get_object(Bucket=project.bucket, Key=project.key(DAY))["Body"].read())
    project.remove_days([DAY])

    run_steps(one)

    again = without_footer(project.s3.get_object(Bucket=project.bucket, Key=project.key(DAY))["Body"].read())
    assert again == first


def test_steps_of_a_published_day_do_nothing(project: Project, one: DayOfTable) -> None:
    project.put_days([DAY])

    run_steps(one)

    assert project.s3.get_object(Bucket=project.bucket, Key=project.key(DAY))["Body"].read() == b"x"
    assert project.staged() == []


def test_a_day_that_is_not_closed_is_refused_by_every_step_that_could_begin_it(project: Project) -> None:
    project.add_reports([today()])
    project.load()

    for day in (today(), today().replace(year=today().year + 1, day=1)):
        with pytest.raises(NotClosedError, match=rf"reports {day} is not closed: the last closed day is {DAY}"):
            extract_day(open_day("reports", day))
        with pytest.raises(NotClosedError):
            load_day(open_day("reports", day))
    assert project.keys() == []


@pytest.mark.parametrize(("missed", "appeared", "fails"), [(1, 0, True), (1, 2, True), (0, 2, False)])
def test_rows_that_arrive_are_held_against_the_count(
    project: Project, one: DayOfTable, monkeypatch: pytest.MonkeyPatch, missed: int, appeared: int, fails: bool
) -> None:
    original = reader.stream_rows

    def stream_fewer(*arguments: Any) -> Any:
        for batch in original(*arguments):
            yield batch.slice(missed)
        for _ in range(appeared):
            project.cursor.execute(f"INSERT INTO reports (date_start) VALUES ('{DAY}')")

    monkeypatch.setattr(reader, "stream_rows", stream_fewer)
    monkeypatch.setattr(retry, "WAIT_S", (0.0, 0.0))
    if fails:
        with pytest.raises(SourceError, match=rf"reports {DAY}: \d+ rows arrived and MySQL counts \d+ \(2\d before\)"):
            extract_day(one)
        assert project.staged() == []
    else:
        extract_day(one)


def test_rows_written_between_count_and_query_are_no_error(
    project: Project, one: DayOfTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = reader.stream_rows
    project.cursor.execute("DELETE FROM reports WHERE id = 10")

    def stream_later(*arguments: Any) -> Any:
        project.cursor.execute(f"INSERT INTO reports (id, date_start) VALUES (10, '{DAY}')")
        return original(*arguments)

    monkeypatch.setattr(reader, "stream_rows", stream_later)

    run_steps(one)

    assert project.read(DAY).num_rows == 20


def test_dates_that_are_none_become_null_with_a_warning(project: Project, caplog: pytest.LogCaptureFixture) -> None:
    project.add_reports([DAY])
    project.cursor.execute("ALTER TABLE reports ADD COLUMN seen DATETIME, MODIFY spend DECIMAL(12,4)")
    project.cursor.execute("UPDATE reports SET seen = IF(id % 2, '0000-00-00', '2021-01-01')")
    project.load()

    with caplog.at_level(logging.WARNING, "luigi-interface"):
        run_steps(open_day("reports", DAY))

    assert project.read(DAY)["seen"].null_count == 10
    assert f"reports {DAY}: values that are no real dates became NULL: 10 in seen" in caplog.text


def test_a_value_that_cannot_be_decoded_names_table_day_and_row(project: Project, one: DayOfTable) -> None:
    project.cursor.execute("UPDATE reports SET encoded = 'abc*' WHERE id = 4")
    extract_day(one)

    with pytest.raises(DecodeError) as caught:
        decode_day(one)

    assert str(caught.value) == (
        f"reports {DAY}: cannot decode encoded: row id=4 holds 'abc*', which is not base64; "
        "repair the row, change the rule, or set `on_decode_error = null` in [table.reports]"
    )
    assert (caught.value.table, caught.value.day, caught.value.column) == ("reports", DAY, "encoded")
    assert project.keys() == []


def test_a_row_that_is_repaired_heals_by_the_next_run(project: Project, one: DayOfTable) -> None:
    project.cursor.execute("UPDATE reports SET encoded = 'abc*' WHERE id = 4")
    extract_day(one)
    with pytest.raises(DecodeError):
        decode_day(one)
    assert project.staged() == []
    project.cursor.execute("UPDATE reports SET encoded = NULL WHERE id = 4")

    run_steps(one)

    project.check_reports([DAY])


@pytest.mark.parametrize(
    ("statement", "message"),
    [
        (
            "ALTER TABLE reports ADD COLUMN `Date` INT",
            "column Date is called like the partition key: set `partition_key`",
        ),
        ("ALTER TABLE reports ADD COLUMN decoded INT", "the table has a column decoded already"),
        ("ALTER TABLE reports MODIFY encoded INT", "column encoded is int32, which holds nothing to decode"),
    ],
)
def test_a_schema_that_cannot_be_is_refused_before_a_row_is_read(
    project: Project, statement: str, message: str
) -> None:
    project.add_reports([DAY], rows=0)
    project.cursor.execute(statement)
    project.load()

    with pytest.raises(SchemaError, match=f"reports {DAY}: .*{message}"):
        extract_day(open_day("reports", DAY))
    assert project.staged() == []


@pytest.mark.fault("F31", "a column called like the partition key")
def test_a_column_called_like_the_partition_key_loads_under_another_key(project: Project) -> None:
    project.add_reports([DAY], rows=1)
    project.cursor.execute("ALTER TABLE reports ADD COLUMN `date` INT")
    project.configure("lake", partition_key="day")
    project.load()

    run_steps(open_day("reports", DAY))

    assert project.keys() == [f"{project.prefix}/reports/day={DAY:%Y%m%d}/reports.parquet"]


def test_a_day_that_needs_more_room_than_there_is_is_refused_before_the_query(
    project: Project, one: DayOfTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.cursor.execute("ANALYZE TABLE reports")
    monkeypatch.setattr(extract, "ROOM_FACTOR", 10**12)

    with pytest.raises(StagingError, match=rf"reports {DAY}: .*bytes free and the day needs about"):
        extract_day(one)
    assert project.staged() == []


def test_two_threads_of_work_on_one_day_wait_for_each_other(project: Project, one: DayOfTable) -> None:
    said: list[str] = []
    with one.folder.locked():
        other = threading.Thread(target=extract_day, args=(one, said.append))
        other.start()
        while not said:
            other.join(0.05)
        assert said == ["waiting for another run that works on this day"]
        assert not one.folder.extract.exists()
    other.join()

    assert one.folder.extract.exists()


def test_lake_that_refuses_leaves_no_day_on_the_disk(project: Project, one: DayOfTable) -> None:
    extract_day(one)
    decode_day(one)
    url = project.sections["lake"]["url"]
    project.configure("lake", url="s3://no-such-bucket")
    project.load()

    with pytest.raises(LakeError, match=rf"reports {DAY}: .*bucket no-such-bucket does not exist"):
        load_day(open_day("reports", DAY))

    assert project.staged() == []
    project.configure("lake", url=url)
    project.load()
    run_steps(open_day("reports", DAY))
    project.check_reports([DAY])


def test_a_day_that_was_published_does_not_fail_for_want_of_its_staging(
    project: Project, one: DayOfTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract_day(one)
    decode_day(one)
    publish = Lake.publish

    def publish_and_lose(*arguments: Any) -> bool:
        is_ours = publish(*arguments)
        shutil.rmtree(project.staging)
        return is_ours

    monkeypatch.setattr(Lake, "publish", publish_and_lose)

    load_day(one)

    assert not project.staging.exists()
    project.check_reports([DAY])


@pytest.mark.parametrize("lost", ["before", "while it is sent", "unreadable"])
def test_a_staged_file_that_is_lost_is_an_error_of_one_line(
    project: Project, one: DayOfTable, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    extract_day(one)
    decode_day(one)
    publish = Lake.publish

    def lose_and_publish(*arguments: Any) -> bool:
        shutil.rmtree(project.staging)
        return publish(*arguments)

    if lost == "before":
        shutil.rmtree(project.staging)
    elif lost == "unreadable":
        one.folder.decoded.unlink()
        one.folder.decoded.mkdir()
    else:
        monkeypatch.setattr(Lake, "publish", lose_and_publish)

    with pytest.raises(StagingError, match=rf"reports {DAY}: cannot use what is staged in \S+: .+; the next run reads"):
        load_day(one)

    assert project.days() == []


def test_errors_are_lines(one: DayOfTable) -> None:
    assert str(LuigiJobsError("one\n  two\tthree")) == "one two three"


@pytest.mark.parametrize(
    ("rows", "total", "expected"),
    [(50, 200, "50 of 200 rows (25 %)"), (0, 0, "0 of 0 rows (100 %)"), (9, 3, "(100 %)")],
)
def test_progress_tells_rows_and_percentage(rows: int, total: int, expected: str) -> None:
    messages: list[str] = []
    percentages: list[int] = []

    Progress("reports 2021-01-31", total, messages.append, percentages.append).finish(rows)

    assert expected in messages[0]
    assert percentages == [min(100, rows * 100 // total) if total else 100]


def test_progress_is_reported_at_intervals_and_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter(range(0, 1000, 1))
    monkeypatch.setattr("luigi_jobs.progress.time.monotonic", lambda: float(next(clock)))
    percentages: list[int] = []
    progress = Progress("reports 2021-01-31", 100, None, percentages.append)

    with caplog.at_level(logging.INFO, "luigi-interface"):
        for rows in range(0, 100, 10):
            progress(rows)

    assert percentages == [10, 30, 50, 70, 90]
    assert "reports 2021-01-31: " in caplog.text


def test_progress_survives_a_scheduler_that_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    def refuse(message: str) -> None:
        raise RPCError("gone")

    progress = Progress("reports 2021-01-31", 100, refuse, None)
    progress.finish(1)
    progress.finish(2)

    assert caplog.text.count("the scheduler takes no progress") == 1


def test_extract_reports_its_rows(one: DayOfTable) -> None:
    messages: list[str] = []
    percentages: list[int] = []

    extract_day(one, messages.append, percentages.append)

    assert messages[-1].startswith("20 of 20 rows (100 %)")
    assert percentages[-1] == 100


def test_unknown_table_names_the_section(one: DayOfTable) -> None:
    with pytest.raises(LuigiJobsError, match=r"unknown table 'nope': luigi.cfg has no section \[table.nope\]"):
        open_day("nope", date(2021, 1, 1))


@pytest.mark.parametrize("rows", [0, 20])
def test_pandas_is_not_imported_for_a_table_without_a_transform(project: Project, rows: int) -> None:
    project.add_reports([DAY], rows=rows)
    code = (
        "import sys, datetime, luigi_jobs.pipeline as p; from luigi_jobs.day_of_table import open_day; "
        f"one = open_day('reports', datetime.date.fromisoformat('{DAY}')); p.check_table('reports'); "
        "p.extract_day(one); p.decode_day(one); p.load_day(one); print('pandas' in sys.modules)"
    )
    environment = project.environment | {"LUIGI_CONFIG_PATH": "luigi.cfg"}

    run = subprocess.run(
        [sys.executable, "-c", code], cwd=project.folder, env=environment, capture_output=True, text=True, check=False
    )

    assert (run.stdout, run.returncode) == ("False\n", 0), run.stderr
