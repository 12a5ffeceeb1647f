"""`luigi-jobs audit`: what it finds, what it says, what it exits with."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from auditing import TRANSFORM, audit, drop_first, find, in_capitals, rewrite
from processes import wait_until
from project import Project, days_ago, last_days, today

from luigi_jobs import cli
from luigi_jobs.days import ONE_DAY

DAY = days_ago(2)


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_an_audit_that_is_told_to_end_leaves_no_file(audited: Project, sent: signal.Signals) -> None:
    audited.cursor.execute("CREATE VIEW slow AS SELECT *, SLEEP(0) nap FROM reports")
    audited.configure("table.slow", date_column="date_start", since=str(days_ago(1)))
    assert audited.luigi("Backfill", "--table", "slow").returncode == 0
    audited.cursor.execute("CREATE OR REPLACE VIEW slow AS SELECT *, SLEEP(5) nap FROM reports")
    command = [sys.executable, "-m", "luigi_jobs.cli", "audit", "--table", "slow", "--deep"]
    environment = audited.environment | {"LUIGI_CONFIG_PATH": "luigi.cfg"}
    run = subprocess.Popen(command, cwd=audited.folder, env=environment, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: list(audited.staging.glob(".audit-*")) != [], seconds=20)

    run.send_signal(sent)
    _, said = run.communicate(timeout=20)

    assert run.returncode == 128 + sent
    assert "Traceback" not in said
    assert list(audited.staging.glob(".audit-*")) == []


def double(table: pa.Table) -> pa.Table:
    return table.append_column("spend", table["spend"])


def without_account(table: pa.Table) -> pa.Table:
    return table.drop_columns(["account"])


def turn_round(table: pa.Table) -> pa.Table:
    return table.select(table.schema.names[::-1])


def widen(table: pa.Table) -> pa.Table:
    return table.set_column(2, "account", table["account"].cast(pa.string()))


@pytest.mark.parametrize("deep", [(), ("--deep",)])
def test_audit_of_a_true_lake_is_green(audited: Project, deep: tuple[str, ...]) -> None:
    run = audit(audited, "--table", "reports", *deep)

    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout == f"reports: 5 of 5 closed days from {days_ago(5)} to before {today()} are equal\n"


@pytest.mark.parametrize(
    ("status", "change"),
    [
        ("missing", lambda project: project.remove_days([DAY])),
        ("rows", lambda project: project.cursor.execute("DELETE FROM reports WHERE date_start = %s LIMIT 1", (DAY,))),
        ("rows", lambda project: rewrite(project, DAY, drop_first)),
        ("schema", lambda project: rewrite(project, DAY, widen)),
        ("unreadable", lambda project: project.put_days([DAY])),
    ],
)
def test_audit_finds_a_day_that_differs_and_its_command_repairs_it(audited: Project, status: str, change: Any) -> None:
    change(audited)

    run = audit(audited, "--table", "reports")

    assert run.returncode == 1
    assert "reports: 4 of 5 closed days" in run.stdout
    assert re.search(rf"^{DAY}  {status} ", run.stdout, re.MULTILINE), run.stdout
    _, _, commands = run.stdout.partition("to repair (add --local-scheduler where there is no luigid):\n")
    (command,) = commands.splitlines()
    words = shlex.split(command)
    assert words[:4] == ["luigi", "--module", "luigi_jobs", "Backfill"]
    assert ("--loaded-since" in words) == (status != "missing")
    assert audited.luigi(*words[3:]).returncode == 0
    assert find(audited) == {}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("max(changed)", "UPDATE reports SET changed = '2026-02-01' WHERE date_start = %s LIMIT 1"),
        ("checksum", "UPDATE reports SET account = 4242 WHERE date_start = %s LIMIT 1"),
    ],
)
def test_audit_finds_values_that_changed_since_by_the_fingerprint(audited: Project, kind: str, change: str) -> None:
    audited.configure("table.reports", fingerprint=kind)
    audited.remove_days(last_days(5))
    assert audited.luigi("Backfill", "--table", "reports").returncode == 0
    audited.cursor.execute(change, (DAY,))

    assert find(audited) == {str(DAY): "stale"}


def test_audit_reports_what_no_day_explains_and_removes_nothing(audited: Project) -> None:
    foreign = ["date=20260101/reports.parquet", "date=20260102/part-0.parquet", "old.csv", "_SUCCESS"]
    for name in foreign:
        audited.s3.put_object(Bucket=audited.bucket, Key=f"{audited.prefix}/reports/{name}", Body=b"x")
    for key in ("orders/x", "loose.csv"):
        audited.s3.put_object(Bucket=audited.bucket, Key=f"{audited.prefix}/{key}", Body=b"x")
    before = audited.keys()

    run = audit(audited)

    assert run.returncode == 1
    why = rf"/reports/date=20260101/reports.parquet lies before `since = {days_ago(5)}`"
    assert re.search(rf"^2026-01-01  extra  .*{why}", run.stdout, re.MULTILINE)
    for name in foreign[1:3]:
        assert f"{audited.prefix}/reports/{name} is no day of this table, and readers take it for one;" in run.stdout
    assert f"{audited.prefix}/reports/_SUCCESS is no day of this table; nothing" in run.stdout
    assert "orders/ is no table of luigi.cfg" in run.stdout
    assert f"{audited.prefix}/loose.csv is no table's; nothing removes it but you" in run.stdout
    assert audited.keys() == before


def test_what_readers_do_not_see_is_reported_and_no_difference(audited: Project) -> None:
    audited.s3.put_object(Bucket=audited.bucket, Key=f"{audited.prefix}/reports/_SUCCESS", Body=b"x")

    run = audit(audited, "--table", "reports")

    assert run.returncode == 0
    assert "_SUCCESS is no day of this table" in run.stdout


def test_a_column_that_was_gained_leaves_the_days_before_it_equal(audited: Project) -> None:
    audited.cursor.execute("ALTER TABLE reports ADD gained INT")

    run = audit(audited, "--table", "reports", "--deep")

    assert run.returncode == 0
    assert "5 of them were loaded before columns were gained or widened" in run.stdout


def test_audit_of_a_range_looks_at_nothing_else(audited: Project) -> None:
    audited.remove_days([days_ago(5), days_ago(1)])

    assert find(audited, "--start", str(days_ago(4)), "--stop", str(days_ago(1))) == {}
    assert find(audited) == {str(days_ago(5)): "missing", str(days_ago(1)): "missing"}
    run = audit(audited)
    assert f"--start {days_ago(5)} --stop {days_ago(4)}" in run.stdout
    assert f"--start {days_ago(1)} --stop {today()}" in run.stdout


def test_audit_of_a_lake_in_a_folder(project: Project) -> None:
    project.add_reports(last_days(2), rows=3)
    project.configure("lake", url=str(project.folder / "lake"))
    assert project.luigi("Backfill", "--table", "reports").returncode == 0
    folder = project.folder / "lake" / "reports"
    assert find(project, "--deep") == {}
    (folder / "mine.parquet").write_text("x")
    (folder.parent / "loose.csv").write_text("x")
    (folder / f"date={days_ago(2):%Y%m%d}" / "reports.parquet").unlink()

    run = audit(project)

    assert (run.returncode, find(project)) == (1, {str(days_ago(2)): "missing"})
    assert f"{folder.parent}/loose.csv is no table's" in run.stdout
    assert f"{folder}/mine.parquet is no day of this table, and readers take it for one" in run.stdout


@pytest.mark.parametrize(
    ("section", "keys", "message"),
    [
        ("mysql", {"port": "1"}, "reports: UnreachableError: cannot reach MySQL"),
        ("mysql", {"database": "nowhere"}, "reports: ConfigError: MySQL "),
        (
            "lake",
            {"url": "s3://there-is-no-such-bucket/x"},
            "reports: LakeError: cannot list s3://there-is-no-such-bucket",
        ),
        ("table.reports", {"source": "nothing"}, "reports: ConfigError: [table.reports] source"),
    ],
)
def test_audit_that_cannot_tell_exits_2_with_one_line(
    audited: Project, section: str, keys: dict[str, str], message: str
) -> None:
    audited.configure(section, **keys)

    run = audit(audited, "--table", "reports")

    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith(f"ERROR: {message}")
    assert len(run.stderr.splitlines()) == 1


@pytest.mark.parametrize("json_option", ["", " --json"])
@pytest.mark.parametrize(
    ("to", "error"),
    [
        (">/dev/full", "ERROR: cannot write what was found: No space left on device\n"),
        (">&-", "ERROR: cannot write what was found: stdout is closed\n"),
        ("| true", "ERROR: cannot write what was found: Broken pipe\n"),
        (">/dev/full 2>/dev/full", ""),
        (">&- 2>&-", ""),
    ],
)
def test_audit_whose_output_nobody_takes_exits_2(audited: Project, to: str, error: str, json_option: str) -> None:
    audited.remove_days([DAY])

    run = subprocess.run(
        ["bash", "-c", f'"$0" -m luigi_jobs.cli audit{json_option} {to}; exit ${{PIPESTATUS[0]}}', sys.executable],
        cwd=audited.folder, env=audited.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (run.returncode, run.stdout, run.stderr) == (2, "", error)


def test_audit_that_cannot_say_why_it_cannot_tell_exits_2(audited: Project) -> None:
    audited.configure("mysql", port="1")

    run = subprocess.run(
        ["bash", "-c", '"$0" -m luigi_jobs.cli audit 2>/dev/full', sys.executable],
        cwd=audited.folder, env=audited.environment, stdout=subprocess.PIPE, check=False,
    )  # fmt: skip

    assert run.returncode == 2


def test_audit_of_an_unknown_table_or_an_empty_range_exits_2(audited: Project) -> None:
    assert "unknown table 'orders'" in audit(audited, "--table", "orders").stderr
    for start, stop, message in [
        (days_ago(1), days_ago(2), "is not before --stop"),
        (today(), today() + ONE_DAY, f"is closed and not before `since`: the last closed day is {days_ago(1)}"),
        (days_ago(9), days_ago(5), f"no table of luigi.cfg has a day before it; the oldest `since` is {days_ago(5)}"),
        (days_ago(5), days_ago(5), "is not before --stop"),
        ("2026-13-01", days_ago(5), "--start: 2026-13-01: must be a day of the calendar, YYYY-MM-DD"),
    ]:
        run = audit(audited, "--start", str(start), "--stop", str(stop))
        assert (run.returncode, run.stdout, message in run.stderr) == (2, "", True), run.stderr


def test_a_table_that_cannot_be_told_hides_no_other(audited: Project) -> None:
    audited.remove_days([DAY])
    audited.configure("table.broken", source="nothing", date_column="at", since=str(days_ago(3)))

    run = audit(audited)
    as_json = audit(audited, "--json")

    assert run.returncode == 2
    assert re.search(rf"^{DAY}  missing ", run.stdout, re.MULTILINE)
    assert run.stderr.startswith("ERROR: broken: ConfigError: [table.broken] source: MySQL has no table ")
    assert len(run.stderr.splitlines()) == 1
    found = json.loads(as_json.stdout)
    assert (as_json.returncode, list(found["errors"]), found["differs"]) == (2, ["broken"], True)
    assert audited.luigi("Backfill", "--table", "reports").returncode == 0
    audited.s3.put_object(Bucket=audited.bucket, Key=f"{audited.prefix}/orders/x", Body=b"x")
    found = json.loads(audit(audited, "--json").stdout)
    assert (found["differs"], found["unknown_tables"]) == (None, ["orders"])


def test_an_audit_of_all_tables_from_a_day_on_takes_those_that_begin_later_whole(audited: Project) -> None:
    audited.add_reports(last_days(2), rows=2, name="young")

    run = audit(audited, "--start", str(days_ago(4)))

    assert run.returncode == 1
    assert "reports: 4 of 4 closed days" in run.stdout
    assert "young: 0 of 2 closed days" in run.stdout


def test_a_long_history_is_asked_for_month_by_month(project: Project) -> None:
    project.add_reports(last_days(70), rows=1)
    for days in (31, 32, 62, 63):
        project.cursor.execute("INSERT INTO reports (date_start) VALUES (%s)", (days_ago(70 - days),))

    found = json.loads(audit(project, "--json").stdout)["tables"][0]["days"]

    rows = {date.fromisoformat(day["day"]): day["mysql_rows"] for day in found}
    assert rows == {days_ago(ago): 1 + (70 - ago in (31, 32, 62, 63)) for ago in range(70, 0, -1)}


def test_a_file_that_does_not_say_what_a_transform_made_it_of_is_not_equal(project: Project) -> None:
    project.add_reports([DAY], rows=3)
    (project.folder / "jobs.py").write_text("def tidy(frame):\n    return frame\n")
    project.configure("table.reports", transform="jobs:tidy")
    project.environment["PYTHONPATH"] = str(project.folder)
    range_of_day = ("--start", str(DAY), "--stop", str(days_ago(1)))
    arguments = ("Backfill", "--table", "reports", *range_of_day)
    assert project.luigi(*arguments, python_path=str(project.folder)).returncode == 0
    assert find(project, *range_of_day) == {}
    path = project.folder / "foreign"
    pq.write_table(project.read(DAY).replace_schema_metadata().slice(0, 0), path)
    project.s3.upload_file(str(path), project.bucket, project.key(DAY))

    assert find(project, *range_of_day) == {str(DAY): "unknown"}


@pytest.mark.parametrize(
    "change", ["ADD gained INT NOT NULL DEFAULT 7", "ADD gained INT FIRST", "MODIFY spend DECIMAL(12,4) FIRST"]
)
def test_columns_that_were_gained_or_moved_leave_a_checksum_as_it_was(audited: Project, change: str) -> None:
    audited.configure("table.reports", fingerprint="checksum")
    audited.remove_days(last_days(5))
    assert audited.luigi("Backfill", "--table", "reports").returncode == 0
    audited.cursor.execute(f"ALTER TABLE reports {change}")
    assert find(audited) == {}

    audited.cursor.execute("UPDATE reports SET spend = spend + 1 WHERE date_start = %s AND spend > 0", (DAY,))

    assert find(audited) == {str(DAY): "stale"}


def test_the_repair_of_a_changed_schema_says_what_it_needs(audited: Project) -> None:
    audited.cursor.execute("ALTER TABLE reports MODIFY account VARCHAR(20)")

    run = audit(audited)

    assert run.returncode == 1
    _, hint, command = run.stdout.partition("to repair, with `schema_changes = accept` in [table.reports] while")
    assert hint
    words = shlex.split(command.splitlines()[-1])
    assert audited.luigi(*words[3:]).returncode == 35
    audited.configure("table.reports", schema_changes="accept")
    assert audited.luigi(*words[3:]).returncode == 0
    assert find(audited) == {}


def test_audit_finds_files_that_are_not_what_was_loaded_as_their_day(audited: Project) -> None:
    source = {"Bucket": audited.bucket, "Key": audited.key(days_ago(2))}
    audited.s3.copy_object(Bucket=audited.bucket, Key=audited.key(days_ago(1)), CopySource=source)
    for number, change in enumerate((double, turn_round, in_capitals, without_account), start=2):
        rewrite(audited, days_ago(number), change)

    found = find(audited)

    assert found == {str(days_ago(2)): "schema"} | {str(days_ago(number)): "altered" for number in (1, 3, 4, 5)}


def test_the_repair_of_days_that_were_altered_needs_nothing_more(audited: Project) -> None:
    """Neither where the newest day was altered nor where a day of the range was."""
    for day in (DAY, days_ago(1)):
        rewrite(audited, day, widen)
        run = audit(audited, "--start", str(DAY), "--stop", str(days_ago(1)))
        assert run.returncode == 1
        assert "to repair (add --local-scheduler where there is no luigid):\n" in run.stdout
    assert find(audited) == {str(DAY): "schema", str(days_ago(1)): "schema"}

    for command in audit(audited).stdout.partition("no luigid):\n")[2].splitlines():
        assert audited.luigi(*shlex.split(command)[3:]).returncode == 0

    assert find(audited) == {}


def test_the_repair_of_a_missing_day_says_that_a_changed_schema_is_refused(audited: Project) -> None:
    audited.cursor.execute("ALTER TABLE reports MODIFY account VARCHAR(20)")
    audited.remove_days([DAY])

    run = audit(audited, "--start", str(DAY), "--stop", str(days_ago(1)))

    assert "to repair, with `schema_changes = accept` in [table.reports] while it runs" in run.stdout


def test_what_a_transform_left_of_a_day_is_held_against_its_footer(project: Project) -> None:
    project.add_reports(last_days(2), rows=9)
    (project.folder / "jobs.py").write_text(TRANSFORM)
    project.configure("table.reports", transform="jobs:tidy")
    project.environment["PYTHONPATH"] = str(project.folder)
    assert project.luigi("Backfill", "--table", "reports", python_path=str(project.folder)).returncode == 0
    assert find(project) == {}

    rewrite(project, DAY, drop_first)

    assert find(project) == {str(DAY): "altered"}


def test_a_day_of_a_folder_that_was_moved_is_followed_and_a_folder_is_no_day(project: Project) -> None:
    project.add_reports(last_days(2), rows=3)
    project.configure("lake", url=str(project.folder / "lake"))
    assert project.luigi("Backfill", "--table", "reports").returncode == 0
    yesterday, before = (project.folder / "lake" / "reports" / f"date={day:%Y%m%d}" for day in (days_ago(1), DAY))
    yesterday.rename(project.folder / "moved")
    yesterday.symlink_to(project.folder / "moved")
    assert find(project) == {}

    (before / "reports.parquet").unlink()
    (before / "reports.parquet").mkdir()

    assert find(project) == {str(DAY): "missing"}
    run = project.luigi("Backfill", "--table", "reports")
    assert run.returncode == 30
    assert f"{before}/reports.parquet: Is a directory" in run.stdout


@pytest.mark.parametrize("lake", ["s3", "folder"])
@pytest.mark.parametrize("state", ["full", "read-only"])
def test_a_deep_audit_that_finds_staging_full_or_read_only_cannot_tell(project: Project, state: str, lake: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root may mount a tmpfs")
    if lake == "folder":
        project.configure("lake", url=str(project.folder / "lake"))
    project.add_reports([DAY], rows=300)
    assert project.luigi("Backfill", "--table", "reports").returncode == 0
    staging = str(project.staging)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k,mode=0700", "tmpfs", staging], check=True)
    try:
        if state == "read-only":
            subprocess.run(["mount", "-o", "remount,ro", staging], check=True)
        run = audit(project, "--deep")
    finally:
        subprocess.run(["umount", staging], check=True)

    cause = {
        "full": r"cannot write \S+/staging/\S+: No space left on device; [\d,]+ bytes are free there",
        "read-only": r"cannot make a folder in \S+/staging: Read-only file system; check \[lake\] staging_dir",
    }[state]
    assert run.returncode == 2
    assert re.fullmatch(rf"ERROR: reports: StagingError: {cause}\n", run.stderr)


def test_main_is_the_console_script(audited: Project, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    audited.load()

    assert cli.main(["audit", "--table", "reports"]) == 0
    assert "5 of 5 closed days" in capsys.readouterr().out
