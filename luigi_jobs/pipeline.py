"""The three steps of one day: extract, decode, load. Plain functions; tasks call them, tests can too."""

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from luigi_jobs import mysql, staging, stream
from luigi_jobs.config import load_settings
from luigi_jobs.convert import Converter
from luigi_jobs.day_of_table import DayOfTable, check_closed
from luigi_jobs.errors import (
    DecodeError,
    LargeBatchError,
    LostConnectionError,
    LuigiJobsError,
    SchemaError,
    SourceError,
    ZeroDateError,
)
from luigi_jobs.lake import open_lake
from luigi_jobs.progress import Progress
from luigi_jobs.settings import Settings, TableSettings

logger = logging.getLogger("luigi-interface")

ATTEMPTS = 2
RETRY_WAIT_S = (1.0, 3.0)
ROOM_FACTOR = 2
REUSE_S = 6 * 3600

SetMessage = Callable[[str], None] | None
SetPercentage = Callable[[int], None] | None


def check_table(table: str) -> None:
    """Hold a table's settings against staging and MySQL, once, before any of its days is begun.

    Raises:
        LuigiJobsError: what all of its days would fail with: folder, login, table, column, type, rule or transform.
    """
    settings = load_settings()
    ours = settings.table(table)
    try:
        staging.make_root(Path(settings.lake.staging_dir))
        open_lake(settings.lake).check()
        with mysql.connect(settings.mysql) as connection:
            source = mysql.describe_table(connection, settings.mysql, ours)
            if not mysql.has_date_index(connection, settings.mysql, ours):
                logger.warning(
                    "%s: no index of MySQL's table %s begins with %s: every day reads the whole table",
                    table, ours.source, ours.date_column,
                )  # fmt: skip
        Converter(source.schema, source.primary_key, ours, settings.lake.partition_key)
    except LuigiJobsError as error:
        raise type(error)(f"{table}: {error}", table=table, column=error.column) from error


def extract_day(one: DayOfTable, set_message: SetMessage = None, set_percentage: SetPercentage = None) -> None:
    """Stream a day from MySQL into the staging folder, unless a whole extract of it stands there or it is published.

    The rows that arrive are held against COUNT(*): a difference is asked once more, then it is an error. A connection
    that is lost on the way is tried once more.

    Raises:
        LuigiJobsError: ConfigError, SourceError, SchemaError or StagingError, with table and day.
    """
    with _working(one, set_message):
        if has_extract(one) or one.published:
            return
        check_closed(one.day, one.table.name)
        started, extracted_at = time.monotonic(), time.time()
        source, rows = _again_if_lost(one)(_read_day, one, set_message, set_percentage)
        one.folder.write_stamp(
            staging.Stamp(
                settings=one.settings.fingerprint(one.table),
                query=_hash_query(source),
                run=one.run,
                rows=rows,
                extracted_at=extracted_at,
                seconds=time.monotonic() - started,
            )
        )


def _again_if_lost(one: DayOfTable) -> Retrying:
    def say(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        logger.warning("%s: %s; trying once more", one, str(error).removesuffix("; the next run tries again"))

    return Retrying(
        retry=retry_if_exception_type(LostConnectionError),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random(*RETRY_WAIT_S),
        before_sleep=say,
        reraise=True,
    )


def _read_day(one: DayOfTable, set_message: SetMessage, set_percentage: SetPercentage) -> tuple[mysql.Source, int]:
    """Read a day from MySQL into the extract; return the table as it was then, and the number of rows."""
    settings, zone = one.settings.mysql, one.settings.lake.timezone
    with mysql.connect(settings) as connection:
        source = mysql.describe_table(connection, settings, one.table)
        condition = mysql.day_condition(source, one.day, zone)
        expected = mysql.count_day(connection, source, condition)
    Converter(source.schema, source.primary_key, one.table, one.settings.lake.partition_key)
    staging.check_room(one.settings.lake.staging_dir, ROOM_FACTOR * expected * source.row_bytes)
    one.folder.empty()
    progress = Progress(str(one), expected, set_message, set_percentage)
    with one.folder.writing(one.folder.extract) as partial:
        rows = _stream(one, source, condition, partial, progress)
        if rows != expected:
            _recount(one, source, condition, rows, expected)
    progress.finish(rows)
    return source, rows


def _stream(one: DayOfTable, source: mysql.Source, condition: str, path: Path, progress: Progress) -> int:
    facts = staging.Facts(source.schema, source.primary_key)

    guard_dates = False
    while True:
        try:
            with closing(stream.stream_day(one.settings.mysql, source, condition, guard_dates)) as batches:
                return staging.write_extract(path, batches, facts, progress)
        except ZeroDateError:
            if guard_dates:
                raise
            logger.warning("%s: a date column holds dates that are none, such as 0000-00-00; they become NULL", one)
            guard_dates = True
        except LargeBatchError:
            if source.batch_rows == 1:
                raise
            source = replace(source, max_batch_rows=max(1, source.batch_rows // 16))


def _recount(one: DayOfTable, source: mysql.Source, condition: str, rows: int, expected: int) -> None:
    with mysql.connect(one.settings.mysql) as connection:
        again = mysql.count_day(connection, source, condition)
    if rows != again:
        raise SourceError(
            f"{rows:,} rows arrived and MySQL counts {again:,} ({expected:,} before): the day is being written to, "
            "or rows were lost on the way; the next run reads it again"
        )


def has_extract(one: DayOfTable) -> bool:
    """Say whether a whole extract, or what was decoded from one, stands in the staging folder and may be used."""
    return has_decoded(one) or (one.folder.extract.exists() and _usable(one))


def has_decoded(one: DayOfTable) -> bool:
    """Say whether a whole decoded day stands in the staging folder and may be used."""
    return one.folder.decoded.exists() and _usable(one)


def _usable(one: DayOfTable) -> bool:
    """Hold what a folder's files were made by against today's settings, query, schema and rows.

    Files of this run need no look at MySQL; those that another run left are used only while they are young, and if
    MySQL would read as many rows the same way.
    """
    stamp = one.folder.read_stamp()
    if stamp is None or stamp.settings != one.settings.fingerprint(one.table):
        return False
    if stamp.run == one.run:
        return True
    is_young = 0 <= time.time() - stamp.extracted_at < REUSE_S
    return is_young and (stamp.query, stamp.rows) == _read_now(one.settings, one.table, one.day)


def _read_now(settings: Settings, table: TableSettings, day: date) -> tuple[str, int]:
    """Return the hash of the query that would read a day now, and how many rows it would read."""
    with mysql.connect(settings.mysql) as connection:
        source = mysql.describe_table(connection, settings.mysql, table)
        condition = mysql.day_condition(source, day, settings.lake.timezone)
        return _hash_query(source), mysql.count_day(connection, source, condition)


def _hash_query(source: mysql.Source) -> str:
    text = f"{stream.select_day(source, condition='')} {source.schema}"
    return hashlib.sha256(text.encode()).hexdigest()


def decode_day(one: DayOfTable) -> None:
    """Turn a day's extract into the Parquet file the lake will have, then remove the extract.

    Raises:
        LuigiJobsError: DecodeError, SchemaError or StagingError, with table and day.
    """
    with _working(one):
        if has_decoded(one) or (not one.folder.extract.exists() and one.published):
            return
        started = time.monotonic()
        try:
            with one.folder.writing(one.folder.decoded) as partial:
                _decode(one, partial)
        except (DecodeError, SchemaError):
            one.folder.empty()  # whoever repairs the row wants it read again
            raise
        one.folder.extract.unlink()
        if stamp := one.folder.read_stamp():
            one.folder.write_stamp(replace(stamp, seconds=stamp.seconds + time.monotonic() - started))


def _decode(one: DayOfTable, path: Path) -> None:
    with staging.read_extract(one.folder.extract) as (facts, batches):
        converter = Converter(facts.schema, facts.key, one.table, one.settings.lake.partition_key)
        staging.write_parquet(path, converter.schema, converter.convert(batches))


def load_day(one: DayOfTable) -> None:
    """Publish a day's Parquet file in the lake and remove its staging folder, either way; logs the day's one line.

    Raises:
        LuigiJobsError: LakeError or StagingError, with table and day.
    """
    with _working(one):
        if not one.folder.decoded.exists() and one.published:
            logger.info("%s: another run has published it", one)
            return
        check_closed(one.day, one.table.name)
        started = time.monotonic()
        stamp = one.folder.read_stamp()
        rows = staging.count_parquet(one.folder.decoded)
        try:
            size = one.lake.publish(one.folder.decoded, one.table.name, one.day)
        finally:
            one.folder.empty()  # a lake that refuses day after day must not fill the disk
    seconds = (stamp.seconds if stamp else 0.0) + time.monotonic() - started
    logger.info(
        "loaded table=%s day=%s rows=%d bytes=%d seconds=%.1f rows/s=%.0f",
        one.table.name, one.day, rows, size, seconds, rows / seconds,
    )  # fmt: skip


@contextmanager
def _working(one: DayOfTable, set_message: SetMessage = None) -> Iterator[None]:
    """Hold the day's staging folder, and say which table and day an error is about."""

    def say_waiting() -> None:
        logger.info("%s: another run works on this day; waiting for it", one)
        if set_message:
            set_message("waiting for another run that works on this day")

    try:
        with one.folder.locked(say_waiting):
            yield
    except LuigiJobsError as error:
        if error.table and error.day:
            raise
        raise type(error)(f"{one}: {error}", table=one.table.name, day=one.day, column=error.column) from error
