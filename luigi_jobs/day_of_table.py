"""One day of one configured table: where it is staged and published, and whether it may be loaded."""

import os
import time
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache

from luigi.target import FileSystemTarget

from luigi_jobs import staging
from luigi_jobs.config import load_settings
from luigi_jobs.days import last_closed_day
from luigi_jobs.errors import NotClosedError
from luigi_jobs.lake import open_lake
from luigi_jobs.settings import Settings, TableSettings
from luigi_jobs.stored_days import Lake


@dataclass(frozen=True)
class DayOfTable:
    """One day of one configured table in one run, and where it is staged and published."""

    settings: Settings
    table: TableSettings
    day: date
    run: str

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
        """Say whether the day is in the lake."""
        return self.lake.has_day(self.table.name, self.day)

    def __str__(self) -> str:
        return f"{self.table.name} {self.day}"


def open_day(table: str, day: date) -> DayOfTable:
    """Return a day of a configured table.

    Raises:
        ConfigError: luigi.cfg is wrong, or has no such table.
    """
    settings = load_settings()
    return DayOfTable(settings, settings.table(table), day, _name_run())


def last_closed() -> date:
    """Return the newest closed day by this machine's clock."""
    lake = load_settings().lake
    return last_closed_day(datetime.now(UTC), lake.timezone, lake.settle_hours)


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


@cache
def _name_run() -> str:
    """Return a name for this run; planning calls it first, so the processes that Luigi forks inherit it."""
    return f"{os.getpid()}-{time.time_ns()}"
