"""The real luigi command, on real servers: what it loads, how it exits, what its last lines say."""

import re
import shlex
import subprocess
import sys
from collections import Counter
from datetime import date
from typing import Any
from urllib.parse import quote

import pytest
from project import Project, ask_luigid, days_ago, last_days, today, without_footer


def loaded_days(output: str) -> list[date]:
    """The days of the lines that say a day is loaded, in their order."""
    return [date.fromisoformat(day) for day in re.findall(r"loaded table=\S+ day=(\S+) rows=\d+ bytes=\d+ ", output)]


def last_line(output: str) -> str:
    return output.rstrip().splitlines()[-1]


@pytest.mark.parametrize("positions", [(30,), (0, 1, 7, 30, 58, 59)], ids=["one missing", "several missing"])
def test_backfill_of_sixty_days_loads_exactly_the_missing_ones_newest_first(
    project: Project, scheduler: str, positions: tuple[int, ...]
) -> None:
    days = last_days(60)
    missing = [days[position] for position in positions]
    project.add_reports(days, rows=3)
    project.put_days(set(days) - set(missing))

    run = project.luigi("Backfill", "--table", "reports", scheduler=scheduler)

    assert run.returncode == 0, run.stdout
    assert loaded_days(run.stdout) == missing[::-1]
    assert last_line(run.stdout) == f"INFO: reports: all 60 closed days from {days[0]} on are in the lake"
    assert project.days() == days
    for day in set(days) - set(missing):
        assert project.s3.head_object(Bucket=project.bucket, Key=project.key(day))["ContentLength"] == 1
    for day in missing:
        assert project.read(day).num_rows == 3

    again = project.luigi("Backfill", "--table", "reports", scheduler=scheduler)
    assert again.returncode == 0
    assert loaded_days(again.stdout) == []
    assert again.stdout.count(f"INFO: reports: all 60 closed days from {days[0]} on are in the lake") == 1


@pytest.mark.fault("F28", "a day without rows among others")
def test_four_workers_load_twenty_days_and_one_without_rows(project: Project, scheduler: str) -> None:
    days = last_days(20)
    project.add_reports([day for day in days if day != days[7]], rows=50, since=str(days[0]))
    project.add_reports([today()], name="unclosed")

    run = project.luigi("Backfill", "--table", "reports", "--workers", "4", scheduler=scheduler)

    assert run.returncode == 0, run.stdout
    project.check_reports(days)
    assert project.read(days[7]).num_rows == 0
    assert project.read(days[7]).schema == project.read(days[8]).schema
    assert project.staged() == []


def test_stock_range_daily_loads_every_closed_day_and_leaves_today(project: Project) -> None:
    days = last_days(60)
    project.add_reports([*days, today()], rows=2)
    project.put_days(days[:10] + days[11:55])

    run = project.luigi("RangeDaily", "--of", "LoadDay", "--of-params", '{"table": "reports"}', "--start", str(days[0]))

    assert run.returncode == 0, run.stdout
    assert sorted(loaded_days(run.stdout)) == [days[10], *days[55:]]
    assert project.days() == days


def test_stock_luigi_is_green_over_a_gap_that_backfill_fills(project: Project) -> None:
    days = last_days(60)
    project.add_reports(days, rows=1)
    project.put_days(days[:58] + days[59:])
    project.environment["STOCK_LAKE"] = project.sections["lake"]["url"]

    window = ["--start", str(days[0]), "--stop", str(today())]
    stock = project.luigi("RangeDaily", "--of", "Stock", *window, module="stock")

    assert (stock.returncode, days[58] in project.days()) == (0, False)
    assert "This progress looks :)" in stock.stdout
    assert project.luigi("Backfill", "--table", "reports").returncode == 0
    assert project.days() == days


@pytest.mark.parametrize("driver", ["connectorx", "pymysql"])
def test_load_day_loads_one_day_and_says_so_in_one_line(reports: Project, driver: str) -> None:
    reports.configure("mysql", driver=driver)
    day = days_ago(3)

    run = reports.luigi("LoadDay", "--date", str(day), "--table", "reports")

    assert run.returncode == 0, run.stdout
    reports.check_reports([day])
    (line,) = [line for line in run.stdout.splitlines() if "loaded table=" in line]
    size = reports.s3.head_object(Bucket=reports.bucket, Key=reports.key(day))["ContentLength"]
    assert re.fullmatch(rf"INFO: loaded table=reports day={day} rows=20 bytes={size} seconds=\d+\.\d rows/s=\d+", line)


def test_both_drivers_publish_the_same_bytes(reports: Project) -> None:
    bodies = []
    for driver in ("connectorx", "pymysql"):
        reports.configure("mysql", driver=driver)
        reports.remove_days(last_days(5))
        assert reports.luigi("Backfill", "--table", "reports").returncode == 0
        keys = reports.keys()
        objects = [reports.s3.get_object(Bucket=reports.bucket, Key=key)["Body"].read() for key in keys]
        bodies.append(list(map(without_footer, objects)))

    assert len(bodies[0]) == 5
    assert bodies[0] == bodies[1]


def test_a_lake_in_a_folder_works_the_same(reports: Project) -> None:
    lake = reports.folder / "lake"
    reports.configure("lake", url=str(lake))

    run = reports.luigi("Backfill", "--table", "reports")

    assert run.returncode == 0, run.stdout
    assert sorted(str(path.relative_to(lake)) for path in lake.rglob("*") if path.is_file()) == [
        f"reports/date={day:%Y%m%d}/reports.parquet" for day in last_days(5)
    ]
    assert reports.keys() == []


def test_limit_that_leaves_gaps_is_not_green_and_the_last_line_loads_the_rest(reports: Project) -> None:
    run = reports.luigi("Backfill", "--table", "reports", "--limit", "2")

    assert run.returncode == 30
    assert reports.days() == last_days(2)
    start, stop = days_ago(5), days_ago(2)
    command = f"luigi --module luigi_jobs Backfill --table reports --start {start} --stop {stop} --local-scheduler"
    assert last_line(run.stdout) == (
        f"ERROR: reports: 3 of 5 closed days missing from the lake: {days_ago(5)}..{days_ago(3)}; to load: {command}"
    )

    rest = reports.luigi(*shlex.split(command)[3:-1])
    assert rest.returncode == 0, rest.stdout
    assert reports.days() == last_days(5)


def test_a_day_that_fails_stops_no_other_day(reports: Project) -> None:
    reports.cursor.execute("SELECT MIN(id) FROM reports WHERE date_start = %s", (days_ago(3),))
    (row_id,) = reports.cursor.fetchone()
    reports.cursor.execute("UPDATE reports SET encoded = 'abc*' WHERE id = %s", (row_id,))

    run = reports.luigi("Backfill", "--table", "reports", "--workers", "2")

    assert run.returncode == 30
    assert reports.days() == sorted(set(last_days(5)) - {days_ago(3)})
    error = (
        f"DecodeError: reports {days_ago(3)}: cannot decode encoded: row id={row_id} holds 'abc*', which is not base64"
    )
    assert run.stdout.count(error) == 2
    assert "Traceback" not in run.stdout
    gap = f"ERROR: reports: 1 of 5 closed days missing from the lake: {days_ago(3)}; last error: {error}"
    assert last_line(run.stdout).startswith(gap)
    assert "; to load: luigi --module" in last_line(run.stdout)


def test_backfill_all_loads_the_tables_that_can_be(project: Project) -> None:
    for name in ("alpha", "broken", "order"):
        project.add_reports(last_days(3), name=name)
    project.configure("table.broken", date_column="no_such_column")

    run = project.luigi("BackfillAll")

    assert run.returncode == 35
    assert [project.days(name) for name in ("alpha", "broken", "order")] == [last_days(3), [], last_days(3)]
    assert "broken has no column 'no_such_column'" in run.stdout
    assert "broken: 3 of 3 closed days missing" in run.stdout

    project.configure("table.broken", date_column="date_start")
    assert project.luigi("BackfillAll").returncode == 0
    assert project.days("broken") == last_days(3)


@pytest.mark.fault("F22", "two runs at once, of overlapping ranges, with local schedulers and under one luigid")
def test_two_backfills_at_the_same_time_end_with_the_right_lake(project: Project, scheduler: str) -> None:
    days = last_days(12)
    project.add_reports(days, rows=200)

    runs = [
        project.start("Backfill", "--table", "reports", "--workers", "2", scheduler=scheduler),
        project.start("Backfill", "--table", "reports", "--start", str(days[4]), scheduler=scheduler),
    ]
    outputs = [run.communicate(timeout=120)[0] for run in runs]

    # With luigid one run may end while the other still works on its days, and says so by its code.
    assert {run.returncode for run in runs} <= ({0, 10, 25} if scheduler else {0}), outputs
    assert project.luigi("Backfill", "--table", "reports", scheduler=scheduler).returncode == 0
    project.check_reports(days)
    assert project.staged() == []
    assert "Traceback" not in outputs[0] + outputs[1]


@pytest.mark.parametrize(
    ("arguments", "section", "keys", "code", "message"),
    [
        (
            ["Backfill", "--table", "nope"],
            "lake",
            {},
            35,
            "unknown table 'nope': luigi.cfg has no section [table.nope]",
        ),
        (
            ["BackfillAll"],
            "mysql",
            {"port": "x"},
            35,
            "luigi.cfg: [mysql] port = 'x': must be a whole number from 1 to",
        ),
        (["BackfillAll"], "mysql", {"password": "${NOT_SET}"}, 35, "[mysql] password: environment variable NOT_SET is"),
        (["BackfillAll"], "lake", {"uri": "s3://x"}, 35, "[lake] uri: unknown key; known are url, partition_key"),
        (
            ["BackfillAll"],
            "lake",
            {"url": "s3://no-such-bucket"},
            35,
            "bucket no-such-bucket does not exist: create it",
        ),
        (["BackfillAll"], "s3", {"endpoint_url": "http://127.0.0.1:9"}, 35, "Could not connect to the endpoint URL"),
        (["BackfillAll"], "s3", {"aws_access_key_id": "x", "aws_secret_access_key": "y"}, 35, "S3 answered 403"),
        (["BackfillAll"], "mysql", {"host": "no-such-host.invalid"}, 35, "reports: cannot reach MySQL"),
        (["BackfillAll"], "mysql", {"database": "no_such"}, 35, "has no database 'no_such': correct [mysql] database"),
        (["BackfillAll"], "table.reports", {"source": "no_such"}, 35, "or luigi may not read it"),
        (
            ["BackfillAll"],
            "table.reports",
            {"transform": "no_such:f"},
            35,
            "No module named 'no_such'; PYTHONPATH must",
        ),
        (["BackfillAll"], "lake", {"staging_dir": "/proc/nope"}, 35, "cannot make /proc/nope"),
        (
            ["LoadDay", "--table", "reports", "--date", str(today())],
            "lake",
            {},
            35,
            f"reports {today()} is not closed: the",
        ),
        (["Backfill", "--table", "reports", "--start", "2000-01-01"], "lake", {}, 35, "lies before `since = "),
        (
            ["LoadDay", "--table", "reports", "--date", "2000-01-01"],
            "lake",
            {},
            35,
            "reports 2000-01-01 lies before `since = ",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_exit_codes_and_messages(
    reports: Project, arguments: list[str], section: str, keys: dict[str, str], code: int, message: str
) -> None:
    reports.configure(section, **keys)

    run = reports.luigi(*arguments)

    assert run.returncode == code, run.stdout
    assert message in run.stdout
    assert "Traceback" not in run.stdout
    assert "Warning" not in run.stdout
    lines = [line for line in run.stdout.splitlines() if message in line]
    assert len([line for line in lines if "closed days missing from the lake" not in line]) == 1
    assert reports.days() == []


def test_a_table_without_an_index_on_its_date_is_loaded_with_a_warning(reports: Project) -> None:
    reports.cursor.execute("ALTER TABLE reports DROP KEY date_start")

    run = reports.luigi("Backfill", "--table", "reports")

    assert run.returncode == 0
    assert (
        run.stdout.count("WARNING: reports: no index of MySQL's table reports begins with date_start: every day") == 1
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["Backfill"], "MissingParameterException: .*requires the 'table' parameter"),
        (
            ["Backfill", "--table", "reports", "--start", "2026-13-05"],
            "ConfigError: --start 2026-13-05: must be a day of the calendar, YYYY-MM-DD",
        ),
        (["LoadDay", "--table", "reports", "--date", "31.1.2021"], r"ConfigError: --date 31\.1\.2021: must be a day"),
    ],
)
def test_parameters_that_are_wrong_are_one_line(reports: Project, arguments: list[str], message: str) -> None:
    run = reports.luigi(*arguments)

    assert run.returncode == 40
    assert re.search(f"ERROR: Uncaught exception in luigi: {message}", run.stdout)
    assert "Traceback" not in run.stdout


@pytest.mark.fault("F36", "the requests of a run that loads two days are those that README counts")
def test_a_backfill_costs_the_documented_requests(project: Project) -> None:
    days = last_days(10)
    project.add_reports(days, rows=1)
    project.put_days(days[:8])
    project.environment["COUNT_REQUESTS"] = str(project.folder / "requests")

    assert project.luigi("Backfill", "--table", "reports", module="counting").returncode == 0

    sent = Counter((project.folder / "requests").read_text().split())
    assert sent == {"ListObjectsV2": 5, "PutObject": 2, "HeadObject": 2 * 7, "GetObject": 1}


@pytest.mark.fault("F34", "luigid is down")
def test_luigid_that_is_gone_ends_the_run_with_its_code_and_the_way_out(reports: Project) -> None:
    reports.configure("core", rpc_retry_wait="0")

    run = reports.luigi("Backfill", "--table", "reports", scheduler="http://127.0.0.1:9")

    assert run.returncode == 40
    assert "'http://127.0.0.1:9'; start luigid there, or add --local-scheduler" in run.stdout
    assert "Traceback" not in run.stdout
    assert reports.keys() == []


def test_the_visualiser_is_told_rows_and_percentage(reports: Project, luigid: str) -> None:
    run = reports.luigi("LoadDay", "--date", str(days_ago(1)), "--table", "reports", scheduler=luigid)
    assert run.returncode == 0
    (task_id,) = set(re.findall(r"ExtractDay_\w+", run.stdout))

    message = ask_luigid(luigid, "get_task_status_message", task_id=task_id)["statusMessage"]
    percentage = ask_luigid(luigid, "get_task_progress_percentage", task_id=task_id)["progressPercentage"]
    assert message.startswith("20 of 20 rows (100 %), ")
    assert percentage == 100


def test_a_slow_extract_shows_progress_in_the_terminal(project: Project) -> None:
    project.add_reports([days_ago(1)], rows=12)
    project.cursor.execute(
        "CREATE VIEW slow AS SELECT id, date_start, REPEAT('x', 70000) body, SLEEP(0.35) nap FROM reports"
    )
    project.configure("table.slow", date_column="date_start", since=str(days_ago(1)))
    project.configure("mysql", driver="pymysql")

    run = project.luigi("Backfill", "--table", "slow", module="small_batches")

    assert run.returncode == 0, run.stdout
    assert re.search(rf"INFO: slow {days_ago(1)}: \d+ of 12 rows \(\d+ %\), \d+ rows/s", run.stdout)


def test_a_password_with_odd_characters_works_and_is_printed_nowhere(reports: Project, server: Any) -> None:
    secret = "cañary%/@'\"p:ß"
    user = f"u{reports.cursor.connection.db.decode()[-12:]}"
    reports.cursor.execute("CREATE USER %s@'%%' IDENTIFIED BY %s", (user, secret))
    try:
        reports.cursor.execute(f"GRANT SELECT ON `{reports.cursor.connection.db.decode()}`.* TO %s@'%%'", (user,))
        reports.environment |= {"MYSQL_USER": user, "MYSQL_PASSWORD": secret}
        reports.configure("core", log_level="DEBUG")
        runs = [reports.luigi("Backfill", "--table", "reports", "--stop", str(days_ago(2)))]
        reports.cursor.execute(f"REVOKE ALL ON `{reports.cursor.connection.db.decode()}`.* FROM %s@'%%'", (user,))
        runs.append(reports.luigi("Backfill", "--table", "reports"))
    finally:
        reports.cursor.execute("DROP USER %s@'%%'", (user,))

    assert [run.returncode for run in runs] == [0, 35]
    assert reports.days() == last_days(5)[:-2]
    for run in runs:
        for shape in (secret, "ca\\xf1ary", quote(secret, safe=""), "ary%/@"):
            assert shape not in run.stdout


def test_a_luigi_cfg_without_luigis_sections_is_no_reason_to_be_green(reports: Project) -> None:
    for section in ("core", "worker", "scheduler", "retcode"):
        del reports.sections[section]
    reports.cursor.execute("UPDATE reports SET encoded = 'abc*'")
    reports.configure("lake")

    run = reports.luigi("Backfill", "--table", "reports")

    assert run.returncode == 30
    assert "Traceback" not in run.stdout


def test_a_folder_without_luigi_cfg_is_an_error_that_says_so(reports: Project) -> None:
    (reports.folder / "luigi.cfg").write_text("")

    run = reports.luigi("Backfill", "--table", "reports")

    assert run.returncode == 35
    assert f"start luigi in its folder (this is {reports.folder}), or set LUIGI_CONFIG_PATH" in run.stdout


def test_a_transform_that_exits_is_an_error(reports: Project) -> None:
    (reports.folder / "exits.py").write_text("import sys\ndef shape(frame):\n    sys.exit(0)\n")
    reports.configure("table.reports", transform="exits:shape")

    run = reports.luigi("Backfill", "--table", "reports", python_path=str(reports.folder))

    assert run.returncode == 35
    assert "transform = exits:shape failed: SystemExit: 0" in run.stdout


def test_backfills_of_one_long_lived_process_each_look_afresh(reports: Project) -> None:
    code = (
        "import luigi, sys, boto3, os\n"
        "from luigi_jobs import Backfill\n"
        "s3 = boto3.client('s3', endpoint_url=os.environ['S3_ENDPOINT_URL'])\n"
        "for key in (None, *sys.argv[2:]):\n"
        "    if key: s3.delete_object(Bucket=sys.argv[1], Key=key)\n"
        "    assert luigi.build([Backfill(table='reports')], local_scheduler=True)\n"
    )
    keys = [reports.key(days_ago(2)), reports.key(days_ago(4))]

    run = subprocess.run(
        [sys.executable, "-c", code, reports.bucket, *keys],
        cwd=reports.folder,
        env=reports.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert run.returncode == 0, run.stderr
    assert reports.days() == last_days(5)


def test_a_transform_shapes_what_is_loaded(reports: Project) -> None:
    reports.configure("table.reports", transform="test_transform_example:tidy")
    (reports.folder / "test_transform_example.py").write_text(
        "def tidy(frame):\n"
        "    return frame.assign(account_text=frame['account'].astype('string[pyarrow]')).drop(columns='decoded')\n"
    )

    run = reports.luigi("LoadDay", "--date", str(days_ago(1)), "--table", "reports", python_path=str(reports.folder))

    assert run.returncode == 0, run.stdout
    rows = reports.read(days_ago(1))
    assert rows.schema.names == ["id", "date_start", "account", "spend", "account_text"]
    assert str(rows.schema.field("account").type) == "int32"
    assert rows["account"].null_count == 3
