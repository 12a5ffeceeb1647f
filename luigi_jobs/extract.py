"""A day's rows from MySQL into the staging folder, held against what MySQL counts."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from luigi_jobs import files, staging, watch
from luigi_jobs.convert import Converter
from luigi_jobs.day_of_table import DayOfTable
from luigi_jobs.errors import LostConnectionError, MovedError
from luigi_jobs.evolution import check_schema
from luigi_jobs.fingerprint import Fingerprint, take_fingerprint
from luigi_jobs.mysql import connect, fetch, read_clock
from luigi_jobs.plan import DayPlan, count_day, plan_day
from luigi_jobs.progress import Progress
from luigi_jobs.reader import DayReader
from luigi_jobs.retry import once_more
from luigi_jobs.source import Source, describe_table
from luigi_jobs.stream import load_driver

logger = logging.getLogger("luigi-interface")

ROOM_FACTOR = 2

SetMessage = Callable[[str], None] | None
SetPercentage = Callable[[int], None] | None


@dataclass(frozen=True)
class Extract:
    """What was read.

    Attributes:
        source: the table as it was then.
        rows: how many rows arrived.
        before: the day as MySQL had it before a row was read.
        extracted_at: when that was, by MySQL's clock in UTC, ISO 8601.
        zero_dates: column -> values that are no real dates.
        crc32: of the file that they were written to.
    """

    source: Source
    rows: int
    before: Fingerprint
    extracted_at: str
    zero_dates: dict[str, int]
    crc32: int


@dataclass(frozen=True)
class _Beginning:
    """How a day will be read, and, maybe while it is, what it was before."""

    source: Source
    plan: DayPlan
    extracted_at: str
    before: Future[Fingerprint]


def read_day(one: DayOfTable, set_message: SetMessage, set_percentage: SetPercentage) -> Extract | None:
    """Read a day from MySQL into the extract of its folder, which must be locked; a day that moved is read once more.

    Returns:
        What was read, or None for a day that another run has published.

    Raises:
        ConfigError, SchemaError: the table cannot be loaded as luigi.cfg has it.
        SourceError: MySQL refused or was lost, or the day moved again.
        StagingError: the disk refused, or has too little room.
    """
    return once_more(str(one), MovedError)(_read_day, one, set_message, set_percentage)


def _read_day(one: DayOfTable, set_message: SetMessage, set_percentage: SetPercentage) -> Extract | None:
    with ThreadPoolExecutor(3, "meanwhile") as pool:  # MySQL counts meanwhile
        pool.submit(load_driver, one.settings.mysql)
        published = pool.submit(lambda: one.published)
        begun = once_more(str(one), LostConnectionError)(_begin, one, pool)
        source, plan = begun.source, begun.plan
        if published.result():
            return None
        converter = Converter(source.schema, source.primary_key, one.table, one.settings.lake.partition_key)
        check_schema(one.settings, one.table, converter.schema)
        staging.check_room(one.settings.lake.staging_dir, ROOM_FACTOR * plan.rows * source.row_bytes)
        one.folder.empty()
        afterwards: list[Future[Fingerprint]] = []
        reader = DayReader(
            one.settings.mysql,
            source,
            plan,
            str(one),
            at_last_part=lambda: afterwards.append(pool.submit(_look_again, one, source, plan)),
        )
        progress = Progress(str(one), plan.rows, set_message, set_percentage)
        begun.before.add_done_callback(lambda done: None if done.exception() else progress.expect(done.result().rows))
        facts = files.Head(source.schema, source.primary_key)
        watch.begin(one.work(is_reading=True))
        with one.folder.writing(one.folder.extract) as partial:
            with files.ExtractWriter(partial, facts, progress) as writer:
                reader.read_into(writer)
            crc32 = staging.read_crc32(partial)  # MySQL counts meanwhile
            rows, before = writer.rows, begun.before.result()
            if rows != before.rows or reader.slices > 1:
                # Slices are snapshots of their own, and the last one began before this one did.
                after = afterwards[-1].result() if afterwards else _look_again(one, source, plan)
                _check_still(rows, before, after, reader.slices)
    progress.finish(rows)
    along = f"{reader.slices} slices along {plan.axis.column}" if plan.axis else "one piece"
    logger.debug("%s: %d rows in %s, index %s", one, rows, along, plan.index or "of the optimizer's choice")
    return Extract(source, rows, before, begun.extracted_at, dict(reader.zero_dates), crc32)


def _begin(one: DayOfTable, pool: ThreadPoolExecutor) -> _Beginning:
    """Plan a day, and take its fingerprint as of now, maybe while its rows are read."""
    planned: Future[tuple[Source, DayPlan, str]] = Future()

    def take() -> Fingerprint:
        zone = one.settings.lake.timezone
        try:
            with connect(one.settings.mysql) as connection:
                source = describe_table(connection, one.settings.mysql, one.table)
                fetch(connection, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
                extracted_at = read_clock(connection)
                plan = plan_day(connection, source, one.day, zone)
                if not source.is_transactional:
                    fingerprint = take_fingerprint(connection, source, plan, plan.rows)
                planned.set_result((source, plan, extracted_at))
                if not source.is_transactional:
                    return fingerprint
                rows = plan.rows if plan.is_counted else count_day(connection, source, one.day, zone)
                return take_fingerprint(connection, source, plan, rows)
        except BaseException as error:
            if not planned.done():
                planned.set_exception(error)
            raise

    before = pool.submit(take)
    source, plan, extracted_at = planned.result()
    return _Beginning(source, plan, extracted_at, before)


def _look_again(one: DayOfTable, source: Source, plan: DayPlan) -> Fingerprint:
    """Return the fingerprint of the day as of now: all of its rows, and the rest of those where it was."""

    def look() -> Fingerprint:
        with connect(one.settings.mysql) as connection:
            rows = count_day(connection, source, one.day, one.settings.lake.timezone)
            return take_fingerprint(connection, source, plan, rows)

    return once_more(str(one), LostConnectionError)(look)


def _check_still(rows: int, before: Fingerprint, after: Fingerprint, slices: int) -> None:
    """Raise MovedError when the rows that arrived are not those of one moment, as far as fingerprints tell."""
    if rows != after.rows or (slices > 1 and rows != before.rows):
        raise MovedError(
            f"{rows:,} rows arrived and MySQL counts {after.rows:,} ({before.rows:,} before): the day is being written "
            "to, or rows were lost on the way; the next run tries again"
        )
    if slices > 1 and before != after:
        raise MovedError(
            f"{after.describe_change(before)}: the day was written to while it was read; the next run tries again"
        )
