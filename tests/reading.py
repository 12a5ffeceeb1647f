"""A day taken to the lake by either driver, and its Parquet file read by two readers that share no code."""

import json
from datetime import UTC, date, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
from project import Project, without_footer

from luigi_jobs.day_of_table import open_day
from luigi_jobs.pipeline import decode_day, extract_day, load_day

DRIVERS = ["connectorx", "pymysql"]

Columns = dict[str, list[Any]]


def load_object(project: Project, driver: str, table: str, day: date) -> bytes:
    """Take a day through all steps by a driver, and return its object, which is removed from the lake."""
    project.configure("mysql", driver=driver)
    project.load()
    one = open_day(table, day)
    for step in (extract_day, decode_day, load_day):
        step(one)
    data: bytes = project.s3.get_object(Bucket=project.bucket, Key=project.key(day, table))["Body"].read()
    project.remove_days([day], table)
    return data


def load_by_both(project: Project, table: str, day: date) -> bytes:
    """Return the object of a day, after a look whether both drivers make the same bytes of it."""
    first, second = (load_object(project, driver, table, day) for driver in DRIVERS)
    assert without_footer(first) == without_footer(second)
    return first


def count_zero_dates(data: bytes) -> dict[str, int]:
    """Return what a Parquet file's footer says of the dates that were none."""
    counts: dict[str, int] = json.loads(pq.ParquetFile(BytesIO(data)).metadata.metadata[b"luigi_jobs.zero_dates"])
    return counts


def read_arrow(data: bytes, folder: Path) -> Columns:
    """Read a Parquet file by pyarrow."""
    columns: Columns = pq.ParquetFile(BytesIO(data)).read().to_pydict()
    return {name: list(map(to_utc, column)) for name, column in columns.items()}


def read_duckdb(data: bytes, folder: Path) -> Columns:
    """Read a Parquet file by DuckDB."""
    path = folder / "read.parquet"
    path.write_bytes(data)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone='UTC'")
        relation = connection.read_parquet(str(path))
        names = [(quote(name), str(kind)) for name, kind in zip(relation.columns, relation.types, strict=True)]
        # DuckDB needs pytz to make a datetime with a zone.
        selected = [f"make_timestamp(epoch_us({name}))" if "ZONE" in kind else name for name, kind in names]
        rows = relation.project(", ".join(selected)).fetchall()
        columns = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in names]
        for column, (_, kind) in zip(columns, names, strict=True):
            if "ZONE" in kind:
                column[:] = [value and value.replace(tzinfo=UTC) for value in column]
        return dict(zip(relation.columns, columns, strict=True))


def to_utc(value: Any) -> Any:
    return value.astimezone(UTC) if isinstance(value, datetime) and value.tzinfo else value


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


READERS = [read_arrow, read_duckdb]
