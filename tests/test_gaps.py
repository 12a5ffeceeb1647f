"""Which days are missing, at every length of history at which stock Luigi gets it wrong."""

import functools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any

import luigi
import pytest
from luigi.tools.range import RangeDaily
from project import Project, count_requests, days_ago, last_days, table_settings, today

from luigi_jobs import Backfill, BackfillAll, LoadDay, gaps
from luigi_jobs.errors import ConfigError
from luigi_jobs.gaps import Window, plan_window
from luigi_jobs.lake import S3Lake, open_lake

TEN_YEARS = 3653
TABLE = table_settings(since=date(2021, 1, 1))


@pytest.fixture(scope="module")
def history(s3: Any, bucket: str) -> str:
    """Ten years of days in the lake, below a prefix that is returned."""
    keys = [f"history/reports/date={day:%Y%m%d}/reports.parquet" for day in last_days(TEN_YEARS)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda key: s3.put_object(Bucket=bucket, Key=key, Body=b"x"), keys))
    return "history"


@pytest.fixture
def days_with_gaps(request: pytest.FixtureRequest, project: Project, history: str) -> Iterator[list[date]]:
    """A history of param[0] days of which those at the positions param[1] are missing; the missing ones."""
    length, positions = request.param
    project.prefix = history
    project.configure("lake", url=f"s3://{project.bucket}/{history}")
    missing = sorted(last_days(length)[position] for position in positions)
    project.remove_days(missing)
    project.add_reports([], since=str(days_ago(length)))
    project.load()
    yield missing
    project.put_days(missing)


def lengths_and_gaps() -> list[Any]:
    return [
        pytest.param((length, sorted(positions)), id=f"{length} days, {len(positions)} missing")
        for length in (5, 6, 51, 60, TEN_YEARS)
        for positions in ({length // 2}, {0, 1, length // 3, length - 2, length - 1})
    ]


@pytest.mark.parametrize("days_with_gaps", lengths_and_gaps(), indirect=True)
def test_backfill_requires_exactly_the_missing_days_newest_first(days_with_gaps: list[date]) -> None:
    backfill = Backfill(table="reports")

    assert backfill.complete() is False
    (range_daily,) = backfill.requires()
    assert isinstance(range_daily, RangeDaily)
    assert [task.date for task in range_daily.requires()] == days_with_gaps[::-1]
    assert {task.table for task in range_daily.requires()} == {"reports"}


@pytest.mark.parametrize("days_with_gaps", lengths_and_gaps(), indirect=True)
@pytest.mark.filterwarnings("ignore:Parameter .param_name.:UserWarning")  # RangeDaily's own default
def test_stock_range_daily_requires_exactly_the_missing_days(days_with_gaps: list[date]) -> None:
    window = gaps.open_window("reports", None, None)

    stock = RangeDaily(
        of=LoadDay, of_params={"table": "reports"}, start=window.first, days_back=TEN_YEARS + 1, task_limit=TEN_YEARS
    )

    assert [task.date for task in stock.requires()] == days_with_gaps


@pytest.mark.fault("F36", "ten years take four LIST requests")
@pytest.mark.parametrize("days_with_gaps", [(TEN_YEARS, ()), (TEN_YEARS, (7, 2000))], indirect=True)
def test_ten_years_take_at_most_four_list_requests_a_listing(days_with_gaps: list[date], project: Project) -> None:
    lake = open_lake(project.load().lake)
    assert isinstance(lake, S3Lake)
    operations = ("ListObjectsV2", "HeadObject")
    counters = [count_requests(lake._s3, operation) for operation in operations]
    lists, heads = [next(counter) for counter in counters]
    backfill = Backfill(table="reports")

    complete = backfill.complete()

    assert complete is not bool(days_with_gaps)
    assert (len(lists), len(heads)) == (4, 0)
    if not complete:
        assert [task.complete() for task in backfill.requires()[0].requires()] == [False, False]
        assert backfill.requires()[0].complete() is False
        assert (len(lists), len(heads)) == (8, 0)


@pytest.mark.parametrize("days_with_gaps", [(60, (3, 9, 50))], indirect=True)
def test_limit_takes_the_newest_missing_days(days_with_gaps: list[date]) -> None:
    (range_daily,) = Backfill(table="reports", limit=2).requires()

    assert [task.date for task in range_daily.requires()] == days_with_gaps[:0:-1]


@pytest.mark.parametrize("days_with_gaps", [(60, (3, 9, 50))], indirect=True)
def test_start_and_stop_narrow_the_window(days_with_gaps: list[date]) -> None:
    backfill = Backfill(table="reports", start=days_with_gaps[1], stop=days_with_gaps[2])

    assert [task.date for task in backfill.requires()[0].requires()] == [days_with_gaps[1]]


def test_bulk_complete_takes_a_partial_and_a_one_shot_map(reports: Project) -> None:
    reports.put_days([days_ago(3), days_ago(1)])
    reports.load()
    asked = map(days_ago, (5, 3, 1, 0, -1))

    complete = LoadDay.bulk_complete.__func__(functools.partial(LoadDay, table="reports"), asked)

    # Today and tomorrow are none to wait for.
    assert complete == [days_ago(3), days_ago(1), today(), today() + timedelta(days=1)]
    assert LoadDay.bulk_complete.__func__(functools.partial(LoadDay, table="reports"), iter(())) == []


def test_today_is_never_asked_for_and_yesterday_once_it_has_settled(reports: Project) -> None:
    now = datetime.now(UTC)
    hours_today = now.hour + now.minute / 60
    for settle_hours, expected in [(0, days_ago(1)), (hours_today + 1, days_ago(2)), (hours_today + 25, days_ago(3))]:
        reports.configure("lake", settle_hours=f"{settle_hours:.3f}")
        reports.load()
        assert max(task.date for task in Backfill(table="reports").requires()[0].requires()) == expected


def test_backfill_before_the_first_day_is_closed_requires_nothing(project: Project) -> None:
    project.add_reports([], since=str(today()))
    project.load()

    assert Backfill(table="reports").requires() == []
    assert Backfill(table="reports").complete() is True


def test_backfill_all_requires_every_table_and_survives_one_that_cannot_tell(project: Project) -> None:
    project.add_reports([days_ago(1)])
    project.add_reports([days_ago(1)], name="orders")
    project.load()

    assert [task.table for task in BackfillAll().requires()] == ["orders", "reports"]
    assert BackfillAll().complete() is False
    project.configure("lake", url="s3://no-such-bucket/x")
    project.load()
    assert BackfillAll().complete() is False


def test_newest_days_have_priority_and_the_steps_of_a_day_stay_together() -> None:
    assert LoadDay(date=date(2021, 1, 2), table="r").priority > LoadDay(date=date(2021, 1, 1), table="r").priority


def test_tasks_have_date_first_and_table_second() -> None:
    parameters = LoadDay.get_params()

    assert [name for name, one in parameters if one.significant] == ["date", "table"]
    assert [name for name, _ in parameters][:2] == ["date", "table"]
    assert LoadDay(date(2021, 1, 1), "reports").task_id == LoadDay(table="reports", date=date(2021, 1, 1)).task_id
    assert issubclass(Backfill, luigi.WrapperTask)


@pytest.mark.parametrize(
    ("closed", "start", "stop", "expected"),
    [
        ("2021-01-31", None, None, ("2021-01-01", "2021-02-01")),
        ("2021-01-31", "2021-01-10", None, ("2021-01-10", "2021-02-01")),
        ("2021-01-31", None, "2021-01-10", ("2021-01-01", "2021-01-10")),
        ("2021-01-31", "2021-01-10", "2021-01-11", ("2021-01-10", "2021-01-11")),
        ("2021-01-31", "2021-01-10", "2022-01-01", ("2021-01-10", "2021-02-01")),
        ("2021-01-31", "2021-02-01", None, ("2021-02-01", "2021-02-01")),
        ("2020-12-01", None, None, ("2021-01-01", "2021-01-01")),
    ],
)
def test_plan_window(closed: str, start: str | None, stop: str | None, expected: tuple[str, str]) -> None:
    first, end = map(date.fromisoformat, expected)

    window = plan_window(
        TABLE,
        date.fromisoformat(closed),
        start and date.fromisoformat(start),
        stop and date.fromisoformat(stop),  # type: ignore[arg-type]
    )

    assert window == Window("reports", first, end)


@pytest.mark.parametrize(
    ("start", "stop", "message"),
    [
        (date(2021, 1, 5), date(2021, 1, 5), "--start 2021-01-05 is not before --stop 2021-01-05"),
        (date(2020, 1, 5), None, "--start 2020-01-05 lies before `since = 2021-01-01`"),
    ],
)
def test_plan_window_refuses_a_range_that_is_a_mistake(start: date, stop: date | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_window(TABLE, date(2021, 1, 31), start, stop)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["luigi", "Backfill"], []),
        (["luigi", "--local-scheduler", "Backfill"], ["--local-scheduler"]),
        (
            ["luigi", "--scheduler-host", "h", "--workers", "2", "--scheduler-port=1"],
            ["--scheduler-host", "h", "--scheduler-port=1"],
        ),
        (["luigi", "--scheduler-url", "http://h:1"], ["--scheduler-url", "http://h:1"]),
        (["luigi", "--scheduler-url", "http://u:secret@h:1"], []),
        (["luigi", "--scheduler-url=http://u:secret@h:1"], []),
    ],
)
def test_the_command_that_loads_the_rest_goes_by_the_same_scheduler(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], expected: list[str]
) -> None:
    monkeypatch.setattr("sys.argv", arguments)

    command = Window("reports", date(2021, 1, 1), date(2021, 2, 1)).command

    start = [
        "luigi",
        "--module",
        "luigi_jobs",
        "Backfill",
        "--table",
        "reports",
        "--start",
        "2021-01-01",
        "--stop",
        "2021-02-01",
    ]
    assert command.split() == [*start, *expected]


def test_describe_gaps_names_days_and_command() -> None:
    window = Window("we'ird table", date(2021, 1, 1), date(2021, 2, 1))

    assert gaps.describe_gaps(window, [date(2021, 1, 3), date(2021, 1, 7), date(2021, 1, 8)]) == (
        "we'ird table: 3 of 31 closed days missing from the lake: 2021-01-03, 2021-01-07..2021-01-08; to load: "
        "luigi --module luigi_jobs Backfill --table 'we'\"'\"'ird table' --start 2021-01-03 --stop 2021-01-09"
    )
