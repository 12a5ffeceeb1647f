"""Which closed days are missing from the lake, and the last words of a run that left some."""

import atexit
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime
from itertools import pairwise

from luigi.cmdline_parser import CmdlineParser

from luigi_jobs import staging, watch
from luigi_jobs.config import load_settings
from luigi_jobs.day_of_table import is_outdated, last_closed, name_reason
from luigi_jobs.days import ONE_DAY, each_day, format_days
from luigi_jobs.errors import TRIES_AGAIN, ConfigError, LuigiJobsError
from luigi_jobs.lake import open_lake
from luigi_jobs.logs import printable
from luigi_jobs.settings import TableSettings

logger = logging.getLogger("luigi-interface")

_told: set["Window"] = set()  # by this process or the one it was forked from


@dataclass(frozen=True)
class Window:
    """The closed days of a table from `first` up to but not including `stop`; empty when they are equal.

    With `loaded_since`, a day counts only if it was published since then.
    """

    table: str
    first: date
    stop: date
    loaded_since: datetime | None = None

    def __len__(self) -> int:
        return (self.stop - self.first).days

    @property
    def command(self) -> str:
        """Return the command that loads the window, by the scheduler that this command was given."""
        words = ["luigi", "--module", "luigi_jobs", "Backfill"]
        words += [f"--table={self.table}"] if self.table.startswith("-") else ["--table", self.table]
        words += ["--start", str(self.first), "--stop", str(self.stop)]
        since = ["--loaded-since", self.loaded_since.isoformat()] if self.loaded_since else []
        return shlex.join([*words, *since, *_scheduler_options(sys.argv)])


def _scheduler_options(arguments: list[str]) -> list[str]:
    """Return those of a command's arguments that choose the scheduler; a URL with a password is left out."""
    chosen: list[str] = []
    for argument, value in pairwise([*arguments, ""]):
        if argument == "--local-scheduler":
            chosen.append(argument)
        elif argument in ("--scheduler-host", "--scheduler-port", "--scheduler-url") and "@" not in value:
            chosen += [argument, value]
        elif (
            argument.startswith(("--scheduler-host=", "--scheduler-port=", "--scheduler-url=")) and "@" not in argument
        ):
            chosen.append(argument)
    return chosen


def plan_window(
    table: TableSettings, closed: date, start: date | None, stop: date | None, loaded_since: datetime | None = None
) -> Window:
    """Return the days that a backfill looks at: all closed days since `since`, narrowed to [start, stop).

    Raises:
        ConfigError: the range is empty by mistake, or reaches back before the table's history.
    """
    if start and stop and start >= stop:
        raise ConfigError(f"--start {start} is not before --stop {stop}, which is exclusive", table=table.name)
    if start and start < table.since:
        raise ConfigError(
            f"--start {start} lies before `since = {table.since}` of [table.{table.name}]: correct one of them",
            table=table.name,
        )
    first = start or table.since
    end = min(stop or closed + ONE_DAY, closed + ONE_DAY)
    return Window(table.name, first, max(first, end), loaded_since)


def open_window(table: str, start: date | None, stop: date | None, loaded_since: datetime | None = None) -> Window:
    """Return the window of a configured table as of now."""
    return plan_window(load_settings().table(table), last_closed(), start, stop, loaded_since)


def find_missing(window: Window, *, is_planning: bool = False) -> list[date]:
    """List the lake and return the days of the window that must be loaded, oldest first.

    Those are the days that are not there, those published before `loaded_since`, and those that MySQL has changed
    since, which is asked once a run, while it is planned. What killed runs left in staging of the others is removed on
    the way.

    Raises:
        LuigiJobsError: lake, MySQL or staging do not tell; with the command that tries again.
    """
    if not window:
        return []
    try:
        return _find_missing(window, is_planning)
    except LuigiJobsError as error:
        why = str(error).removesuffix(TRIES_AGAIN)
        raise type(error)(
            f"{window.table}: cannot tell which of {len(window)} closed days from {window.first} on are missing: {why}"
            f"; to load: {window.command}", table=window.table, day=error.day, column=error.column,
        ) from error  # fmt: skip


def _find_missing(window: Window, is_planning: bool) -> list[date]:
    lake = load_settings().lake
    found = open_lake(lake).list_days(window.table, window.first, window.stop - ONE_DAY)
    if is_planning and load_settings().table(window.table).refresh_days:
        from luigi_jobs.refresh import find_changed  # noqa: PLC0415  # imports pyarrow

        find_changed(window.table, window.first, window.stop, found)
    since = window.loaded_since
    done = {day for day, stored in found.items() if not is_outdated(window.table, day, stored, since)}
    staging.sweep(lake.staging_dir, window.table, lake.partition_key, done)
    return [day for day in each_day(window.first, window.stop) if day not in done]


def complete_days(table: str, days: Iterable[date], loaded_since: datetime | None) -> list[date]:
    """Return those of `days` that a range has nothing to do for: they are in the lake, or not closed yet.

    A day that is not closed is none to wait for: stock RangeDaily counts today in, and would fail every day.
    """
    wanted = sorted(set(days))
    closed = last_closed()
    missing = set()
    if wanted and wanted[0] <= closed:
        window = Window(table, wanted[0], min(wanted[-1], closed) + ONE_DAY, loaded_since)
        missing = set(find_missing(window, is_planning=True))
    if unclosed := [day for day in wanted if day > closed]:
        logger.info("%s: %s not closed yet, left for a later run", table, format_days(unclosed))
    return [day for day in wanted if day not in missing]


def describe_gaps(window: Window, missing: list[date]) -> str:
    """Say how many days are missing, which, what went wrong last, and the command that loads them."""
    span = replace(window, first=missing[0], stop=missing[-1] + ONE_DAY)
    reasons = [reason for day in missing if (reason := name_reason(window.table, day, window.loaded_since))]
    outdated = f" or outdated ({reasons[0]})" if reasons else ""
    why = watch.last_failure(window.table)
    because = f"; last error: {printable(why)}" if why else ""
    return (
        f"{window.table}: {len(missing)} of {len(window)} closed days missing from the lake{outdated}: "
        f"{format_days(missing)}{because}; to load: {span.command}"
    )


def log_complete(window: Window) -> None:
    """Say, once in a run, that nothing is missing."""
    if window in _told:
        return
    _told.add(window)
    if window:
        logger.info("%s: all %d closed days from %s on are in the lake", window.table, len(window), window.first)
    else:
        logger.info("%s: no day from %s on is closed yet: nothing to do", window.table, window.first)


def report_at_exit(window: Window, look: Callable[[], None]) -> None:
    """Have a luigi command end, after Luigi's summary, with a line that says whether gaps are left, and which.

    `look` is called before, to find processes that have just been killed.
    """
    if CmdlineParser.get_instance() is None:  # luigi.build: the caller has the result in hand
        return
    pid = os.getpid()

    def report() -> None:
        if os.getpid() != pid:
            return
        look()
        try:
            missing = find_missing(window)
        except LuigiJobsError as error:
            logger.error("%s", error)
            return
        if missing:
            logger.error(describe_gaps(window, missing))
        else:
            log_complete(window)

    atexit.register(report)
