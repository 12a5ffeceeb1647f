"""The data work of scripts/demo: sample reports for MySQL, and a look at the lake through boto3 and pyarrow only.

MySQL and S3 are those of the environment, as `scripts/services env` names it; luigi_jobs has no part in this file.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import re
import signal
import sys
import textwrap
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from _clients import connect, open_filesystem

BUCKET = "luigi-jobs-demo"
PREFIX = "lake/reports/"
REMEMBERED = Path("lake.json")

CREATE_TABLE = """
CREATE TABLE reports (
    id          BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
    date_start  DATE NOT NULL,
    account_id  INT,
    campaign    VARCHAR(80),
    impressions INT UNSIGNED NOT NULL,
    spend       DECIMAL(12,4) NOT NULL,
    updated_at  DATETIME(6) NOT NULL,
    encoded     TEXT,
    KEY (date_start)
) DEFAULT CHARSET = utf8mb4
"""
INSERT = (
    "INSERT INTO reports (date_start, account_id, campaign, impressions, spend, updated_at, encoded) "
    "VALUES (%s, %s, %s, %s, %s, %s, %s)"
)
CAMPAIGNS = ("Spring sale", "Été à Paris", "Große Größen", "Žlutý kůň", "東京の秋", "Back to school 🎒", None)

Listing = dict[str, list[str]]
Totals = dict[date, tuple[int, Decimal]]


def open_s3() -> Any:
    return boto3.client("s3", endpoint_url=os.environ["S3_ENDPOINT_URL"])


def day_key(day: date) -> str:
    return f"{PREFIX}date={day:%Y%m%d}/reports.parquet"


def key_day(key: str) -> date:
    return datetime.strptime(key.removeprefix(PREFIX), "date=%Y%m%d/reports.parquet").date()


def format_days(days: Iterable[date]) -> str:
    return ", ".join(map(str, sorted(days))) or "none"


# --- luigi.cfg


def write_config(shipped: Path, file: Path, values: list[str]) -> None:
    """Copy the shipped luigi.cfg with some of its values changed; each is `section.key=value`."""
    text = shipped.read_text()
    for value in values:
        name, _, new = value.partition("=")
        section, _, key = name.rpartition(".")
        text = set_value(text, section, key, new)
    file.write_text(text)


def set_value(text: str, section: str, key: str, value: str) -> str:
    """Put `key = value` where the section has the key, if only in a comment; else at the section's top."""
    if f"\n[{section}]\n" not in text:
        text += f"\n[{section}]\n"
    head, header, rest = text.partition(f"\n[{section}]\n")
    body, next_header, tail = rest.partition("\n[")
    line = f"{key} = {value}"
    body, found = re.subn(rf"^(# )?{re.escape(key)} =.*$", lambda _: line, body, count=1, flags=re.MULTILINE)
    return head + header + (body if found else f"{line}\n{body}") + next_header + tail


# --- MySQL


def make_rows(day: date, count: int) -> Iterator[tuple[object, ...]]:
    """Yield the day's rows, the same ones every time for the same day."""
    rng = random.Random(day.isoformat())
    midnight = datetime(day.year, day.month, day.day)
    for number in range(count):
        document = {"clicks": rng.randrange(500), "placement": rng.choice(("feed", "story", "søk")), "n": number}
        yield (
            day,
            None if rng.random() < 0.05 else rng.randrange(1, 200),
            rng.choice(CAMPAIGNS),
            rng.randrange(2**32) if rng.random() < 0.01 else rng.randrange(100_000),
            Decimal(rng.randrange(10_000_000)).scaleb(-4),
            midnight + timedelta(microseconds=rng.randrange(86_400_000_000)),
            base64.b64encode(json.dumps(document, ensure_ascii=False).encode()).decode(),
        )


def fill(first: date, today: date, empty: date) -> None:
    """Make table `reports`, with rows of every day from `first` to `today` except `empty`."""
    open_s3().create_bucket(Bucket=BUCKET)
    days = [first + timedelta(days=n) for n in range((today - first).days + 1)]
    total = 0
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute(CREATE_TABLE)
        for day in days:
            count = 0 if day == empty else random.Random(day.toordinal()).randint(2_000, 4_000)
            # PyMySQL makes multi-row statements of up to max_stmt_length of this.
            cursor.executemany(INSERT, list(make_rows(day, count)))
            total += count
        connection.commit()
    print(f"{total:,} rows in table reports: {len(days) - 1} closed days, {first} to {days[-2]}, and a part of today")
    print(f"{empty} has no rows; the bucket {BUCKET} is empty")


# --- the lake


def list_lake() -> Listing:
    """Return {key: [time of last change, ETag, bytes]}, in the order of keys."""
    pages = open_s3().get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=PREFIX)
    return {
        entry["Key"]: [entry["LastModified"].isoformat(), entry["ETag"], str(entry["Size"])]
        for page in pages
        for entry in page.get("Contents", ())
    }


def show_lake(expected: int, empty: date) -> None:
    """Print the lake's days in short; fail unless they are `expected` in number."""
    listing = list_lake()
    days = [key_day(key) for key in listing]
    total = sum(int(facts[2]) for facts in listing.values())
    print(f"s3://{BUCKET}/{PREFIX} has {len(days)} days, {days[0]} to {days[-1]}, {total / 1e6:.1f} MB")
    middle = days.index(empty) if empty in days else 1
    skipped = False
    for index, (key, facts) in enumerate(listing.items()):
        if index in (0, 1, middle, len(days) - 1):
            note = "   no rows that day: an empty file with the full schema" if days[index] == empty else ""
            print(f"  {key.removeprefix(PREFIX)} {int(facts[2]):>9,} bytes{note}")
            skipped = False
        elif not skipped:
            print("  ...")
            skipped = True
    if len(days) != expected or empty not in days:
        raise SystemExit(f"the lake has {len(days)} days, not {expected}, or {empty} is not among them")


def remove(days: list[date]) -> None:
    """Delete days from the lake, and remember what is left."""
    s3 = open_s3()
    for day in days:
        s3.delete_object(Bucket=BUCKET, Key=day_key(day))
    listing = list_lake()
    if still := [day for day in days if day_key(day) in listing]:
        raise SystemExit(f"still in the lake: {format_days(still)}")
    REMEMBERED.write_text(json.dumps(listing))
    print(f"removed {len(days)} days; {len(listing)} are left in the lake")


def check_changes(days: list[date]) -> None:
    """Fail unless exactly `days` were written since the lake was last looked at, and nothing is gone."""
    before, now = json.loads(REMEMBERED.read_text()), list_lake()
    written = {key_day(key) for key, facts in now.items() if before.get(key) != facts}
    gone = {key_day(key) for key in before.keys() - now.keys()}
    print(f"written meanwhile: {format_days(written)}")
    print(f"untouched: the other {len(now) - len(written)} days")
    if written != set(days) or gone:
        raise SystemExit(f"expected to be written: {format_days(days)}, and nothing gone")
    REMEMBERED.write_text(json.dumps(now))


# --- both, side by side


def open_dataset() -> ds.Dataset:
    return ds.dataset(f"{BUCKET}/{PREFIX}", format="parquet", filesystem=open_filesystem(), partitioning="hive")


def show_rows() -> None:
    """Print the lake's columns, and some rows as MySQL and as the lake has them; fail unless they are the same."""
    dataset = open_dataset()
    fields = [f"{field.name} {field.type}" for field in dataset.schema if field.name != "date"]
    print(textwrap.fill(", ".join(fields), width=100, initial_indent="  ", subsequent_indent="  "))
    wanted = pc.is_null(pc.field("account_id")) & (pc.field("campaign") == "東京の秋")
    for row in dataset.head(2, filter=wanted).to_pylist():
        with connect() as connection, connection.cursor() as cursor:
            cursor.execute("SELECT id, campaign, account_id, spend, encoded FROM reports WHERE id = %s", (row["id"],))
            *plain, encoded = cursor.fetchone()
        same = [row[name] for name in ("id", "campaign", "account_id", "spend")]
        print("  MySQL", *plain, f"encoded={encoded}")
        print("  lake ", *same, f"decoded={row['decoded']}")
        if same != plain:
            raise SystemExit("these are not the same")
        if base64.b64decode(encoded).decode() != row["decoded"]:
            raise SystemExit("the one is not what the other decodes to")


def total_mysql() -> Totals:
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT date_start, COUNT(*), SUM(spend) FROM reports GROUP BY date_start")
        return {day: (count, spend) for day, count, spend in cursor.fetchall()}


def total_lake() -> Totals:
    """Return {day: (rows, sum of spend)} of every file; each must hold rows of its own day only."""
    totals = {}
    for fragment in open_dataset().get_fragments():
        day = key_day(fragment.path.removeprefix(f"{BUCKET}/"))
        table = fragment.to_table(columns=["date_start", "spend"])
        if set(table["date_start"].unique().to_pylist()) - {day}:
            raise SystemExit(f"{fragment.path} holds rows of other days")
        totals[day] = (table.num_rows, pc.sum(table["spend"].cast(pa.decimal128(38, 4))).as_py() or Decimal(0))
    return totals


def compare(first: date, today: date, empty: date) -> None:
    """Hold rows and spend of every closed day in MySQL against the lake's; fail on any difference."""
    mysql, lake = total_mysql(), total_lake()
    days = [first + timedelta(days=n) for n in range((today - first).days)]
    nothing = (0, Decimal(0))
    print(f"  {'day':10} {'MySQL rows':>11} {'MySQL spend':>16} {'lake rows':>10} {'lake spend':>16}")
    for day in sorted({days[0], days[1], empty, days[-1], today}):
        rows, spend = mysql.get(day, nothing)
        copied = "{:>10,} {:>16,}".format(*lake[day]) if day in lake else f"{'-':>10} {'-':>16}"
        note = "  today: not closed, not copied" if day == today else ""
        print(f"  {day} {rows:>11,} {spend:>16,} {copied}{note}")
    if different := [day for day in days if mysql.get(day, nothing) != lake.get(day)]:
        raise SystemExit(f"MySQL and the lake differ on {format_days(different)}")
    if more := lake.keys() - set(days):
        raise SystemExit(f"the lake has days it should not have: {format_days(more)}")
    print(f"  all {len(days)} closed days compared: {sum(lake[day][0] for day in days):,} rows, no difference")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    config = commands.add_parser("config")
    config.add_argument("shipped", type=Path)
    config.add_argument("file", type=Path)
    config.add_argument("values", nargs="*")
    for name in ("fill", "compare"):
        command = commands.add_parser(name)
        command.add_argument("first", type=date.fromisoformat)
        command.add_argument("today", type=date.fromisoformat)
        command.add_argument("--empty", type=date.fromisoformat, required=True)
    lake = commands.add_parser("lake")
    lake.add_argument("expected", type=int)
    lake.add_argument("--empty", type=date.fromisoformat, required=True)
    for name in ("remove", "changes"):
        commands.add_parser(name).add_argument("days", nargs="*", type=date.fromisoformat)
    commands.add_parser("rows")
    return parser.parse_args()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A terminal that cannot show 東京 is no reason to fail.
    sys.stdout.reconfigure(errors="backslashreplace")
    functions = {
        "config": write_config,
        "fill": fill,
        "lake": show_lake,
        "remove": remove,
        "changes": check_changes,
        "rows": show_rows,
        "compare": compare,
    }
    arguments = vars(parse_arguments())
    functions[arguments.pop("command")](**arguments)


if __name__ == "__main__":
    main()
