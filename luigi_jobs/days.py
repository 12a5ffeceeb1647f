"""Calendar days: which are closed, and where one begins and ends. Pure."""

from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo

ONE_DAY = timedelta(days=1)


def last_closed_day(now: datetime, zone: tzinfo, settle_hours: float) -> date:
    """Return the newest day that ended, in `zone`, at least `settle_hours` before `now`.

    A day has ended when the clock in `zone` shows a later date, so days of 23 and 25 hours need no care of their own.

    Args:
        now: an instant, with a zone of its own.
        zone: the business time zone.
        settle_hours: hours of real time, >= 0.
    """
    settled = now.astimezone(UTC) - timedelta(hours=settle_hours)
    return settled.astimezone(zone).date() - ONE_DAY


def day_bounds(day: date, zone: tzinfo) -> tuple[datetime, datetime]:
    """Return the first instant of `day` in `zone` and the first of the next day, both in UTC.

    Neighbouring days share a bound, so every instant belongs to exactly one day. Where a change of the clock skips
    midnight the day begins with the change; a date that a zone skipped altogether has no length.
    """
    return _first_instant(day, zone), _first_instant(day + ONE_DAY, zone)


def _first_instant(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day, time.min, zone).astimezone(UTC)


def utc_today() -> date:
    """Return today's date in UTC, from which RangeDaily counts its days back."""
    return datetime.now(UTC).date()


def each_day(first: date, stop: date) -> Iterator[date]:
    """Yield every day from `first` up to but not including `stop`."""
    for ordinal in range(first.toordinal(), stop.toordinal()):
        yield date.fromordinal(ordinal)


def format_days(days: Iterable[date], limit: int = 8) -> str:
    """Write days as runs, oldest first: `2021-01-03, 2021-01-07..2021-01-09`; more than `limit` runs are cut."""
    runs: list[list[date]] = []
    for day in sorted(days):
        if runs and day - runs[-1][1] == ONE_DAY:
            runs[-1][1] = day
        else:
            runs.append([day, day])
    texts = [f"{a}" if a == b else f"{a}..{b}" for a, b in runs[:limit]]
    return ", ".join(texts) + (f" and {len(runs) - limit} more" if len(runs) > limit else "")
