"""One day of one configured table: where it is staged and published, and whether it may be loaded."""

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache

from luigi.target import FileSystemTarget

from luigi_jobs import staging, watch
from luigi_jobs.config import load_settings
from luigi_jobs.days import last_closed_day
from luigi_jobs.errors import ConfigError, NotClosedError
from luigi_jobs.lake import open_lake
from luigi_jobs.settings import TABLE_SECTION, Settings, TableSettings
from luigi_jobs.stored_days import Lake, StoredDay

# Days that have changed in MySQL since they were loaded: the object that must go, and why. Planning finds them, so the
# processes that Luigi forks inherit them.
_changed: dict[tuple[str, date], tuple[str, str]] = {}


@dataclass(frozen=True)
class DayOfTable:
    """One day of one configured table in one run, and where it is staged and published.

    `loaded_since` is the instant since which an object must have been published to count, if any.
    """

    settings: Settings
    table: TableSettings
    day: date
    run: str
    loaded_since: datetime | None = None

    @property
    def folder(self) -> staging.DayFolder:
        """Return the day's staging folder."""
        lake = self.settings.lake
        return staging.open_day(lake.staging_dir, self.table.name, lake.partition_key, self.day)

    @property
    def lake(self) -> Lake:
        """Return this process's lake."""
        return open_lake(self.settings.lake)

    @property
    def target(self) -> FileSystemTarget:
        """Return the Luigi target of the day in the lake."""
        return self.lake.target(self.table.name, self.day)

    @property
    def published(self) -> bool:
        """Say whether the day is in the lake, and need not be loaded again."""
        stored = self.lake.find_day(self.table.name, self.day)
        return stored is not None and not is_outdated(self.table.name, self.day, stored, self.loaded_since)

    @property
    def reason(self) -> str:
        """Return why the day may have to be loaded again; empty for one that only may be missing."""
        return name_reason(self.table.name, self.day, self.loaded_since)

    def work(self, is_reading: bool = False) -> watch.Work:
        """Return what the process that is at this day writes down."""
        return watch.Work(self.table.name, str(self.day), self.settings.mysql.read_timeout_s if is_reading else 0)

    def __str__(self) -> str:
        return f"{self.table.name} {self.day}"


def is_outdated(table: str, day: date, stored: StoredDay, loaded_since: datetime | None) -> bool:
    """Say whether a day must be loaded again though it is in the lake."""
    etag, _ = _changed.get((table, day), ("", ""))
    return etag == stored.etag or (loaded_since is not None and stored.modified < loaded_since)


def name_reason(table: str, day: date, loaded_since: datetime | None) -> str:
    """Return why a day may have to be loaded again; empty for one that only may be missing."""
    if found := _changed.get((table, day)):
        return found[1]
    return f"wanted as loaded since {loaded_since.isoformat()}" if loaded_since else ""


def mark_changed(table: str, days: Mapping[date, tuple[str, str]], looked_at: Iterable[date]) -> None:
    """Take note of the days that must be loaded again, by (etag, reason), and that the others looked at need not."""
    for day in looked_at:
        _changed.pop((table, day), None)
    _changed.update({(table, day): found for day, found in days.items()})


def open_day(table: str, day: date, loaded_since: datetime | None = None) -> DayOfTable:
    """Return a day of a configured table.

    Raises:
        ConfigError: luigi.cfg is wrong, or has no such table.
    """
    settings = load_settings()
    return DayOfTable(settings, settings.table(table), day, _name_run(), loaded_since)


def last_closed() -> date:
    """Return the newest closed day by this machine's clock."""
    lake = load_settings().lake
    return last_closed_day(datetime.now(UTC), lake.timezone, lake.settle_hours)


def check_since(day: date, table: str) -> None:
    """Raise ConfigError for a day before a table's history, which no backfill and no audit would know of."""
    since = load_settings().table(table).since
    if day < since:
        raise ConfigError(
            f"{table} {day} lies before `since = {since}` of [{TABLE_SECTION}{table}]: correct one of them",
            table=table,
            day=day,
        )


def check_closed(day: date, table: str) -> None:
    """Raise NotClosedError for a day whose rows may still be coming."""
    lake = load_settings().lake
    if day > (last := last_closed()):
        raise NotClosedError(
            f"{table} {day} is not closed: the last closed day is {last} (time zone {lake.timezone}, "
            f"settle_hours {lake.settle_hours:g}); the first Backfill after it closes loads it",
            table=table,
            day=day,
        )


def forget_listings() -> None:
    """Have this process look at the lake afresh, now that planning is over and tasks run."""
    open_lake(load_settings().lake).forget_listings()


def parse_instant(text: str | datetime | None) -> datetime | None:
    """Read an instant of `--loaded-since`: ISO 8601, or one from Python; without an offset in [lake] timezone.

    Raises:
        ConfigError: it is none, or lies in the future.
    """
    if not text:
        return None
    try:
        instant = datetime.fromisoformat(str(text))
    except ValueError as error:
        raise ConfigError(f"--loaded-since {text}: must be like 2026-11-22T10:00 or 2026-11-22T10:00+01:00") from error
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=load_settings().lake.timezone)
    if instant > (now := datetime.now(UTC)):
        raise ConfigError(
            f"--loaded-since {text}: lies in the future, so no day could be loaded since: read in time zone "
            f"{instant.tzinfo} it is {instant.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}, and now is {now:%Y-%m-%dT%H:%M:%SZ}"
        )
    return round_up(instant)


def round_up(instant: datetime) -> datetime:
    """Return the first whole second that is not before an instant: S3 tells seconds, rounded down."""
    return instant if not instant.microsecond else instant.replace(microsecond=0) + timedelta(seconds=1)


@cache
def _name_run() -> str:
    """Return a name for this run; planning calls it first, so the processes that Luigi forks inherit it."""
    return f"{os.getpid()}-{time.time_ns()}"
