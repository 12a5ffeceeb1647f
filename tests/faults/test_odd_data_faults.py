"""Rows and tables that are very large, and names and values that are hostile: F29 to F32."""

import base64
import sys
from pathlib import Path

import pyarrow.compute as pc
import pytest
from _bench_measure import run as run_measured
from invariants import find_secret, wait_until_alone
from project import REPORTS, ROOT, Project, ask_luigid, days_ago
from trial import Trial

from luigi_jobs.schema import quote_name

MB = 1024 * 1024
DAY = days_ago(1)
MARKUP, ESCAPES = "<script>alert(1)</script>", "\x1b[2J\x1b[31mred\x07"
slow = pytest.mark.slow_fault


def measure(project: Project, table: str) -> int:
    """Load a day, and return the peak of the largest process in bytes."""
    command = [Path(sys.executable).with_name("luigi"), "--module", "luigi_jobs", "LoadDay", "--table", table]
    environment = project.environment | {"PYTHONPATH": str(ROOT / "tests")}
    arguments = ["--date", str(DAY), "--local-scheduler", "--no-lock"]
    return run_measured([*command, *arguments], project.folder / "log", project.folder, environment).peak_process_bytes


@slow
@pytest.mark.fault("F29", "a row of 64 MB among small ones: eight times its size, and 192 MB")
@pytest.mark.parametrize("driver", ["connectorx", "pymysql"])
def test_a_row_of_64_mb_keeps_within_the_documented_memory(project: Project, driver: str) -> None:
    project.cursor.execute(
        "CREATE TABLE reports (id INT PRIMARY KEY, date_start DATE, body LONGBLOB, KEY (date_start))"
    )
    project.cursor.execute(
        f"INSERT INTO reports VALUES (1, '{DAY}', 'a'), (2, '{DAY}', REPEAT('0123456789abcdef', {4 * MB}))"
    )
    project.configure("mysql", driver=driver)
    project.configure("table.reports", date_column="date_start", since=str(DAY))

    peak = measure(project, "reports")

    values = project.read(DAY)["body"].to_pylist()
    assert values == [b"a", b"0123456789abcdef" * (4 * MB)]
    assert peak < (8 * 64 + 192) * MB


@slow
@pytest.mark.fault("F29", "a table of 2,500 columns, about the most that a definition has room for: 256 MB")
@pytest.mark.parametrize("driver", ["connectorx", "pymysql"])
def test_a_table_of_as_many_columns_as_there_can_be_is_loaded(project: Project, driver: str) -> None:
    names = [f"c{number}" for number in range(2498)]
    columns = ", ".join(f"{name} TINYINT" for name in names)
    project.cursor.execute(f"CREATE TABLE reports (id INT PRIMARY KEY, date_start DATE, {columns}) ENGINE=MyISAM")
    for number in range(200):
        values = ", ".join(str((number + place) % 100) for place in range(len(names)))
        project.cursor.execute(f"INSERT INTO reports VALUES ({number}, '{DAY}', {values})")
    project.configure("mysql", driver=driver)
    project.configure("table.reports", date_column="date_start", since=str(DAY))

    peak = measure(project, "reports")

    loaded = project.read(DAY).sort_by("id")
    assert loaded.schema.names == ["id", "date_start", *names]
    assert [loaded[f"c{place}"].to_pylist() for place in (0, 2497)] == [
        [(number + place) % 100 for number in range(200)] for place in (0, 2497)
    ]
    assert peak < 256 * MB


@slow
@pytest.mark.fault("F29", "a day of 20,000,000 rows: 350 MB")
def test_a_day_of_very_many_rows_keeps_within_the_memory_of_a_small_one(project: Project) -> None:
    rows, doubled = 20_000_000, 1
    project.cursor.execute("CREATE TABLE reports (id INT PRIMARY KEY, date_start DATE, amount INT) ENGINE=MyISAM")
    project.cursor.execute(f"INSERT INTO reports VALUES (1, '{DAY}', 7)")
    while doubled < rows:
        project.cursor.execute(
            "INSERT INTO reports SELECT id + %s, date_start, (id + %s) * 7 %% 1000 FROM reports WHERE id <= %s",
            (doubled, doubled, rows - doubled),
        )
        doubled *= 2
    project.configure("table.reports", date_column="date_start", since=str(DAY))

    peak = measure(project, "reports")

    loaded = project.read(DAY)
    amounts = sum(number * 7 % 1000 for number in range(1000)) * (rows // 1000)
    assert (loaded.num_rows, pc.sum(loaded["id"]).as_py()) == (rows, rows * (rows + 1) // 2)
    assert pc.sum(loaded["amount"]).as_py() == amounts
    assert peak < 350 * MB


SOURCES = ["a`b", "it's", '"x"', "two words", "x;DROP TABLE kept;--", "..", "a/b", "_x", ".x", "ORDER", "東京", "%s",
           "%(x)s", "<script>", "a\\b", "#", "-- x", "a=b", "$HOME", "x" * 64]  # fmt: skip


@slow
@pytest.mark.fault("F30", "twenty sources of hostile names, in one run")
def test_sources_of_hostile_names_are_loaded(trial: Trial) -> None:
    project = trial.project
    project.cursor.execute("CREATE TABLE kept (id INT)")
    for number, name in enumerate(SOURCES):
        project.cursor.execute(
            f"CREATE TABLE {quote_name(name)} (id INT PRIMARY KEY, date_start DATE, KEY (date_start))"
        )
        project.cursor.execute(f"INSERT INTO {quote_name(name)} VALUES ({number}, '{DAY}')")
        keys = {"source": name.replace("%", "%%"), "date_column": "date_start", "since": str(DAY)}
        project.configure(f"table.t{number}", **keys)

    loaded = run_all(trial, 0)

    assert "ERROR" not in loaded
    for number in range(len(SOURCES)):
        assert project.read(DAY, f"t{number}")["id"].to_pylist() == [number]
    project.cursor.execute("SHOW TABLES LIKE 'kept'")
    assert len(project.cursor.fetchall()) == 1


def run_all(trial: Trial, code: int) -> str:
    """Run BackfillAll, hold it against the invariants that go without a table, and return what it said."""
    trial.runs += 1
    process = trial.project.start("BackfillAll")
    output, _ = process.communicate(timeout=120)
    assert process.returncode == code, output
    assert wait_until_alone(process.pid) == ""
    assert find_secret(trial.project, output) == ""
    assert "Traceback" not in output
    return output


FOLDERS = [
    "two words",
    "it's",
    "A`b",
    "ORDER",
    "Ümlaut 東京",
    "a=b",
    "x;y",
    "a%b",
    "$x",
    "<b>",
    "a+b",
    "a&b",
    "a#b?c",
    "Reports",
]
REFUSED = {
    "..": "begins with '.'",
    ".x": "begins with '.'",
    "_x": "begins with '_'",
    "../x": "holds a slash",
    "a/b": "holds a slash",
    "a\\b": "holds a slash",
    "y" * 201: "is longer than 200 bytes",
    " x": "begins or ends with a space",
}


@slow
@pytest.mark.fault("F30", "fourteen tables whose folders have hostile names, in one run, and again")
def test_folders_of_hostile_names_are_found_again(trial: Trial) -> None:
    project = trial.project
    project.add_reports([DAY], rows=3)
    del project.sections["table.reports"]
    for name in FOLDERS:
        project.configure(f"table.{name}", source="reports", date_column="date_start", since=str(DAY))

    run_all(trial, 0)

    for name in FOLDERS:
        assert project.days(name) == [DAY], name
        assert project.read(DAY, name).num_rows == 3
    puts = trial.s3.count()["PutObject"]
    run_all(trial, 0)
    assert trial.s3.count()["PutObject"] == puts == len(FOLDERS)


@pytest.mark.fault("F30", "folders that Athena hides, or that are no one folder: each is named, before any connection")
def test_folders_that_cannot_be_are_refused_with_their_reasons(trial: Trial) -> None:
    for name in REFUSED:
        trial.project.configure(f"table.{name}", date_column="date_start", since=str(DAY))

    output = run_all(trial, 35)

    for name, reason in REFUSED.items():
        assert f"[table.{name}]: the name " in output
        assert reason in output
    assert (trial.mysql.connections, trial.s3.requests) == ([], [])


@slow
@pytest.mark.fault(
    "F31", "a decoded column of another's name in other case, and a column of the name of a rule's target"
)
@pytest.mark.parametrize("target", ["ID", "account", "Date"])
def test_two_columns_that_are_one_to_athena_are_refused(trial: Trial, target: str) -> None:
    trial.days = [DAY]
    trial.project.add_reports(trial.days, decode=f"encoded -> {target}: base64")

    run = trial.run(cause=rf"SchemaError: reports: .*{target}")

    assert run.code == 35
    assert trial.mysql.answers() == []
    trial.heal(lambda: trial.project.configure("table.reports", **REPORTS))


@slow
@pytest.mark.fault(
    "F32", "values with markup, escapes of a terminal and NUL are the same in the lake, and stand in no line"
)
@pytest.mark.parametrize("driver", ["connectorx", "pymysql"])
def test_hostile_values_are_the_same_in_the_lake(small: Trial, driver: str) -> None:
    small.project.configure("mysql", driver=driver)
    small.project.cursor.execute("ALTER TABLE reports ADD note TEXT, ADD raw BLOB")
    hostile = [MARKUP, ESCAPES, "a\0b", "\u202e\ufeff\u2028", "'; DROP TABLE reports; --", "{{7*7}}${x}%s", "\r\n\t"]
    for number, value in enumerate(hostile, 1):
        small.project.cursor.execute(
            "UPDATE reports SET note = %s, raw = %s, encoded = %s WHERE id = %s",
            (value, value.encode() + b"\xff\x00", base64.b64encode(value.encode()).decode(), number),
        )

    run = small.run()

    assert run.code == 0
    assert small.project.read(small.days[0]).sort_by("id")["note"].to_pylist()[: len(hostile)] == hostile
    small.heal()


@slow
@pytest.mark.fault("F32", "a value with markup and escapes cannot be decoded: log, status message and page of luigid")
def test_hostile_values_are_never_shown_as_they_are(small: Trial, luigid: str) -> None:
    small.project.cursor.execute("UPDATE reports SET encoded = %s WHERE id = 3", (f"{ESCAPES}{MARKUP}",))

    run = small.run(
        scheduler=luigid, cause=r"DecodeError: reports \S+: cannot decode encoded: row id=3 holds '\\x1b\[2J"
    )

    assert run.code == 30
    assert not [character for character in run.output if character < " " and character != "\n"]
    failed = ask_luigid(luigid, "task_list", status="FAILED", upstream_status="")
    task = max((name for name in failed if name.startswith("DecodeDay")), key=lambda name: failed[name]["last_updated"])
    told = ask_luigid(luigid, "fetch_error", task_id=task)["error"]
    assert "cannot decode encoded: row id=3" in told
    assert MARKUP not in told
    assert not [character for character in told if character < " " and character != "\n"]
    small.heal(lambda: small.project.cursor.execute("UPDATE reports SET encoded = NULL WHERE id = 3"))
