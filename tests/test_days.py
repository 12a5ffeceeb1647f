from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from luigi_jobs.days import day_bounds, each_day, format_days, last_closed_day

BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("now", "zone", "settle_hours", "expected"),
    [
        ("2026-11-22T00:00:00Z", UTC, 0, "2026-11-21"),
        ("2026-11-21T23:59:59Z", UTC, 0, "2026-11-20"),
        ("2026-11-22T23:59:59Z", UTC, 0, "2026-11-21"),
        ("2026-11-22T01:59:59Z", UTC, 2, "2026-11-20"),
        ("2026-11-22T02:00:00Z", UTC, 2, "2026-11-21"),
        ("2026-11-22T12:00:00Z", UTC, 36, "2026-11-20"),
        ("2026-11-22T00:29:59Z", UTC, 0.5, "2026-11-20"),
        ("2026-11-22T00:30:00Z", UTC, 0.5, "2026-11-21"),
        ("2026-11-21T22:59:59Z", "Europe/Berlin", 0, "2026-11-20"),
        ("2026-11-21T23:00:00Z", "Europe/Berlin", 0, "2026-11-21"),
        # The night of 29 March 2026 has no 02:00 to 03:00 in Berlin: three settled hours end at 04:00 on the clock.
        ("2026-03-29T01:59:59Z", "Europe/Berlin", 3, "2026-03-27"),
        ("2026-03-29T02:00:00Z", "Europe/Berlin", 3, "2026-03-28"),
        # The night of 25 October 2026 has it twice: three settled hours end at 02:00 on the clock.
        ("2026-10-25T00:59:59Z", "Europe/Berlin", 3, "2026-10-23"),
        ("2026-10-25T01:00:00Z", "Europe/Berlin", 3, "2026-10-24"),
        # The day of the change itself has 25 hours.
        ("2026-10-25T22:59:59Z", "Europe/Berlin", 0, "2026-10-24"),
        ("2026-10-25T23:00:00Z", "Europe/Berlin", 0, "2026-10-25"),
        ("2026-11-22T18:14:59Z", "Asia/Kathmandu", 0, "2026-11-21"),
        ("2026-11-22T18:15:00Z", "Asia/Kathmandu", 0, "2026-11-22"),
        ("2026-11-22T10:00:00Z", "Pacific/Kiritimati", 0, "2026-11-22"),
        ("2026-11-22T11:59:59Z", "Pacific/Pago_Pago", 0, "2026-11-21"),
        # Apia skipped 30 December 2011.
        ("2011-12-30T10:00:00Z", "Pacific/Apia", 0, "2011-12-30"),
    ],
)
def test_last_closed_day(now: str, zone: str, settle_hours: float, expected: str) -> None:
    zone_info = ZoneInfo(zone) if isinstance(zone, str) else zone

    assert last_closed_day(datetime.fromisoformat(now), zone_info, settle_hours) == date.fromisoformat(expected)


@pytest.mark.parametrize(
    ("day", "zone", "first", "hours"),
    [
        ("2026-11-22", "UTC", "2026-11-22T00:00", 24),
        ("2026-11-22", "Asia/Kathmandu", "2026-11-21T18:15", 24),
        ("2026-03-29", "Europe/Berlin", "2026-03-28T23:00", 23),
        ("2026-10-25", "Europe/Berlin", "2026-10-24T22:00", 25),
        ("2018-11-04", "America/Sao_Paulo", "2018-11-04T03:00", 23),  # the clock went from 00:00 to 01:00
        ("2011-12-30", "Pacific/Apia", "2011-12-30T10:00", 0),  # a date that was skipped
        ("2011-12-31", "Pacific/Apia", "2011-12-30T10:00", 24),
    ],
)
def test_day_bounds(day: str, zone: str, first: str, hours: int) -> None:
    start, stop = day_bounds(date.fromisoformat(day), ZoneInfo(zone))

    assert start == datetime.fromisoformat(first).replace(tzinfo=UTC)
    assert stop - start == timedelta(hours=hours)


@pytest.mark.fault("F27", "the bounds of thirty years of days, in Berlin, Sao Paulo, Apia and Kathmandu")
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia", "Asia/Kathmandu"])
def test_day_bounds_of_thirty_years_leave_no_instant_out_and_none_twice(zone: str) -> None:
    days = list(each_day(date(1995, 1, 1), date(2025, 1, 1)))

    bounds = [day_bounds(day, ZoneInfo(zone)) for day in days]

    assert all(here[1] == there[0] for here, there in pairwise(bounds))
    assert all(start <= stop for start, stop in bounds)


def test_each_day_stops_before_stop() -> None:
    assert list(each_day(date(2024, 2, 28), date(2024, 3, 2))) == [
        date(2024, 2, 28),
        date(2024, 2, 29),
        date(2024, 3, 1),
    ]
    assert list(each_day(date(2024, 3, 2), date(2024, 3, 2))) == []


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ([], ""),
        (["2021-01-03"], "2021-01-03"),
        (["2021-01-09", "2021-01-03", "2021-01-08", "2021-01-07"], "2021-01-03, 2021-01-07..2021-01-09"),
        (["2021-01-31", "2021-02-01"], "2021-01-31..2021-02-01"),
        ([f"2021-01-{day:02d}" for day in range(1, 24, 2)], "2021-01-01, 2021-01-03, 2021-01-05 and 9 more"),
    ],
)
def test_format_days(days: list[str], expected: str) -> None:
    assert format_days(map(date.fromisoformat, days), limit=3) == expected
