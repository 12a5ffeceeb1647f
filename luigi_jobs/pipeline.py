"""The three steps of one day: extract, decode, load. Plain functions; tasks call them, tests can too."""

import hashlib
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import date
from pathlib import Path

from luigi.rpc import RPCError

from luigi_jobs import files, memory, mysql, staging
from luigi_jobs.config import load_settings
from luigi_jobs.convert import Converter
from luigi_jobs.day_of_table import DayOfTable, check_closed
from luigi_jobs.errors import DecodeError, LuigiJobsError, SchemaError, StagingError
from luigi_jobs.evolution import check_schema, forget_schemas
from luigi_jobs.extract import SetMessage, SetPercentage, read_day
from luigi_jobs.facts import DayFacts, hash_schema
from luigi_jobs.fingerprint import take_fingerprint
from luigi_jobs.lake import open_lake
from luigi_jobs.plan import count_day, plan_day
from luigi_jobs.settings import Settings, TableSettings
from luigi_jobs.source import Source, describe_table
from luigi_jobs.stream import load_driver
from luigi_jobs.version import __version__

logger = logging.getLogger("luigi-interface")

REUSE_S = 6 * 3600


def check_clock() -> None:
    """Hold this machine's clock, by which no day of a table is closed yet, against MySQL's.

    Raises:
        LuigiJobsError: the clock is wrong, or MySQL cannot be asked.
    """
    with mysql.connect(load_settings().mysql) as connection:
        mysql.read_clock(connection)


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
            mysql.read_clock(connection)
            source = describe_table(connection, settings.mysql, ours)
            if not source.date_index and not source.is_view:
                logger.warning(
                    "%s: no index of MySQL's table %s begins with %s: every day reads the whole table",
                    table, ours.source, ours.date_column,
                )  # fmt: skip
        converter = Converter(source.schema, source.primary_key, ours, settings.lake.partition_key)
        load_driver(settings.mysql)  # once, for all the processes that Luigi forks
        forget_schemas()
        check_schema(settings, ours, converter.schema)
    except LuigiJobsError as error:
        raise type(error)(f"{table}: {error}", table=table, column=error.column) from error


def extract_day(one: DayOfTable, set_message: SetMessage = None, set_percentage: SetPercentage = None) -> None:
    """Stream a day from MySQL into the staging folder, unless a whole extract of it stands there or it is published.

    The rows that arrive are held against COUNT(*): a difference is asked once more, then it is an error. A connection
    that is lost on the way is tried once more.

    Raises:
        LuigiJobsError: ConfigError, SourceError, SchemaError or StagingError, with table and day.
    """
    memory.spare()
    with _working(one, set_message):
        if has_extract(one):
            return
        check_closed(one.day, one.table.name)
        started, extracted_at = time.monotonic(), time.time()
        extract = read_day(one, _explaining(one, set_message), set_percentage)
        if extract is None:
            return
        one.folder.write_stamp(
            staging.Stamp(
                settings=one.settings.hash(one.table),
                query=_hash_query(extract.source),
                run=one.run,
                boot=staging.name_boot(),
                rows=extract.rows,
                crc32={one.folder.extract.name: extract.crc32},
                zero_dates=extract.zero_dates,
                fingerprint=str(extract.before),
                as_of=extract.extracted_at,
                extracted_at=extracted_at,
                seconds=time.monotonic() - started,
            )
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
    if stamp is None or stamp.settings != one.settings.hash(one.table):
        return False
    if one.loaded_since and stamp.extracted_at < one.loaded_since.timestamp() - 1:  # an instant is rounded up
        return False
    if stamp.run == one.run:
        return True
    if stamp.boot != staging.name_boot():
        return False
    is_young = 0 <= time.time() - stamp.extracted_at < REUSE_S
    return is_young and (stamp.query, stamp.fingerprint) == _read_now(one.settings, one.table, one.day)


def _read_now(settings: Settings, table: TableSettings, day: date) -> tuple[str, str]:
    """Return the hash of the query that would read a day now, and the day's fingerprint."""
    zone = settings.lake.timezone
    with mysql.connect(settings.mysql) as connection:
        source = describe_table(connection, settings.mysql, table)
        plan = plan_day(connection, source, day, zone)
        rows = plan.rows if plan.is_counted else count_day(connection, source, day, zone)
        return _hash_query(source), str(take_fingerprint(connection, source, plan, rows))


def _hash_query(source: Source) -> str:
    text = f"{source.select(condition='')} {source.schema}"
    return hashlib.sha256(text.encode()).hexdigest()


def decode_day(one: DayOfTable) -> None:
    """Turn a day's extract into the Parquet file the lake will have, then remove the extract.

    Raises:
        LuigiJobsError: DecodeError, SchemaError or StagingError, with table and day.
    """
    memory.spare()
    with _working(one):
        if has_decoded(one) or (not one.folder.extract.exists() and one.published):
            return
        started = time.monotonic()
        stamp = one.folder.read_stamp()
        _check_bytes(one, one.folder.extract, stamp)
        try:
            with one.folder.writing(one.folder.decoded) as partial:
                _decode(one, partial, stamp)
                if stamp:  # it names the file before the file takes its name
                    crc32 = stamp.crc32 | {one.folder.decoded.name: staging.read_crc32(partial)}
                    seconds = stamp.seconds + time.monotonic() - started
                    one.folder.write_stamp(replace(stamp, crc32=crc32, seconds=seconds))
        except (DecodeError, SchemaError):
            one.folder.empty()  # whoever repairs the row wants it read again
            raise
        with one.folder.reading():
            one.folder.extract.unlink(missing_ok=True)


def _check_bytes(one: DayOfTable, path: Path, stamp: staging.Stamp | None) -> int:
    """Return a staged file's CRC-32, or raise StagingError for one that is not as it was written."""
    with one.folder.reading():
        crc32 = staging.read_crc32(path)
    if stamp and stamp.crc32.get(path.name) != crc32:
        one.folder.empty()
        raise StagingError(f"{path} has changed since it was written, and is removed; the next run reads the day again")
    return crc32


def _decode(one: DayOfTable, path: Path, stamp: staging.Stamp | None) -> None:
    with files.read_extract(one.folder.extract) as (facts, batches):
        converter = Converter(facts.schema, facts.key, one.table, one.settings.lake.partition_key)
        converter.zero_dates.update(stamp.zero_dates if stamp else {})

        def describe(rows: int) -> dict[str, str]:
            return DayFacts(
                day=str(one.day),
                rows=rows,
                source_rows=stamp.rows if stamp else None,
                fingerprint=stamp.fingerprint if stamp else "",
                extracted_at=stamp.as_of if stamp else "",
                version=__version__,
                schema=hash_schema(converter.schema),
                zero_dates=converter.zero_dates,
                undecodable=converter.undecodable,
            ).to_footer()

        files.write_parquet(path, converter.schema, converter.convert(batches), describe)
    _warn(one, "values that are no real dates", converter.zero_dates)
    _warn(one, "values that cannot be decoded", converter.undecodable)


def _warn(one: DayOfTable, what: str, counts: Mapping[str, int]) -> None:
    if counts:
        columns = ", ".join(f"{count:,} in {name}" for name, count in sorted(counts.items()))
        logger.warning("%s: %s became NULL: %s", one, what, columns)


def _explaining(one: DayOfTable, set_message: SetMessage) -> SetMessage:
    """Return a setter of messages that also says why a day of the lake is loaded again."""
    if not (one.reason and set_message):
        return set_message
    return lambda text: set_message(f"{text}; again: {one.reason}")


def load_day(one: DayOfTable, set_message: SetMessage = None) -> None:
    """Publish a day's Parquet file in the lake and remove its staging folder, either way; logs the day's one line.

    Raises:
        LuigiJobsError: LakeError or StagingError, with table and day.
    """
    with _working(one, set_message):
        if not one.folder.decoded.exists() and one.published:
            logger.info("%s: another run has published it", one)
            return
        check_closed(one.day, one.table.name)
        started = time.monotonic()
        stamp = one.folder.read_stamp()
        crc32 = _check_bytes(one, one.folder.decoded, stamp)
        with one.folder.reading():
            facts, size = files.read_facts(one.folder.decoded), one.folder.decoded.stat().st_size
        if one.loaded_since:  # rounded up, and S3 tells when an object was put rounded down
            time.sleep(max(0.0, one.loaded_since.timestamp() - time.time()))
        try:
            with one.folder.reading():
                is_ours = one.lake.publish(one.folder.decoded, one.table.name, one.day, facts, crc32)
        finally:
            one.folder.empty()  # a lake that refuses day after day must not fill the disk
    if not is_ours:
        logger.info("%s: another run has published it as it was later", one)
        return
    if one.reason and set_message:
        with suppress(RPCError):
            set_message(f"loaded again: {one.reason}")
    rows = facts.rows or 0
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
