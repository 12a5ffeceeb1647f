"""A day's rows from MySQL into the staging folder, held against what MySQL counts."""

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

from luigi_jobs import files, staging
from luigi_jobs.convert import Converter
from luigi_jobs.day_of_table import DayOfTable
from luigi_jobs.errors import LostConnectionError, MovedError
from luigi_jobs.evolution import check_schema
from luigi_jobs.mysql import connect, fetch
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
    """What was read: the table as it was then, the number of rows, and zero dates by column."""

    source: Source
    rows: int
    zero_dates: dict[str, int]


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
        source, plan, counted = once_more(str(one), LostConnectionError)(_begin, one, pool)
        if published.result():
            return None
        converter = Converter(source.schema, source.primary_key, one.table, one.settings.lake.partition_key)
        check_schema(one.settings, one.table, converter.schema)
        staging.check_room(one.settings.lake.staging_dir, ROOM_FACTOR * plan.rows * source.row_bytes)
        one.folder.empty()
        counts: list[Future[int]] = []
        reader = DayReader(
            one.settings.mysql,
            source,
            plan,
            str(one),
            at_last_part=lambda: counts.append(pool.submit(_count_again, one, source)),
        )
        progress = Progress(str(one), plan.rows, set_message, set_percentage)
        counted.add_done_callback(lambda count: None if count.exception() else progress.expect(count.result()))
        facts = files.Facts(source.schema, source.primary_key)
        with one.folder.writing(one.folder.extract) as partial:
            with files.ExtractWriter(partial, facts, progress) as writer:
                reader.read_into(writer)
            rows, before = writer.rows, counted.result()
            if rows != before or reader.slices > 1:
                # Slices are snapshots of their own, and the last one began before this count did.
                again = counts[-1].result() if counts else _count_again(one, source)
                _check_rows(rows, before, again, reader.slices)
    progress.finish(rows)
    along = f"{reader.slices} slices along {plan.axis.column}" if plan.axis else "one piece"
    logger.debug("%s: %d rows in %s, index %s", one, rows, along, plan.index or "of the optimizer's choice")
    return Extract(source, rows, dict(reader.zero_dates))


def _begin(one: DayOfTable, pool: ThreadPoolExecutor) -> tuple[Source, DayPlan, Future[int]]:
    """Plan a day; its rows are counted as of now, maybe while they are read."""
    planned: Future[tuple[Source, DayPlan]] = Future()

    def count() -> int:
        zone = one.settings.lake.timezone
        try:
            with connect(one.settings.mysql) as connection:
                source = describe_table(connection, one.settings.mysql, one.table)
                fetch(connection, "START TRANSACTION WITH CONSISTENT SNAPSHOT")
                plan = plan_day(connection, source, one.day, zone)
                planned.set_result((source, plan))
                return plan.rows if plan.is_counted else count_day(connection, source, one.day, zone)
        except BaseException as error:
            if not planned.done():
                planned.set_exception(error)
            raise

    counted = pool.submit(count)
    return *planned.result(), counted


def _count_again(one: DayOfTable, source: Source) -> int:
    def count() -> int:
        with connect(one.settings.mysql) as connection:
            return count_day(connection, source, one.day, one.settings.lake.timezone)

    return once_more(str(one), LostConnectionError)(count)


def _check_rows(rows: int, before: int, again: int, slices: int) -> None:
    if rows != again or (slices > 1 and rows != before):
        raise MovedError(
            f"{rows:,} rows arrived and MySQL counts {again:,} ({before:,} before): the day is being written to, "
            "or rows were lost on the way; the next run tries again"
        )
