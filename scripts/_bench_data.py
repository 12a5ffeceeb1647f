"""The tables of scripts/bench: made on the server, the same rows every time, and kept for the next run.

A table's name says how many rows a day it has, and it takes that name only when it is whole.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

import _clients
import boto3
import pymysql

BUCKET = "luigi-jobs-bench"
DAYS = [date(2021, 1, number) for number in range(1, 7)]
DAY = DAYS[3]  # neither at the table's beginning nor at its end
WIDE_ROWS, WIDE_MB = 300, 4
YEARS_DAYS = 3653
NUMBERS = 1 << 17

CREATE_REPORTS = """
CREATE TABLE {table} (
    id          BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    date_start  DATE NOT NULL,
    account     INT,
    campaign    VARCHAR(80) NOT NULL,
    placement   ENUM('feed', 'story', 'search', 'video') NOT NULL,
    impressions INT UNSIGNED NOT NULL,
    clicks      INT NOT NULL,
    spend       DECIMAL(12,4) NOT NULL,
    ctr         DOUBLE NOT NULL,
    updated_at  DATETIME(6) NOT NULL,
    seen_at     TIMESTAMP NULL,
    encoded     VARCHAR(64) NOT NULL,
    KEY (date_start)
) DEFAULT CHARSET = utf8mb4
"""
# `k` numbers the rows of the table: ids that the server gives have gaps behind each statement.
# 48 bytes of hashes are 64 characters of base64.
INSERT_REPORTS = """
INSERT INTO {table} (id, date_start, account, campaign, placement, impressions, clicks, spend, ctr, updated_at, seen_at,
                     encoded)
SELECT k + 1,
       '{day}',
       IF(k % 20 = 0, NULL, 1000 + CRC32(k) % 5000),
       CONCAT('Campaign ', CRC32(k DIV 50) % 400,
              ELT(1 + k % 4, ' Été à Paris', ' spring', ' Große Größen', ' 東京の秋')),
       ELT(1 + CRC32(k + 1) % 4, 'feed', 'story', 'search', 'video'),
       CRC32(k + 2) % 100000,
       CRC32(k + 3) % 3000,
       (CRC32(k + 4) % 100000000) / 10000,
       (CRC32(k + 5) % 1000003) / 1000003e0,
       '{day}' + INTERVAL (k * 7919 % 86400) SECOND + INTERVAL (CRC32(k) % 1000000) MICROSECOND,
       IF(k % 10 = 0, NULL, '{day} 06:00:00' + INTERVAL (CRC32(k) % 40000) SECOND),
       TO_BASE64(UNHEX(CONCAT(SHA2(k, 256), MD5(k))))
FROM (SELECT n + {first} AS k FROM bench_numbers WHERE n < {count} ORDER BY n) AS numbered
"""
CREATE_WIDE = """
CREATE TABLE {table} (
    id          BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
    date_start  DATE NOT NULL,
    document    LONGTEXT CHARACTER SET ascii NOT NULL,
    KEY (date_start)
)
"""
INSERT_WIDE = """
INSERT INTO {table} (date_start, document)
SELECT '{day}', REPEAT(SHA2(n, 256), {repeats}) FROM bench_numbers WHERE n BETWEEN {first} AND {last}
"""


@dataclass(frozen=True)
class Tables:
    """What the tables are called in MySQL; `rows` is the number of rows a day of the large one."""

    rows: int

    @property
    def large(self) -> str:
        return f"reports_{self.rows}"

    @property
    def small(self) -> str:
        return f"reports_{self.small_rows}"

    @property
    def tiny(self) -> str:
        return f"reports_{self.tiny_rows}_one_day"

    @property
    def wide(self) -> str:
        return f"wide_rows_{WIDE_ROWS}"

    @property
    def small_rows(self) -> int:
        return max(1, self.rows // 4)

    @property
    def tiny_rows(self) -> int:
        return max(1, self.rows // 40)

    def fill(self) -> None:
        """Make what is missing."""
        with connect() as connection, connection.cursor() as cursor:
            fill_reports(cursor, self.large, DAYS, self.rows)
            fill_reports(cursor, self.small, DAYS, self.small_rows)
            fill_reports(cursor, self.tiny, [DAY], self.tiny_rows)
            fill_wide(cursor, self.wide)


def connect() -> pymysql.Connection:
    return _clients.connect(
        autocommit=True,
        init_command="SET time_zone = '+00:00'",
    )


def fill_reports(cursor: Any, table: str, days: list[date], rows: int) -> None:
    def insert(unfinished: str) -> None:
        for index, day in enumerate(days):
            for start in range(0, rows, NUMBERS):
                count = min(NUMBERS, rows - start)
                cursor.execute(
                    INSERT_REPORTS.format(table=unfinished, day=day, first=index * rows + start, count=count)
                )

    _make_whole(cursor, table, CREATE_REPORTS, insert, f"{len(days)} days of {rows:,} rows")


def fill_wide(cursor: Any, table: str) -> None:
    def insert(unfinished: str) -> None:
        repeats = WIDE_MB * 1_000_000 // 64
        for first in range(0, WIDE_ROWS, 10):
            cursor.execute(INSERT_WIDE.format(table=unfinished, day=DAY, repeats=repeats, first=first, last=first + 9))

    _make_whole(cursor, table, CREATE_WIDE, insert, f"{WIDE_ROWS} rows of {WIDE_MB} MB")


def _make_whole(cursor: Any, table: str, create: str, insert: Any, what: str) -> None:
    cursor.execute("SHOW TABLES LIKE %s", (table,))
    if cursor.fetchall():
        return
    started = time.monotonic()
    _make_numbers(cursor)
    cursor.execute("DROP TABLE IF EXISTS bench_unfinished")
    cursor.execute(create.format(table="bench_unfinished"))
    insert("bench_unfinished")
    cursor.execute(f"RENAME TABLE bench_unfinished TO {table}")
    cursor.execute(f"ANALYZE TABLE {table}")
    print(f"filled {table}: {what}, {time.monotonic() - started:.0f} s", flush=True)


def _make_numbers(cursor: Any) -> None:
    """Make the table of numbers from 0; doubling works on every server."""
    cursor.execute("DROP TABLE IF EXISTS bench_numbers")
    cursor.execute("CREATE TABLE bench_numbers (n INT PRIMARY KEY)")
    cursor.execute("INSERT INTO bench_numbers VALUES (0)")
    doubled = 1
    while doubled < NUMBERS:
        cursor.execute("INSERT INTO bench_numbers SELECT n + %s FROM bench_numbers", (doubled,))
        doubled *= 2


# --- the lake


def open_s3() -> Any:
    return boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT_URL"])


def make_bucket() -> None:
    s3 = open_s3()
    if BUCKET not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
        s3.create_bucket(Bucket=BUCKET)


def list_objects(prefix: str) -> dict[str, int]:
    """Return {key: bytes} of what is below a prefix."""
    pages = open_s3().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix)
    return {entry["Key"]: entry["Size"] for page in pages for entry in page.get("Contents", ())}


def empty_prefix(prefix: str) -> None:
    s3 = open_s3()
    for key in list_objects(prefix):
        s3.delete_object(Bucket=BUCKET, Key=key)


def first_of_years() -> date:
    return datetime.now(UTC).date() - timedelta(days=YEARS_DAYS)


def put_years(table: str) -> None:
    """Put something at the key of every day of ten years up to yesterday."""
    days = [first_of_years() + timedelta(days=number) for number in range(YEARS_DAYS)]
    wanted = {f"lake/{table}/date={day:%Y%m%d}/{table}.parquet" for day in days}
    missing = wanted - list_objects(f"lake/{table}/").keys()
    s3 = open_s3()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket=BUCKET, Key=key, Body=b"x"), sorted(missing)))


if __name__ == "__main__":
    Tables(2_000_000).fill()
