"""The peak memory of a LoadDay, as the kernel counts it, whatever the day."""

import sys
from datetime import date
from pathlib import Path

import pytest
from _bench_measure import run
from project import ROOT, Project

MB = 1024 * 1024
DAY = date(2021, 1, 31)


@pytest.fixture
def days(project: Project) -> Project:
    """The tables `small` of 20,000 rows of 130 bytes, `large` of 640,000, and `huge` of 60 rows of 4 MB."""
    project.add_numbers(655360)
    columns = "id INT PRIMARY KEY, at DATE, account INT, body VARCHAR(100), encoded VARCHAR(100), KEY (at)"
    for table, rows in [("small", 20_000), ("large", 640_000)]:
        project.cursor.execute(f"CREATE TABLE {table} ({columns})")
        project.cursor.execute(
            f"INSERT INTO {table} SELECT n, '{DAY}', n % 100, CONCAT(SHA1(n), SHA1(-n)), TO_BASE64(SHA1(n)) "
            f"FROM numbers WHERE n <= {rows}"
        )
        keys = {"date_column": "at", "since": str(DAY), "slice_mb": "16", "decode": "encoded -> decoded: base64"}
        project.configure(f"table.{table}", **keys)
    huge = "document LONGTEXT AS (REPEAT(SHA1(id), 100000)) VIRTUAL"
    project.cursor.execute(f"CREATE TABLE huge (id INT PRIMARY KEY, at DATE, {huge}, KEY (at))")
    project.cursor.execute(f"INSERT INTO huge (id, at) SELECT n, '{DAY}' FROM numbers WHERE n <= 60")
    project.configure("table.huge", date_column="at", since=str(DAY))
    return project


def measure(project: Project, table: str, module: str = "luigi_jobs") -> int:
    """The peak of the largest process, in bytes, while the day is loaded."""
    luigi = Path(sys.executable).with_name("luigi")
    arguments = ["LoadDay", "--table", table, "--date", str(DAY), "--local-scheduler", "--no-lock"]
    environment = project.environment | {"PYTHONPATH": str(ROOT / "tests")}
    return run(
        [luigi, "--module", module, *arguments], project.folder / "log", project.folder, environment
    ).peak_process_bytes


@pytest.mark.fault("F29", "the memory of a large day, of a slow disk and of large values")
def test_memory_does_not_grow_with_the_day_the_disk_or_the_values(days: Project) -> None:
    small, large = measure(days, "small"), measure(days, "large")
    days.remove_days([DAY], "large")
    slow = measure(days, "large", module="slow_disk")
    huge = measure(days, "huge")

    assert days.read(DAY, "large").num_rows == 640_000
    assert days.read(DAY, "huge").num_rows == 60
    assert large < 1.5 * small
    assert slow < large + 24 * MB  # a slice may wait
    assert huge < 350 * MB
