"""A day slice by slice: every row once, whatever the table, and whatever goes wrong with a slice."""

import logging
import time
from collections.abc import Iterator
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from project import Project, without_footer

from luigi_jobs import files, reader, retry, slices
from luigi_jobs.day_of_table import open_day
from luigi_jobs.errors import LostConnectionError, SchemaError, SourceError, StagingError
from luigi_jobs.pipeline import decode_day, extract_day, load_day

DAY = date(2021, 1, 31)
DRIVERS = ["connectorx", "pymysql"]


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slices of a few hundred rows, and no waiting before a second attempt."""
    monkeypatch.setattr(slices, "FIRST_SLICE_BYTES", 4096)
    monkeypatch.setattr(reader, "MB", 16 * 1024)
    monkeypatch.setattr(retry, "WAIT_S", (0.0, 0.0))


@pytest.fixture
def queries(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The conditions of the queries that are run."""
    original = reader.stream_rows
    run: list[str] = []

    def stream_rows(settings: Any, source: Any, query: Any) -> Any:
        run.append(query.condition)
        return original(settings, source, query)

    monkeypatch.setattr(reader, "stream_rows", stream_rows)
    return run


def make_table(project: Project, columns: str, day_of: str, **keys: str) -> None:
    """Make the table t of 4,096 rows over four days; `day_of` is the SQL expression of `n` for a row's day."""
    project.add_numbers(4096)
    project.cursor.execute(f"CREATE TABLE t ({columns}, body VARCHAR(100))")
    project.cursor.execute(f"INSERT INTO t (id, at, body) SELECT n, {day_of}, REPEAT('x', n % 50) FROM numbers")
    project.cursor.execute("ANALYZE TABLE t")
    project.configure("table.t", **({"date_column": "at", "since": "2021-01-01", "slice_mb": "1"} | keys))
    project.load()


def load_and_check(project: Project) -> pa.Table:
    """Load the day, and hold its rows against a plain SELECT."""
    one = open_day("t", DAY)
    for step in (extract_day, decode_day, load_day):
        step(one)
    rows = project.read(DAY, "t")
    project.cursor.execute("SELECT id, body FROM t WHERE at >= '2021-01-31' AND at < '2021-02-01'")
    assert sorted(zip(*(rows[name].to_pylist() for name in ("id", "body")), strict=True)) == sorted(
        project.cursor.fetchall()
    )
    assert project.staged() == []
    return rows


SHAPES = {
    "dense": ("id INT PRIMARY KEY, at DATE, KEY (at)", "'2021-01-28' + INTERVAL (n - 1) DIV 1024 DAY"),
    "interleaved days": ("id INT PRIMARY KEY, at DATE, KEY (at)", "'2021-01-28' + INTERVAL n % 4 DAY"),
    "interleaved moments": (
        "id INT PRIMARY KEY, at DATETIME(6), KEY (at)",
        "'2021-01-28' + INTERVAL n % 4 DAY + INTERVAL n * 20000001 MICROSECOND",
    ),
    "key of account and id": (
        "account INT DEFAULT 1, id INT, at DATE, PRIMARY KEY (account, id), KEY (at)",
        "'2021-01-28' + INTERVAL n % 4 DAY",
    ),
    "key of date and id": ("id INT, at DATE, PRIMARY KEY (at, id)", "'2021-01-28' + INTERVAL n % 4 DAY"),
    "key of moment and id": (
        "id INT, at DATETIME(6), PRIMARY KEY (at, id)",
        "'2021-01-28' + INTERVAL n % 4 DAY + INTERVAL n * 20000001 MICROSECOND",
    ),
    "partial dates": (
        "id INT PRIMARY KEY, at DATE, KEY (at)",
        "IF(n % 4 = 3, IF(n % 8 = 3, '2021-02-00', '2021-01-31'), '2021-01-30')",
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("driver", "connections"), [("connectorx", 1), ("connectorx", 3), ("pymysql", 1), ("pymysql", 3)]
)
def test_every_row_comes_once_in_many_slices(
    project: Project, queries: list[str], shape: str, driver: str, connections: int
) -> None:
    project.configure("mysql", driver=driver)
    make_table(project, *SHAPES[shape], connections=str(connections))
    if "account" in shape:
        project.cursor.execute("UPDATE t SET account = id % 7")

    rows = load_and_check(project)

    assert rows.num_rows == 1024
    assert len(set(queries)) >= 4


@pytest.mark.parametrize("columns", ["id INT, at DATE, KEY (at)", "id VARCHAR(20) PRIMARY KEY, at DATE, KEY (at)"])
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_table_without_a_usable_key_is_one_select(
    project: Project, queries: list[str], columns: str, driver: str
) -> None:
    project.configure("mysql", driver=driver)
    make_table(project, columns, "'2021-01-28' + INTERVAL n % 4 DAY")

    assert load_and_check(project).num_rows == 1024
    assert len(queries) == 1


def test_a_day_in_slices_is_the_same_bytes_by_both_drivers_and_many_connections(project: Project) -> None:
    make_table(project, *SHAPES["dense"])
    objects = set()
    for driver, connections, first in [("connectorx", 1, 4096), ("connectorx", 4, 9999), ("pymysql", 2, 20_000)]:
        slices.FIRST_SLICE_BYTES = first
        project.configure("mysql", driver=driver)
        project.configure("table.t", connections=str(connections))
        project.load()
        project.remove_days([DAY], "t")
        load_and_check(project)
        body = project.s3.get_object(Bucket=project.bucket, Key=project.key(DAY, "t"))["Body"].read()
        objects.add(without_footer(body))

    assert len(objects) == 1


@pytest.mark.parametrize("connections", [1, 3])
@pytest.mark.parametrize("failing", [1, 3])
def test_a_slice_that_is_lost_halfway_is_read_again_and_not_the_day(
    project: Project, monkeypatch: pytest.MonkeyPatch, queries: list[str], connections: int, failing: int
) -> None:
    make_table(project, *SHAPES["dense"], connections=str(connections))
    monkeypatch.setattr(reader, "BATCH_BYTES", 2048)
    original = reader.stream_rows
    lost: list[str] = []

    def lose_one(settings: Any, source: Any, query: Any) -> Iterator[pa.RecordBatch]:
        for number, batch in enumerate(original(settings, source, query)):
            yield batch
            if number == 1 and not lost and len(queries) >= failing:
                lost.append(query.condition)
                raise LostConnectionError("lost; the next run tries again")

    monkeypatch.setattr(reader, "stream_rows", lose_one)

    load_and_check(project)

    assert len(lost) == 1
    assert queries.count(lost[0]) == 2
    assert len(queries) == len(set(queries)) + 1


def test_a_slice_that_is_lost_twice_fails_the_day_and_leaves_nothing(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_table(project, *SHAPES["dense"], connections="2")

    def lose(settings: Any, source: Any, query: Any) -> Iterator[pa.RecordBatch]:
        yield from ()
        raise LostConnectionError("MySQL was lost; the next run tries again")

    monkeypatch.setattr(reader, "stream_rows", lose)

    with pytest.raises(SourceError, match=f"t {DAY}: MySQL was lost"):
        extract_day(open_day("t", DAY))
    assert project.staged() == []


@pytest.mark.parametrize(
    "change", ["INSERT INTO t (id, at) VALUES (%s, '2021-01-31')", "DELETE FROM t WHERE id = 900 + %s"]
)
@pytest.mark.parametrize("times", [1, 2])
def test_a_day_that_moves_while_it_is_read_in_slices_is_read_again(
    project: Project, monkeypatch: pytest.MonkeyPatch, change: str, times: int
) -> None:
    make_table(project, *SHAPES["dense"])
    project.cursor.execute("DELETE FROM t WHERE id IN (3080, 3081)")
    original = reader.stream_rows
    changed: list[int] = []
    attempts: list[str] = []

    def stream_rows(settings: Any, source: Any, query: Any) -> Any:
        if "BETWEEN 3073 " in query.condition:
            attempts.append(query.condition)
        elif len(changed) < min(times, len(attempts)):  # a row of the slice that was read, or of one that was not
            changed.append(3080 + len(changed))
            project.cursor.execute(change, (changed[-1],))
        return original(settings, source, query)

    monkeypatch.setattr(reader, "stream_rows", stream_rows)

    if times == 1:
        load_and_check(project)
        return
    with pytest.raises(SourceError, match=r"rows arrived and MySQL counts [\d,]+ \([\d,]+ before\)"):
        extract_day(open_day("t", DAY))
    assert project.staged() == []


def test_zero_dates_of_one_slice_are_counted_and_guard_the_rest(project: Project, queries: list[str]) -> None:
    make_table(project, "id INT PRIMARY KEY, at DATE, seen DATETIME, KEY (at)", SHAPES["dense"][1])
    project.cursor.execute("UPDATE t SET seen = IF(id IN (3500, 3501, 4000), '2021-00-00', '2021-01-01')")

    rows = load_and_check(project)

    assert rows["seen"].null_count == 3
    assert len(queries) == len(set(queries)) + 1
    footer = pa.parquet.read_metadata(project.folder / "read.parquet").metadata
    assert footer[b"luigi_jobs.zero_dates"] == b'{"seen": 3}'


@pytest.mark.parametrize("driver", DRIVERS)
def test_zero_dates_are_an_error_where_the_table_says_so(project: Project, driver: str) -> None:
    project.configure("mysql", driver=driver)
    make_table(project, "id INT PRIMARY KEY, at DATE, seen DATETIME, KEY (at)", SHAPES["dense"][1], zero_dates="error")
    project.cursor.execute("UPDATE t SET seen = IF(id = 3500, '2021-00-00', NULL)")

    with pytest.raises(SchemaError) as caught:
        extract_day(open_day("t", DAY))

    assert str(caught.value) == (
        f"t {DAY}: column seen of row id=3500 holds 2021-00-00 00:00:00, which is no real date; correct it, or set "
        "`zero_dates = null` in [table.t]"
    )
    assert project.staged() == []


@pytest.mark.parametrize("columns", ["id INT PRIMARY KEY, at DATE, KEY (at)", "id INT, at DATE, KEY (at)"])
@pytest.mark.parametrize("connections", ["1", "3"])
def test_values_far_larger_than_expected_never_come_in_one_batch(
    project: Project, monkeypatch: pytest.MonkeyPatch, columns: str, connections: str, caplog: pytest.LogCaptureFixture
) -> None:
    large = "large LONGTEXT AS (IF(id BETWEEN 3700 AND 3899, REPEAT('y', 2000000), 'z')) VIRTUAL"
    make_table(project, f"{columns}, {large}", SHAPES["dense"][1], connections=connections)
    monkeypatch.setattr(slices, "FEW_POINTS", 64)
    monkeypatch.setattr(reader, "MOST_BATCH_BYTES", 16 * 1024 * 1024)
    original = reader.stream_rows
    largest: dict[str, int] = {"connectorx": 0, "pymysql": 0}

    def stream_rows(settings: Any, source: Any, query: Any) -> Iterator[pa.RecordBatch]:
        for batch in original(settings, source, query):
            largest[settings.driver] = max(largest[settings.driver], batch.nbytes)
            yield batch

    monkeypatch.setattr(reader, "stream_rows", stream_rows)

    with caplog.at_level(logging.INFO, "luigi-interface"):
        rows = load_and_check(project)

    assert "bytes: reading a part of it again, with care" in caplog.text
    assert pc.sum(pc.binary_length(rows["large"])).as_py() == 200 * 2000000 + 824
    assert max(largest.values()) < 9_000_000
    assert largest["pymysql"] > 2_000_000


@pytest.mark.parametrize("driver", DRIVERS)
def test_a_query_that_nobody_reads_any_more_is_ended(
    project: Project, monkeypatch: pytest.MonkeyPatch, driver: str
) -> None:
    make_table(project, *SHAPES["dense"])
    project.cursor.execute("CREATE VIEW slow AS SELECT t.*, REPEAT('x', 9999) wide, SLEEP(0.1) nap FROM t")
    project.configure("table.slow", date_column="at", since="2021-01-01")
    project.configure("mysql", driver=driver)
    project.load()
    monkeypatch.setattr(reader, "CAREFUL_BATCH_ROWS", 4)
    monkeypatch.setattr(reader, "MAX_BATCH_ROWS", 4)

    def refuse(self: files.ExtractWriter, batch: pa.RecordBatch) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.ExtractWriter, "write", refuse)
    with pytest.raises(StagingError, match="No space left"):
        extract_day(open_day("slow", DAY))

    deadline = time.monotonic() + 10  # the query would go on for 100 s
    while True:
        project.cursor.execute(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE id <> CONNECTION_ID() AND info LIKE '%nap%'"
        )
        if project.cursor.fetchone() == (0,):
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)
