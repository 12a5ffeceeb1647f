"""What tells whether a day has changed in MySQL: its rows and, as configured, a maximum or a checksum."""

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa
import pymysql

from luigi_jobs.checksum import checksum_rows
from luigi_jobs.days import day_bounds, each_day
from luigi_jobs.mysql import fetch
from luigi_jobs.plan import DayPlan, day_limits, day_query
from luigi_jobs.schema import quote_name
from luigi_jobs.settings import FingerprintRule
from luigi_jobs.source import Source

ROWS = "rows"
MOST_CHARACTERS = 200
_HEX = "0x"


@dataclass(frozen=True)
class Fingerprint:
    """A day as MySQL had it at one moment.

    Attributes:
        rows: what COUNT(*) said.
        kind: what was taken besides: nothing, `max(column)` or `checksum`.
        value: its text; empty when there was none, as for a day without rows.
    """

    rows: int
    kind: str = ""
    value: str = ""

    def __str__(self) -> str:
        """Return the fingerprint as JSON, in ASCII."""
        return json.dumps({ROWS: self.rows} | ({self.kind: self.value} if self.kind else {}))

    @classmethod
    def parse(cls, text: str) -> "Fingerprint | None":
        """Read a fingerprint back; None for what is none."""
        try:
            parts = dict(json.loads(text))
            rows = int(parts.pop(ROWS))
            kind, value = next(iter(parts.items()), ("", ""))
            return cls(rows, str(kind), str(value))
        except (ValueError, TypeError, KeyError):
            return None

    def describe_change(self, before: "Fingerprint") -> str:
        """Say how this differs from what it was before; empty when nothing that both tell has changed."""
        if self.rows != before.rows:
            return f"MySQL has {self.rows:,} rows, and had {before.rows:,}"
        if self.kind == before.kind and self.value != before.value:
            return f"{self.kind} is {self.value or 'NULL'}, and was {before.value or 'NULL'}"
        return ""


def take_fingerprint(connection: pymysql.Connection, source: Source, plan: DayPlan, rows: int) -> Fingerprint:
    """Return the fingerprint of a day whose rows were counted, by the way on which they are read."""
    rule = source.settings.fingerprint
    if rule.kind == "count":
        return Fingerprint(rows)
    value = fetch(connection, day_query(source, plan, _aggregate(source, rule)))[0][0]
    return Fingerprint(rows, rule.name, _shorten(_print(value)))


def take_fingerprints(
    connection: pymysql.Connection, source: Source, first: date, stop: date, zone: tzinfo
) -> dict[date, Fingerprint]:
    """Return the fingerprint of every day in [first, stop), by one query."""
    rule = source.settings.fingerprint
    aggregate = "" if rule.kind == "count" else f", {_aggregate(source, rule)}"
    found: dict[date, Fingerprint] = {day: Fingerprint(0, rule.name) for day in each_day(first, stop)}
    values: list[object]
    for day, rows, *values in group_days(connection, source, first, stop, zone, f"COUNT(*){aggregate}"):
        value = _print(values[0]) if values else ""
        other = found[day]
        if other.rows:  # partial dates such as 2021-02-00 belong to the day before
            value = str(int(value) + int(other.value)) if rule.kind == "checksum" else _greater(value, other.value)
        found[day] = Fingerprint(other.rows + rows, rule.name, value)
    return {day: replace(one, value=_shorten(one.value)) for day, one in found.items()}


def group_days(
    connection: pymysql.Connection, source: Source, first: date, stop: date, zone: tzinfo, aggregates: str
) -> Iterator[tuple[Any, ...]]:
    """Yield (day, *aggregates) of the rows of the days in [first, stop), by one GROUP BY; a day may come in parts."""
    column, days = source.date_column, list(each_day(first, stop))
    begin, end = day_limits(source, first, zone)[0], day_limits(source, days[-1], zone)[1]
    if column.data_type == "timestamp":
        # Numbers and not names of a zone: CONVERT_TZ wants tables that many servers have not loaded.
        starts = [int(day_bounds(day, zone)[0].timestamp()) for day in days]
        label = f"INTERVAL(UNIX_TIMESTAMP({column.quoted}), {', '.join(map(str, starts))}) - 1"
    else:
        label = f"LEFT(CAST({column.quoted} AS CHAR), 10)"
    group = column.quoted if column.data_type == "date" else "1"
    names = [str(day) for day in days]
    for found, *values in fetch(
        connection,
        f"SELECT {label}, {aggregates} FROM {quote_name(source.settings.source)} "
        f"WHERE {column.quoted} >= '{begin}' AND {column.quoted} < '{end}' GROUP BY {group}",
    ):
        number = found if column.data_type == "timestamp" else bisect_right(names, found) - 1
        yield days[int(number)], *values


def _aggregate(source: Source, rule: FingerprintRule) -> str:
    if rule.kind == "checksum":
        return checksum_rows(source.fields)
    column = source.column(rule.column)
    field = next(field for field in source.fields if field.name == rule.column)
    if column.data_type == "decimal":  # as a number, without the leading zeros of ZEROFILL
        return f"CAST(MAX(CAST({column.quoted} AS DECIMAL({column.precision},{column.scale}))) AS CHAR)"
    if column.data_type == "time":  # 100:00:00 is more than 99:00:00
        return f"CAST(MAX({column.quoted}+0) AS CHAR)"
    if pa.types.is_string(field.type) or pa.types.is_binary(field.type):
        # Of 'a' and 'A', MAX would take the one it meets first.
        return f"CONCAT('{_HEX}',HEX(MAX(CAST({column.quoted} AS BINARY))))"
    return f"CAST(MAX({field.expression}) AS CHAR)"


def _greater(one: str, other: str) -> str:
    """Return the greater of two values that MySQL printed: numbers as numbers, hexadecimal and dates as text."""
    try:
        return max(one, other, key=Decimal)
    except InvalidOperation:
        return max(one, other)


def _print(value: object) -> str:
    return "" if value is None else str(value)


def _shorten(text: str) -> str:
    """Return what fits into S3's metadata."""
    return text if len(text) <= MOST_CHARACTERS else hashlib.sha256(text.encode()).hexdigest()
