"""MySQL and the lake compared, day by day. It changes nothing."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from itertools import groupby
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from luigi_jobs import deep, staging
from luigi_jobs.config import load_settings
from luigi_jobs.convert import Converter
from luigi_jobs.day_of_table import last_closed, round_up
from luigi_jobs.days import ONE_DAY, each_day
from luigi_jobs.evolution import compare_schemas
from luigi_jobs.facts import DayFacts
from luigi_jobs.fingerprint import Fingerprint, take_fingerprints
from luigi_jobs.footers import read_footer
from luigi_jobs.gaps import Window, plan_window
from luigi_jobs.lake import open_lake
from luigi_jobs.mysql import connect
from luigi_jobs.plan import plan_day
from luigi_jobs.settings import Settings, TableSettings
from luigi_jobs.source import Source, describe_table
from luigi_jobs.stored_days import Lake, StoredDay

REQUESTS_AT_A_TIME = 8
EQUAL = "equal"


@dataclass(frozen=True)
class DayResult:
    """What was found of one day: `equal`, `missing`, `extra`, `unreadable`, `rows`, `schema`, `stale` or `values`."""

    day: date
    status: str
    mysql_rows: int | None = None
    lake_rows: int | None = None
    detail: str = ""


@dataclass(frozen=True)
class TableResult:
    """What was found of one table.

    Attributes:
        others: keys below the table's prefix that are no day's, and whether readers would take them for data.
        commands: what repairs what can be repaired.
    """

    table: str
    first: date
    stop: date
    days: list[DayResult]
    others: dict[str, bool]
    commands: list[str] = field(default_factory=list)

    @property
    def differs(self) -> bool:
        """Say whether the lake is not what MySQL has."""
        return any(day.status != EQUAL for day in self.days) or any(self.others.values())


def audit_table(table: str, start: date | None, stop: date | None, is_deep: bool) -> TableResult:
    """Compare the closed days of a table in MySQL and in the lake.

    Args:
        is_deep: also compare all values, as checksums, which reads every byte of the lake.

    Raises:
        LuigiJobsError: settings are wrong, or MySQL or the lake cannot tell.
    """
    began = round_up(datetime.now(UTC))
    settings = load_settings()
    ours = settings.table(table)
    window = plan_window(ours, last_closed(), start, stop)
    lake = open_lake(settings.lake)
    stored, others = lake.list_everything(table)
    with connect(settings.mysql) as connection:
        source = describe_table(connection, settings.mysql, ours)
        zone = settings.lake.timezone
        now = take_fingerprints(connection, source, window.first, window.stop, zone) if window else {}
    schema = Converter(source.schema, source.primary_key, ours, settings.lake.partition_key).schema
    there = [day for day in each_day(window.first, window.stop) if day in stored]
    with ThreadPoolExecutor(REQUESTS_AT_A_TIME, "footers") as pool:
        footers = dict(zip(there, pool.map(lambda day: read_footer(lake, table, day), there), strict=True))
    results = [
        _compare(day, ours, now[day], footers.get(day), schema) if day in stored else _missing(day, now[day])
        for day in each_day(window.first, window.stop)
    ]
    if is_deep:
        results = list(_look_deeper(settings, source, schema, lake, results))
    results += _find_extra(stored, window, limited=bool(start or stop))
    results.sort(key=lambda result: result.day)
    # The commands name that second, which must not lie in the future when they are run.
    time.sleep(max(0.0, (began - datetime.now(UTC)).total_seconds()))
    return TableResult(
        table=table,
        first=window.first,
        stop=window.stop,
        days=results,
        others={key: _is_data(key, object_) for key, object_ in others.items()},
        commands=list(_name_commands(window, results, began)),
    )


def _missing(day: date, now: Fingerprint) -> DayResult:
    return DayResult(day, "missing", now.rows)


def _find_extra(stored: Mapping[date, StoredDay], window: Window, limited: bool) -> list[DayResult]:
    """Return the days of the lake that are not closed yet, or older than the table's history."""
    return [
        DayResult(day, "extra", detail="it is not closed, or lies before `since`; nothing removes it but you")
        for day in stored
        if not limited and not window.first <= day < window.stop
    ]


def _compare(
    day: date, table: TableSettings, now: Fingerprint, footer: pq.FileMetaData | None, schema: pa.Schema
) -> DayResult:
    if footer is None:
        return DayResult(day, "unreadable", now.rows, None, "it is no whole Parquet file")
    facts = DayFacts.from_footer(footer.metadata or {})
    # A transform makes of the rows as many as it likes.
    lake_rows = facts.source_rows if table.transform else footer.num_rows
    gained, refused = compare_schemas(footer.schema.to_arrow_schema(), schema)
    result = DayResult(day, EQUAL, now.rows, lake_rows, "; ".join(gained))
    if refused:
        return replace(result, status="schema", detail="; ".join(refused))
    if lake_rows is not None and lake_rows != now.rows:
        return replace(result, status="rows", detail=f"MySQL has {now.rows:,} rows and the lake {lake_rows:,}")
    before = Fingerprint.parse(facts.fingerprint)
    if before and (change := now.describe_change(before)):
        return replace(result, status="stale", detail=f"{change}, when it was loaded")
    return result


def _look_deeper(
    settings: Settings, source: Source, schema: pa.Schema, lake: Lake, results: list[DayResult]
) -> Iterator[DayResult]:
    """Compare the values of the days that are equal so far, of the columns that their files have."""
    fields, table = deep.select_as_loaded(source), source.settings.name
    staging.make_root(Path(settings.lake.staging_dir))
    with tempfile.TemporaryDirectory(prefix=".audit-", dir=settings.lake.staging_dir) as folder:
        path = Path(folder) / "day.parquet"
        for result in results:
            if result.status != EQUAL:
                yield result
                continue
            lake.fetch(table, result.day, path)
            try:
                there = pq.read_schema(path)
                if any(column not in list(schema) for column in there):  # widened since: other text of equal values
                    yield result
                    continue
                chosen = (
                    None
                    if fields is None
                    else sorted(
                        (field for field in fields if field.name in there.names),
                        key=lambda field: there.names.index(field.name),
                    )
                )
                lakes = deep.checksum_of_file(path, chosen)
            except (pa.ArrowException, OSError) as error:
                yield replace(result, status="unreadable", detail=f"it cannot be read: {' '.join(str(error).split())}")
                continue
            with connect(settings.mysql) as connection:
                plan = plan_day(connection, source, result.day, settings.lake.timezone)
            mysqls = (
                deep.checksum_by_reading(settings, source, plan, f"{table} {result.day}", there.names)
                if chosen is None
                else deep.checksum_in_mysql(settings, source, plan, chosen)
            )
            equal = mysqls == lakes
            detail = f"checksum {lakes.value} of {lakes.rows:,} rows, MySQL's is {mysqls.value} of {mysqls.rows:,}"
            yield result if equal else replace(result, status="values", detail=detail)


def _is_data(key: str, stored: StoredDay) -> bool:
    """Say whether Athena and Spark would read an object: https://docs.aws.amazon.com/athena/latest/ug/tables-location-format.html."""
    return stored.size > 0 and not any(part.startswith(("_", ".")) for part in key.rsplit("/", 2)[-2:])


def _name_commands(window: Window, results: list[DayResult], began: datetime) -> Iterator[str]:
    """Yield the commands that load what differs: one for each run of days, what is there again."""
    wrong = [result for result in results if result.status not in (EQUAL, "extra")]
    for _, run in groupby(enumerate(wrong), lambda pair: pair[1].day.toordinal() - pair[0]):
        days = [result for _, result in run]
        since = None if all(result.status == "missing" for result in days) else began
        yield replace(window, first=days[0].day, stop=days[-1].day + ONE_DAY, loaded_since=since).command


def find_unknown_tables() -> list[str]:
    """Return the folders of the lake that no table of luigi.cfg explains."""
    settings = load_settings()
    return sorted(set(open_lake(settings.lake).list_folders()) - set(settings.tables))
