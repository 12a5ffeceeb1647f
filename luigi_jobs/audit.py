"""MySQL and the lake compared, day by day. It changes nothing."""

import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta, tzinfo
from itertools import groupby

import pyarrow as pa
import pyarrow.parquet as pq
import pymysql

from luigi_jobs import deep, staging
from luigi_jobs.compare import EQUAL, EXTRA, MISSING, UNKNOWN, DayResult, compare_day
from luigi_jobs.config import load_settings
from luigi_jobs.convert import Converter
from luigi_jobs.day_of_table import last_closed, round_up
from luigi_jobs.days import ONE_DAY, each_day
from luigi_jobs.errors import ConfigError
from luigi_jobs.evolution import is_refused
from luigi_jobs.fingerprint import Fingerprint, take_fingerprints
from luigi_jobs.footers import read_footer
from luigi_jobs.gaps import Window, plan_window
from luigi_jobs.lake import open_lake
from luigi_jobs.mysql import connect, read_clock
from luigi_jobs.settings import TABLE_SECTION, Settings, TableSettings
from luigi_jobs.source import Source, describe_table
from luigi_jobs.stored_days import Lake, StoredDay

REQUESTS_AT_A_TIME = 8
DAYS_AT_A_TIME = timedelta(days=31)

# A run refuses the schema that days would have today while the newest day in the lake has another.
_HINT = f"`schema_changes = accept` in [{TABLE_SECTION}{{}}] while it runs"


@dataclass(frozen=True)
class TableResult:
    """What was found of one table.

    Attributes:
        others: keys below the table's prefix that are no day's, and whether readers would take them for data.
        commands: what repairs what can be repaired.
        hint: what has to be done before; empty for nothing.
    """

    table: str
    first: date
    stop: date
    days: list[DayResult]
    others: dict[str, bool]
    commands: list[str] = field(default_factory=list)
    hint: str = ""

    @property
    def differs(self) -> bool:
        """Say whether the lake is not what MySQL has."""
        return any(day.status != EQUAL for day in self.days) or any(self.others.values())


def choose_tables(names: Iterable[str] | None, start: date | None, stop: date | None) -> dict[str, date | None]:
    """Return which tables an audit is of, and from which day on each: those that are named, or all that have such days.

    Raises:
        ConfigError: settings are wrong, or no table has a day before `stop`.
    """
    if start and stop and start >= stop:
        raise ConfigError(f"--start {start} is not before --stop {stop}, which is exclusive")
    if names:
        return dict.fromkeys(names, start)
    tables = load_settings().tables
    chosen = {
        name: start and max(start, tables[name].since)
        for name in sorted(tables)
        if stop is None or tables[name].since < stop
    }
    if not chosen:
        oldest = min(table.since for table in tables.values())
        raise ConfigError(f"--stop {stop}: no table of luigi.cfg has a day before it; the oldest `since` is {oldest}")
    return chosen


def audit_table(table: str, start: date | None, stop: date | None, is_deep: bool) -> TableResult:
    """Compare the closed days of a table in MySQL and in the lake.

    Args:
        is_deep: also compare all values, as checksums, which reads every byte of the lake.

    Raises:
        LuigiJobsError: settings are wrong, no day of the range is closed, or MySQL or the lake cannot tell.
    """
    began = round_up(datetime.now(UTC))
    settings = load_settings()
    ours = settings.table(table)
    window = plan_window(ours, last_closed(), start, stop)
    if (start or stop) and not window:
        raise ConfigError(
            f"no day from {start or ours.since} to before {stop or 'now'} is closed and not before `since`: the last "
            f"closed day is {last_closed()}, `since` is {ours.since}"
        )
    lake = open_lake(settings.lake)
    stored, others = lake.list_everything(table)
    there = [day for day in each_day(window.first, window.stop) if day in stored]
    with ThreadPoolExecutor(REQUESTS_AT_A_TIME, "footers") as pool:
        footers = dict(zip(there, pool.map(lambda day: read_footer(lake, table, day), there), strict=True))
    with connect(settings.mysql) as connection:
        read_clock(connection)  # by another clock other days are closed
        source = describe_table(connection, settings.mysql, ours)
        now = _ask_mysql(connection, source, window, settings.lake.timezone, footers)
    schema = Converter(source.schema, source.primary_key, ours, settings.lake.partition_key).schema
    results = [
        compare_day(day, ours, now[day], footers[day], schema)
        if day in stored
        else DayResult(day, MISSING, now[day].rows)
        for day in each_day(window.first, window.stop)
    ]
    if is_deep:
        results = _look_deeper(settings, source, schema, lake, results)
    if not (start or stop):
        results += [_explain_extra(day, ours, lake) for day in stored if not window.first <= day < window.stop]
    results.sort(key=lambda result: result.day)
    # The commands name that second, which must not lie in the future when they are run.
    time.sleep(max(0.0, (began - datetime.now(UTC)).total_seconds()))
    commands = list(_name_commands(window, results, began))
    return TableResult(
        table=table,
        first=window.first,
        stop=window.stop,
        days=results,
        others={key: _is_data(key, object_) for key, object_ in others.items()},
        commands=commands,
        hint=_HINT.format(ours.name) if commands and is_refused(settings, ours, schema) else "",
    )


def _ask_mysql(
    connection: pymysql.Connection,
    source: Source,
    window: Window,
    zone: tzinfo,
    footers: Mapping[date, pq.FileMetaData | None],
) -> dict[date, Fingerprint]:
    """Return the fingerprint that each day of a window has now, a checksum of the columns that its file was made of."""
    now = _take_fingerprints(connection, source, window.first, window.stop, zone)
    if source.settings.fingerprint.kind != "checksum" or source.settings.transform:
        return now
    fields = {field.name.lower(): field for field in source.fields}
    sources = {rule.target: rule.source for rule in source.settings.decode}
    made_of: dict[frozenset[str], list[date]] = {}
    for day, footer in footers.items():
        there = footer.schema.to_arrow_schema().names if footer else []
        names = frozenset(sources.get(name, name).lower() for name in there)
        if names and names < fields.keys():  # columns were gained
            made_of.setdefault(names, []).append(day)
    for names, days in made_of.items():
        narrow = replace(source, fields=tuple(fields[name] for name in names))
        then = _take_fingerprints(connection, narrow, min(days), max(days) + ONE_DAY, zone)
        now |= {day: then[day] for day in days}
    return now


def _take_fingerprints(
    connection: pymysql.Connection, source: Source, first: date, stop: date, zone: tzinfo
) -> dict[date, Fingerprint]:
    """Return the fingerprints of the days in [first, stop), by a statement a month: read_timeout_s is for each.

    Without an index to spare it the rest of the table, one statement is quicker.
    """
    step = DAYS_AT_A_TIME if source.date_index else max(DAYS_AT_A_TIME, stop - first)
    found: dict[date, Fingerprint] = {}
    while first < stop:
        found |= take_fingerprints(connection, source, first, min(first + step, stop), zone)
        first += step
    return found


def _explain_extra(day: date, table: TableSettings, lake: Lake) -> DayResult:
    why = f"lies before `since = {table.since}`" if day < table.since else "is not closed yet"
    return DayResult(day, EXTRA, detail=f"{lake.key(table.name, day)} {why}; nothing removes it but you")


def _look_deeper(
    settings: Settings, source: Source, schema: pa.Schema, lake: Lake, results: list[DayResult]
) -> list[DayResult]:
    """Compare the values of the days that nothing else tells apart, each file in the place of the one before."""
    looked = []
    with staging.lend_folder(settings.lake.staging_dir) as folder:
        for result in results:
            looked.append(result)
            if result.status in (EQUAL, UNKNOWN):
                with folder.writing(folder.decoded) as partial:
                    lake.fetch(source.settings.name, result.day, partial)
                status, detail = deep.compare_values(settings, source, schema, result.day, folder.decoded)
                if status:
                    looked[-1] = replace(result, status=status, detail=detail)
                elif result.status == UNKNOWN:
                    looked[-1] = replace(result, status=EQUAL, detail="")
    return looked


def _is_data(key: str, stored: StoredDay) -> bool:
    """Say whether Athena and Spark would read an object: https://docs.aws.amazon.com/athena/latest/ug/tables-location-format.html."""
    return stored.size > 0 and not any(part.startswith(("_", ".")) for part in key.rsplit("/", 2)[-2:])


def _name_commands(window: Window, results: list[DayResult], began: datetime) -> Iterator[str]:
    """Yield the commands that load what differs: one for each run of days, what is there again."""
    wrong = [result for result in results if result.status not in (EQUAL, EXTRA)]
    for _, run in groupby(enumerate(wrong), lambda pair: pair[1].day.toordinal() - pair[0]):
        days = [result for _, result in run]
        since = None if all(result.status == MISSING for result in days) else began
        yield replace(window, first=days[0].day, stop=days[-1].day + ONE_DAY, loaded_since=since).command


def find_unknown() -> tuple[list[str], list[str]]:
    """Return the folders of the lake, and the objects beside them, that no table of luigi.cfg explains."""
    settings = load_settings()
    folders, objects = open_lake(settings.lake).list_top()
    return sorted(set(folders) - set(settings.tables)), sorted(objects)
