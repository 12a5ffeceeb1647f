"""The Luigi tasks. They only wire: what is required, where it goes, which steps run.

Backfill -> RangeDaily -> LoadDay -> DecodeDay -> ExtractDay
"""

import datetime
from collections.abc import Iterable
from contextlib import suppress
from functools import cached_property
from types import ModuleType
from typing import Any

import luigi
from luigi.tools.range import RangeDaily

from luigi_jobs import gaps, process, watch
from luigi_jobs.config import load_settings
from luigi_jobs.day_of_table import DayOfTable, check_closed, check_since, forget_listings, open_day, parse_instant
from luigi_jobs.days import utc_today
from luigi_jobs.errors import ConfigError, GapError, LuigiJobsError, name_failure
from luigi_jobs.results import hand_over
from luigi_jobs.runs import current_run

LOADED_SINCE = "load again what was published before this instant, such as 2026-11-22T10:00"


def _open(task: luigi.Task) -> DayOfTable:
    process.watch_children()
    return open_day(task.table, task.date, parse_instant(task.loaded_since))


def _pipeline() -> ModuleType:
    """Import the steps of a day: pyarrow takes a third of a second, which a run with nothing to do is spared."""
    from luigi_jobs import pipeline  # noqa: PLC0415

    return pipeline


class _DayParameter(luigi.DateParameter):
    """A day whose error names the option."""

    def __init__(self, option: str, **keys: Any):
        super().__init__(**keys)
        self._option = option

    def parse(self, text: str) -> datetime.date:
        """Read YYYY-MM-DD."""
        try:
            day: datetime.date = super().parse(text)
        except ValueError:
            raise ConfigError(f"--{self._option} {text}: must be a day of the calendar, YYYY-MM-DD") from None
        return day


class _Step:
    """What the steps of a day have in common."""

    date = _DayParameter("date", description="the day, YYYY-MM-DD; it must be closed")
    table = luigi.Parameter(description="NAME of a section [table.NAME] in luigi.cfg")
    loaded_since = luigi.OptionalStrParameter(default=None, significant=False, description=LOADED_SINCE)

    @property
    def priority(self) -> int:
        """Newer days first; the steps of one day together."""
        return int(self.date.toordinal())


class ExtractDay(_Step, luigi.Task):
    """Stream one day of a table from MySQL into staging, as MySQL has it."""

    def output(self) -> luigi.Target:
        """Return the staged Arrow IPC file."""
        return luigi.LocalTarget(_open(self).folder.extract, format=luigi.format.Nop)

    def complete(self) -> bool:
        """Say whether the extract, or what was made of it, stands."""
        one = _open(self)
        return _pipeline().has_extract(one) or one.published

    def run(self) -> None:
        """Extract the day."""
        one = _open(self)
        _pipeline().extract_day(one, self.set_status_message, self.set_progress_percentage)


class DecodeDay(_Step, luigi.Task):
    """Decode one staged day to its final schema, as a Parquet file in staging."""

    def requires(self) -> luigi.Task:
        """Require the day's extract."""
        return self.clone(ExtractDay)

    def output(self) -> luigi.Target:
        """Return the staged Parquet file."""
        return luigi.LocalTarget(_open(self).folder.decoded, format=luigi.format.Nop)

    def complete(self) -> bool:
        """Say whether the decoded day, or the published one, stands."""
        one = _open(self)
        return _pipeline().has_decoded(one) or one.published

    def run(self) -> None:
        """Decode the day."""
        _pipeline().decode_day(_open(self))


class LoadDay(_Step, luigi.Task):
    """Publish one closed day of a table in the lake: `{table}/date=YYYYMMDD/{table}.parquet`."""

    def requires(self) -> luigi.Task:
        """Require the decoded day; refuse a day that is not closed, or lies before `since`."""
        check_since(self.date, self.table)
        check_closed(self.date, self.table)
        return self.clone(DecodeDay)

    def output(self) -> luigi.Target:
        """Return the day's one object."""
        return _open(self).target

    def complete(self) -> bool:
        """Say whether the day's one object stands at its one key."""
        return _open(self).published

    def run(self) -> None:
        """Publish the day."""
        _pipeline().load_day(_open(self), self.set_status_message)

    @classmethod
    def bulk_complete(cls, parameter_tuples: Iterable[datetime.date]) -> list[datetime.date]:
        """Return the days a range has nothing to do for, from one listing.

        RangeDaily gives a functools.partial as `cls` and a one-shot map of days.
        """
        days = list(parameter_tuples)
        if not days:
            return []
        process.watch_children()
        one = cls(days[0])
        return gaps.complete_days(one.table, days, parse_instant(one.loaded_since))


class Backfill(luigi.WrapperTask):
    """Load every closed day of a table that is missing from the lake, newest first; fails while gaps remain."""

    table = luigi.Parameter(description="NAME of a section [table.NAME] in luigi.cfg")
    start = _DayParameter("start", default=None, description="first day to look at; default: `since` of the table")
    stop = _DayParameter("stop", default=None, description="day to stop before; default: up to the last closed day")
    limit = luigi.IntParameter(default=0, description="load at most so many days in this run; default 0: no limit")
    loaded_since = luigi.OptionalStrParameter(default=None, description=LOADED_SINCE)

    @cached_property
    def window(self) -> gaps.Window:
        """The days looked at; settled once, so that a run over midnight has one answer."""
        if self.limit < 0:
            raise ConfigError(f"--limit {self.limit}: must be a number of days, or 0 for no limit", table=self.table)
        return gaps.open_window(self.table, self.start, self.stop, parse_instant(self.loaded_since))

    @cached_property
    def missing_days(self) -> luigi.Task:
        """RangeDaily over the whole window, which by default it would cut to 99 days and to 50 tasks.

        What every day would fail with is found out here, once.
        """
        gaps.report_at_exit(self.window, process.look)
        try:
            _pipeline().check_table(self.table)
        except LuigiJobsError as error:
            watch.note_failure(self.table, name_failure(error))
            raise
        days = RangeDaily(
            of=LoadDay,
            of_params={"table": self.table, "loaded_since": self.loaded_since},
            start=self.window.first,
            stop=self.window.stop,
            days_back=(utc_today() - self.window.first).days + 1,
            task_limit=self.limit if self.limit else len(self.window),
            reverse=True,
            param_name="date",
        )
        days.__dict__.pop("_cached_requires", None)  # Luigi hands out the instance of an earlier run of this process
        return days

    def requires(self) -> list[luigi.Task]:
        """Require the missing days, or nothing while no day of the window is closed."""
        return [self.missing_days] if self.window else []

    def complete(self) -> bool:
        """List the lake: no closed day of the window is missing."""
        process.watch_children()
        run = current_run()
        if run is None or self.__dict__.get("_run") is not run:  # a process that runs it again has another window
            self._run = run
            self.__dict__.pop("window", None)
            self.__dict__.pop("missing_days", None)
            watch.note_failure(self.table, "")
            if not self.window:
                _pipeline().check_clock()
        missing = gaps.find_missing(self.window, is_planning=True)
        if not missing:
            gaps.log_complete(self.window)
        return not missing

    def run(self) -> None:
        """Fail when the limit, or a day that was lost meanwhile, left gaps."""
        if missing := gaps.find_missing(self.window):
            raise GapError(gaps.describe_gaps(self.window, missing), table=self.table)


class BackfillAll(luigi.WrapperTask):
    """Backfill every table of luigi.cfg; a table that fails does not stop the others."""

    def requires(self) -> list[luigi.Task]:
        """Require the backfill of every table."""
        return [Backfill(table=name) for name in sorted(load_settings().tables)]

    def complete(self) -> bool:
        """Say whether every table is complete; one that cannot tell is not, and says why when it runs itself."""
        try:
            return all(task.complete() for task in self.requires())
        except LuigiJobsError:
            load_settings()
            return False


def _begin(task: luigi.Task) -> None:
    process.die_with_parent()
    process.begin(_open(task).work())
    forget_listings()


def _end(_: luigi.Task) -> None:
    process.end()


def _fail(task: luigi.Task, error: BaseException) -> None:
    process.end()
    watch.note_failure(task.table, name_failure(error))


def _die(task: luigi.Task, message: str) -> None:
    """Look, in the process that forked it, whether a step was done though its process was ended before it said so."""
    forget_listings()
    with suppress(LuigiJobsError):
        if task.complete():
            hand_over(task.task_id)
            return
    place = f"{task.table} {task.date}: "
    if not watch.last_failure(task.table).startswith(place):  # it is not known why
        watch.note_failure(task.table, place + message)


for _task in (ExtractDay, DecodeDay, LoadDay):
    _task.event_handler(luigi.Event.START)(_begin)
    _task.event_handler(luigi.Event.SUCCESS)(_end)
    _task.event_handler(luigi.Event.FAILURE)(_fail)
    _task.event_handler(luigi.Event.PROCESS_FAILURE)(_die)
    _task.event_handler(luigi.Event.TIMEOUT)(_die)
