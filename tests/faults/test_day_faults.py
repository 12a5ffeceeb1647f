"""Clocks that are wrong, days that are longer, shorter or skipped, and days and tables without rows: F26 to F28."""

import json
import re
from collections import Counter
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from auditing import audit
from processes import wait_until
from project import days_ago, last_days
from trial import Trial

from luigi_jobs.days import each_day

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)  # of Debian
slow = pytest.mark.slow_fault


def fake_clock(trial: Trial, clock: str) -> None:
    """Have luigi, and all it starts, believe in another time."""
    if FAKETIME is None:
        pytest.skip("Debian's faketime is not installed")
    trial.project.environment |= {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME": clock,
        "TZ": "UTC",
    }


def right_clock(trial: Trial, environment: dict[str, str]) -> None:
    trial.project.environment = environment


BOTH = (
    r"clock says \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ and MySQL's \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ: set the one that is wrong"
)
S3S = "S3 answered 403 RequestTimeTooSkewed; the clock of this machine is wrong"


@slow
@pytest.mark.fault("F26", "this machine's clock is 6 or 10 minutes off: MySQL's is another")
@pytest.mark.parametrize("clock", ["-6m", "+6m", "+10m"])
def test_a_clock_that_is_not_mysqls_is_refused(small: Trial, clock: str) -> None:
    environment = dict(small.project.environment)
    fake_clock(small, clock)

    run = small.run(cause=BOTH)

    assert run.code == 35
    assert small.missing == small.days
    assert small.mysql.answers() == []
    small.heal(lambda: right_clock(small, environment))


@slow
@pytest.mark.fault("F26", "this machine's clock is 4 minutes off")
@pytest.mark.parametrize("clock", ["-4m", "+4m"])
def test_a_clock_that_is_a_little_off_is_none_of_our_business(small: Trial, clock: str) -> None:
    environment = dict(small.project.environment)
    fake_clock(small, clock)

    run = small.run()

    assert run.code == 0
    small.heal(lambda: right_clock(small, environment))


@pytest.mark.fault("F26", "this machine's clock is two days ahead or an hour behind: S3 refuses it")
@pytest.mark.parametrize("clock", ["+2d", pytest.param("-1h", marks=slow)])
def test_a_clock_that_s3_refuses_loads_nothing(small: Trial, clock: str) -> None:
    environment = dict(small.project.environment)
    fake_clock(small, clock)

    run = small.run(cause=f"{BOTH}|{S3S}")

    assert run.code == 35
    assert small.missing == small.days
    small.heal(lambda: right_clock(small, environment))


@slow
@pytest.mark.fault("F26", "this machine's clock is two days ahead, an hour behind or at 1970, and the lake is a folder")
@pytest.mark.parametrize(
    "clock",
    ["+2d", "-1h", "@1970-01-02 00:00:00"],
)
def test_a_clock_that_only_mysql_can_tell_is_wrong_loads_nothing(small: Trial, clock: str) -> None:
    environment, lake = dict(small.project.environment), small.project.folder / "lake"
    url = small.project.sections["lake"]["url"]
    small.project.configure("lake", url=str(lake))
    fake_clock(small, clock)

    run = small.project.luigi("Backfill", "--table", "reports")
    small.runs += 1

    assert run.returncode == 35, run.stdout
    assert [line for line in run.stdout.splitlines() if line.startswith("ERROR") and "clock says" in line]
    assert "Traceback" not in run.stdout
    assert list(lake.rglob("*.parquet")) == []
    small.project.configure("lake", url=url)
    small.heal(lambda: right_clock(small, environment))


@slow
@pytest.mark.fault("F26", "an audit by a clock that is two days ahead of MySQL's cannot tell which days are missing")
def test_an_audit_by_a_wrong_clock_cannot_tell(small: Trial) -> None:
    small.project.configure("lake", url=str(small.project.folder / "lake"))
    fake_clock(small, "+2d")

    run = audit(small.project, "--json")

    assert run.returncode == 2
    assert json.loads(run.stdout)["tables"] == []
    assert re.search(BOTH, json.loads(run.stdout)["errors"]["reports"])


ZONES = [
    ("Europe/Berlin", date(2021, 3, 28), {date(2021, 3, 28): 23}, "connectorx"),
    ("Europe/Berlin", date(2021, 10, 31), {date(2021, 10, 31): 25}, "pymysql"),
    ("America/Sao_Paulo", date(2018, 11, 4), {date(2018, 11, 4): 23}, "connectorx"),  # 00:00 was 01:00
    ("Pacific/Apia", date(2011, 12, 30), {date(2011, 12, 30): 0}, "connectorx"),
    ("Pacific/Apia", date(2011, 12, 30), {date(2011, 12, 30): 0}, "pymysql"),
    ("Asia/Kathmandu", date(2021, 6, 15), {}, "connectorx"),
]


@slow
@pytest.mark.fault("F27", "days of 23 and 25 hours, a day without midnight, a date that is skipped, a zone of +05:45")
@pytest.mark.parametrize(
    ("zone", "middle", "hours", "driver"), ZONES, ids=[f"{zone} {day} {driver}" for zone, day, _, driver in ZONES]
)
def test_the_days_of_a_zone_have_every_row_once(
    trial: Trial, zone: str, middle: date, hours: dict[date, int], driver: str
) -> None:
    project, first, stop = trial.project, middle - timedelta(days=2), middle + timedelta(days=3)
    project.cursor.execute("CREATE TABLE reports (id INT PRIMARY KEY AUTO_INCREMENT, at TIMESTAMP(6) NULL, KEY (at))")
    noon = datetime(middle.year, middle.month, middle.day, 12)
    moments = [
        noon + timedelta(minutes=15 * number, microseconds=shift) for number in range(-400, 401) for shift in (-1, 0)
    ]
    project.cursor.executemany("INSERT INTO reports (at) VALUES (%s)", [(moment,) for moment in moments])
    project.configure("mysql", driver=driver)
    project.configure("lake", timezone=zone)
    project.configure("table.reports", date_column="at", since=str(first))
    trial.days = list(each_day(first, stop))
    arguments = ["--stop", str(stop)]

    run = trial.run(*arguments, exempt={"I2": "the rows of all days are compared at once, below"})

    assert run.code == 0
    read = {day: project.read(day).to_pydict() for day in trial.days}
    ids = Counter(number for day in read.values() for number in day["id"])
    from_, to = (datetime.combine(day, datetime.min.time()) for day in (first, stop))
    expected = {
        number: moment.replace(tzinfo=UTC)
        for number, moment in enumerate(moments, 1)
        if from_ <= moment.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) < to
    }
    assert set(ids) == set(expected)
    assert set(ids.values()) == {1}
    assert {number: at for day in read.values() for number, at in zip(day["id"], day["at"], strict=True)} == expected
    assert {day: len(rows["id"]) / 8 for day, rows in read.items()} == {day: hours.get(day, 24) for day in trial.days}
    trial.is_healed = True


@slow
@pytest.mark.fault("F28", "a table without a row")
@pytest.mark.parametrize("driver", ["connectorx", "pymysql"])
def test_a_table_without_rows_is_days_without_rows(trial: Trial, driver: str) -> None:
    trial.days = last_days(3)
    trial.project.add_reports([], since=str(trial.days[0]))
    trial.project.configure("mysql", driver=driver)

    run = trial.run()

    assert run.code == 0
    for day in trial.days:
        loaded = trial.project.read(day)
        assert loaded.num_rows == 0
        assert [f"{field.name} {field.type}" for field in loaded.schema] == [
            "id int64", "date_start date32[day]", "account int32", "spend decimal128(12, 4)", "decoded binary",
        ]  # fmt: skip
    trial.heal()


@slow
@pytest.mark.fault("F28", "the table is dropped between two runs, and made again with other rows")
def test_a_table_that_is_dropped_is_said_and_one_that_is_made_again_is_loaded(small: Trial) -> None:
    small.heal()
    small.project.remove_days(small.days[:1])
    small.project.cursor.execute("RENAME TABLE reports TO old")

    run = small.run(cause=r"source: MySQL has no table \S+\.reports, or \S+ may not read it", exempt={"I2": "no table"})

    assert run.code == 35
    assert small.missing == small.days[:1]
    statements = ["CREATE TABLE reports LIKE old", "INSERT INTO reports SELECT * FROM old", "DROP TABLE old"]
    small.heal(lambda: [small.project.cursor.execute(statement) for statement in statements])


@slow
@pytest.mark.fault("F28", "the table is dropped while its days are loaded")
def test_a_table_that_is_dropped_meanwhile_leaves_its_days_missing(trial: Trial) -> None:
    trial.days = last_days(16)
    trial.project.add_reports(trial.days)

    def drop(_: object) -> None:
        wait_until(lambda: 200 in trial.s3.statuses("PutObject"), seconds=30)
        trial.project.cursor.execute("RENAME TABLE reports TO old")

    run = trial.run(during=drop, cause=r"reports \S+: .*MySQL has no table|doesn't exist", exempt={"I2": "no table"})

    assert run.code == 30
    assert days_ago(1) not in trial.missing
    trial.heal(lambda: trial.project.cursor.execute("RENAME TABLE old TO reports"))
