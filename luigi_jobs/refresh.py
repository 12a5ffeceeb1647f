"""Days of the lake that have changed in MySQL since they were loaded: `refresh_days` of a table's section."""

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

from luigi_jobs.config import load_settings
from luigi_jobs.day_of_table import last_closed, mark_changed
from luigi_jobs.days import ONE_DAY
from luigi_jobs.facts import DayFacts
from luigi_jobs.fingerprint import Fingerprint, take_fingerprints
from luigi_jobs.footers import read_footer
from luigi_jobs.lake import open_lake
from luigi_jobs.mysql import connect
from luigi_jobs.runs import current_run
from luigi_jobs.settings import Settings, TableSettings
from luigi_jobs.source import describe_table
from luigi_jobs.stored_days import Lake, StoredDay

logger = logging.getLogger("luigi-interface")

REQUESTS_AT_A_TIME = 8

_asked: dict[tuple[str, date, date], object] = {}  # in which run; by this process or the one it was forked from


def find_changed(table: str, first: date, stop: date, stored: Mapping[date, StoredDay]) -> None:
    """Ask MySQL, once in a run, which of the newest days in [first, stop) have changed, and have them count as missing.

    Args:
        stored: those days that are in the lake; those among the last `refresh_days` closed days are looked at.

    Raises:
        SourceError, ConfigError: MySQL cannot tell.
    """
    settings = load_settings()
    ours = settings.table(table)
    last = last_closed()
    days = sorted(day for day in stored if last - timedelta(days=ours.refresh_days) < day <= last)
    if not days:
        return
    run, place = current_run(), (table, first, stop)
    if run is not None and _asked.get(place) is run:
        return
    now = _ask_mysql(settings, ours, days[0], days[-1] + ONE_DAY)
    lake = open_lake(settings.lake)
    with ThreadPoolExecutor(REQUESTS_AT_A_TIME, "facts") as pool:
        before = dict(zip(days, pool.map(lambda day: read_fingerprint(lake, ours, day), days), strict=True))
    changed = {day: (stored[day].etag, reason) for day in days if (reason := _compare(now[day], before[day]))}
    mark_changed(table, changed, looked_at=days)
    for day, (_, reason) in changed.items():
        logger.warning("%s %s: has changed since it was loaded, and counts as missing: %s", table, day, reason)
    _asked[place] = run


def _ask_mysql(settings: Settings, table: TableSettings, first: date, stop: date) -> dict[date, Fingerprint]:
    with connect(settings.mysql) as connection:
        source = describe_table(connection, settings.mysql, table)
        return take_fingerprints(connection, source, first, stop, settings.lake.timezone)


def read_fingerprint(lake: Lake, table: TableSettings, day: date) -> Fingerprint | str | None:
    """Return the fingerprint that a day was loaded with; of files that do not tell, their rows; None for unknown.

    Of what is no Parquet file, why it must be loaded again.
    """
    if taken := Fingerprint.parse(lake.find_facts(table.name, day).fingerprint):
        return taken
    footer = read_footer(lake, table.name, day)  # whoever copies an object may lose its metadata
    if footer is None:
        return "what stands there is no whole Parquet file"
    taken = Fingerprint.parse(DayFacts.from_footer(footer.metadata or {}).fingerprint)
    return taken or (None if table.transform else Fingerprint(footer.num_rows))


def _compare(now: Fingerprint, before: Fingerprint | str | None) -> str:
    """Say why a day is loaded again; empty when it need not."""
    if not isinstance(before, Fingerprint):
        return before or ""
    if change := now.describe_change(before):
        return change
    if now.kind and now.kind != before.kind:
        return f"its fingerprint was {before.kind or 'count'}, and is {now.kind} now"
    return ""
