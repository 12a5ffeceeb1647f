"""Days that change in MySQL after they were loaded, and days that are wanted again."""

import hashlib
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow.parquet as pq
import pytest
from project import Project, ask_luigid, days_ago, last_days

from luigi_jobs.day_of_table import open_day, parse_instant, round_up
from luigi_jobs.errors import ConfigError
from luigi_jobs.lake import open_lake
from luigi_jobs.pipeline import decode_day, extract_day, load_day
from luigi_jobs.version import __version__

DAY = date(2021, 1, 31)
KINDS = ["count", "max(changed)", "checksum"]


@pytest.fixture
def changing(project: Project) -> Project:
    """Five days of reports with a column that says when a row was last changed."""
    project.add_reports(last_days(5), rows=3)
    project.cursor.execute("ALTER TABLE reports ADD changed DATETIME(6) NOT NULL DEFAULT '2026-01-01'")
    project.configure("table.reports", refresh_days="3", fingerprint="checksum")
    project.run_steps(*last_days(5))
    return project


def loaded(output: str) -> list[str]:
    return sorted(re.findall(r"loaded table=reports day=(\S+)", output))


def etags(project: Project) -> dict[str, str]:
    found = project.s3.list_objects_v2(Bucket=project.bucket, Prefix=project.prefix)["Contents"]
    return {entry["Key"]: entry["ETag"] for entry in found}


@pytest.mark.parametrize("kind", KINDS)
def test_a_day_says_what_it_is_in_its_footer_and_in_s3(project: Project, cursor: Any, kind: str) -> None:
    cursor.execute("CREATE TABLE t (id INT PRIMARY KEY, at DATE, seen DATE, raw TEXT, changed DATETIME, KEY (at))")
    cursor.execute(
        "INSERT INTO t VALUES (1, %s, '2021-00-00', 'YQ==', '2021-02-01 10:00:00'), (2, %s, '2021-01-01', '!', NULL)",
        (DAY, DAY),
    )
    project.configure("table.t", date_column="at", since="2021-01-01", decode="raw -> text: base64 | utf8")
    project.configure("table.t", on_decode_error="null", fingerprint=kind)
    project.load()
    began = datetime.now(UTC)

    project.run_steps(DAY, table="t")

    head = project.s3.head_object(Bucket=project.bucket, Key=project.key(DAY, "t"))["Metadata"]
    project.s3.download_file(project.bucket, project.key(DAY, "t"), str(project.folder / "day"))
    footer = {key.decode(): text.decode() for key, text in pq.read_metadata(project.folder / "day").metadata.items()}
    lines = ["id: int32", "at: date32[day]", "seen: date32[day]", "text: string", "changed: timestamp[us]"]
    assert footer["luigi_jobs.rows"] == footer["luigi_jobs.source_rows"] == "2"
    assert footer["luigi_jobs.version"] == __version__
    assert footer["luigi_jobs.schema"] == hashlib.sha256("\n".join(lines).encode()).hexdigest()
    assert (footer["luigi_jobs.zero_dates"], footer["luigi_jobs.undecodable"]) == ('{"seen": 1}', '{"raw": 1}')
    assert began <= datetime.fromisoformat(footer["luigi_jobs.extracted_at"]) <= datetime.now(UTC)
    fingerprint = json.loads(footer["luigi_jobs.fingerprint"])
    assert fingerprint.pop("rows") == 2
    assert list(fingerprint) == ([] if kind == "count" else [kind])
    if kind == "max(changed)":
        assert fingerprint == {"max(changed)": "2021-02-01 10:00:00"}
    alike = {name: footer[f"luigi_jobs.{name.replace('-', '_')}"] for name in ("rows", "source-rows", "fingerprint")}
    alike |= {name: footer[f"luigi_jobs.{name.replace('-', '_')}"] for name in ("extracted-at", "version", "schema")}
    alike["day"] = footer["luigi_jobs.day"]
    assert alike["day"] == str(DAY)
    assert head == {
        f"luigi-jobs-{name}": text for name, text in (alike | {"zero-dates": "1", "undecodable": "1"}).items()
    }


@pytest.mark.parametrize(
    ("kind", "change", "reason"),
    [
        ("count", "INSERT INTO reports (date_start) VALUES (%s)", "MySQL has 4 rows, and had 3"),
        ("count", "DELETE FROM reports WHERE date_start = %s LIMIT 1", "MySQL has 2 rows, and had 3"),
        ("max(changed)", "UPDATE reports SET changed = '2026-02-01' WHERE date_start = %s LIMIT 1",
         "max(changed) is 2026-02-01 00:00:00.000000, and was 2026-01-01 00:00:00.000000"),
        ("checksum", "UPDATE reports SET spend = spend + 0.0001 WHERE date_start = %s LIMIT 1", "checksum is "),
        ("checksum", "UPDATE reports SET encoded = 'YQ==' WHERE date_start = %s LIMIT 1", "checksum is "),
    ],
)  # fmt: skip
def test_backfill_loads_a_day_again_that_has_changed_and_says_why(
    changing: Project, kind: str, change: str, reason: str
) -> None:
    if kind != "checksum":
        changing.configure("table.reports", fingerprint=kind)
        changing.remove_days(changing.days())
        assert changing.luigi("Backfill", "--table", "reports").returncode == 0
    before = etags(changing)
    changing.cursor.execute(change, (days_ago(2),))
    changing.cursor.execute(change, (days_ago(5),))  # longer ago than refresh_days

    run = changing.luigi("Backfill", "--table", "reports")

    assert run.returncode == 0, run.stdout
    assert loaded(run.stdout) == [str(days_ago(2))]
    line = f"WARNING: reports {days_ago(2)}: has changed since it was loaded, and counts as missing: {reason}"
    assert line in run.stdout
    after = etags(changing)
    assert {key for key in before if before[key] != after[key]} == {changing.key(days_ago(2))}
    changing.cursor.execute("SELECT COUNT(*), SUM(spend) FROM reports WHERE date_start = %s", (days_ago(2),))
    table = changing.read(days_ago(2)).to_pydict()
    assert (len(table["id"]), sum(filter(None, table["spend"]))) == changing.cursor.fetchone()
    assert loaded(changing.luigi("Backfill", "--table", "reports").stdout) == []


def test_the_visualiser_says_why_a_day_is_loaded_again(changing: Project, luigid: str) -> None:
    changing.cursor.execute("INSERT INTO reports (date_start) VALUES (%s)", (days_ago(1),))

    run = changing.luigi("Backfill", "--table", "reports", scheduler=luigid)

    assert run.returncode == 0, run.stdout
    why = "MySQL has 4 rows, and had 3"
    for step, message in (
        ("ExtractDay", rf"4 of 4 rows \(100 %\), .*; again: {why}"),
        ("LoadDay", f"loaded again: {why}"),
    ):
        (task_id,) = set(re.findall(rf"{step}_\w+", run.stdout))
        said = ask_luigid(luigid, "get_task_status_message", task_id=task_id)["statusMessage"]
        assert re.fullmatch(message, said)


def test_nothing_changed_asks_mysql_once_and_loads_nothing(changing: Project) -> None:
    for name in ("requests", "connections"):
        changing.environment[f"COUNT_{name.upper()}"] = str(changing.folder / name)

    run = changing.luigi("Backfill", "--table", "reports", module="counting")

    assert run.returncode == 0
    assert (changing.folder / "connections").read_text().split() == ["MySQL"]
    sent = (changing.folder / "requests").read_text().split()
    assert sorted(sent) == ["HeadObject"] * 3 + ["ListObjectsV2"]


def test_backfill_all_asks_mysql_once_for_each_table_and_is_green_while_days_change(
    project: Project,
) -> None:
    for name in ("alpha", "beta"):
        project.add_reports(last_days(2), rows=2, name=name, refresh_days="2")
    assert project.luigi("BackfillAll").returncode == 0
    for name in ("requests", "connections"):
        project.environment[f"COUNT_{name.upper()}"] = str(project.folder / name)
    assert project.luigi("BackfillAll", module="counting").returncode == 0
    assert (project.folder / "connections").read_text().split() == ["MySQL"] * 2
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(project.luigi, "BackfillAll")
        while not running.done():
            project.cursor.execute("INSERT INTO alpha (date_start) VALUES (%s)", (days_ago(1),))
            time.sleep(0.02)
        run = running.result()

    assert run.returncode == 0, run.stdout
    assert run.stdout.count("has changed since it was loaded") == 1


def test_stock_range_daily_refreshes_too(changing: Project) -> None:
    changing.cursor.execute("DELETE FROM reports WHERE date_start = %s LIMIT 1", (days_ago(1),))
    arguments = ["--of", "LoadDay", "--of-params", '{"table": "reports"}', "--start", str(days_ago(5))]

    run = changing.luigi("RangeDaily", *arguments)

    assert run.returncode == 0, run.stdout
    assert loaded(run.stdout) == [str(days_ago(1))]


def test_what_changes_while_a_day_is_read_is_seen_by_the_next_run(
    changing: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing.load()
    changing.remove_days([days_ago(1)])
    from luigi_jobs import reader

    original = reader.stream_rows

    def stream_rows(*arguments: Any) -> Any:
        changing.cursor.execute("UPDATE reports SET account = 7777 WHERE date_start = %s LIMIT 1", (days_ago(1),))
        return original(*arguments)

    monkeypatch.setattr(reader, "stream_rows", stream_rows)
    changing.run_steps(days_ago(1))
    assert 7777 in changing.read(days_ago(1))["account"].to_pylist()

    run = changing.luigi("Backfill", "--table", "reports")

    assert loaded(run.stdout) == [str(days_ago(1))]
    assert loaded(changing.luigi("Backfill", "--table", "reports").stdout) == []


def test_mysql_that_cannot_tell_is_no_green_run(changing: Project) -> None:
    changing.configure("mysql", port="1")

    run = changing.luigi("Backfill", "--table", "reports")

    assert run.returncode == 35
    assert "cannot reach MySQL" in run.stdout


@pytest.mark.fault("F38", "files without any key, and refresh_days: a day counts by its rows")
def test_days_of_an_older_release_count_by_their_rows(changing: Project) -> None:
    """Their files say nothing of fingerprints."""
    changing.configure("table.reports", fingerprint="count")
    for day, rows in ((days_ago(1), 3), (days_ago(2), 2)):
        path = changing.folder / "old"
        pq.write_table(changing.read(day).slice(0, rows).replace_schema_metadata(), path)
        changing.s3.upload_file(str(path), changing.bucket, changing.key(day))

    run = changing.luigi("Backfill", "--table", "reports")

    assert loaded(run.stdout) == [str(days_ago(2))]


def test_another_kind_of_fingerprint_loads_the_days_of_the_window_once(changing: Project) -> None:
    changing.configure("table.reports", fingerprint="max(changed)")

    run = changing.luigi("Backfill", "--table", "reports")

    assert loaded(run.stdout) == list(map(str, last_days(3)))
    assert "its fingerprint was checksum, and is max(changed) now" in run.stdout
    assert loaded(changing.luigi("Backfill", "--table", "reports").stdout) == []


def test_loaded_since_loads_again_what_is_older_and_goes_on_where_it_was(reports: Project) -> None:
    assert reports.luigi("Backfill", "--table", "reports").returncode == 0
    first = etags(reports)
    since = round_up(datetime.now(UTC)).isoformat()
    time.sleep(1.1)  # S3 tells seconds
    limited = reports.luigi("Backfill", "--table", "reports", "--loaded-since", since, "--limit", "2")
    half = etags(reports)

    run = reports.luigi("Backfill", "--table", "reports", "--loaded-since", since)

    assert limited.returncode == 30
    assert f"3 of 5 closed days missing from the lake or outdated (wanted as loaded since {since})" in limited.stdout
    assert f"--stop {days_ago(2)} --loaded-since {since}" in limited.stdout
    assert sum(first[key] != half[key] for key in first) == 2
    assert run.returncode == 0, run.stdout
    assert loaded(run.stdout) == list(map(str, last_days(5)))[:3]
    assert all(first[key] != etag for key, etag in etags(reports).items())
    reports.check_reports(last_days(5))


def test_loaded_since_costs_no_request_more(reports: Project) -> None:
    assert reports.luigi("Backfill", "--table", "reports").returncode == 0
    reports.environment["COUNT_REQUESTS"] = str(reports.folder / "requests")

    run = reports.luigi("Backfill", "--table", "reports", "--loaded-since", "2026-01-01", module="counting")

    assert run.returncode == 0
    assert (reports.folder / "requests").read_text().split() == ["ListObjectsV2"]


def test_load_day_takes_loaded_since(reports: Project) -> None:
    day = str(days_ago(2))
    for arguments, loads in (([], 1), ([], 0), (["--loaded-since", "2026-01-01T10:00"], 0)):
        run = reports.luigi("LoadDay", "--date", day, "--table", "reports", *arguments)
        assert (run.returncode, len(loaded(run.stdout))) == (0, loads), run.stdout
    time.sleep(1.1)
    since = datetime.now(UTC).isoformat()

    run = reports.luigi("LoadDay", "--date", day, "--table", "reports", "--loaded-since", since)

    assert (run.returncode, loaded(run.stdout)) == (0, [day]), run.stdout


def test_an_instant_to_come_is_refused_with_the_zone_it_was_read_in(reports: Project) -> None:
    reports.configure("lake", timezone="Asia/Tokyo")

    run = reports.luigi("Backfill", "--table", "reports", "--loaded-since", "2099-01-01T00:00")

    assert run.returncode == 35
    assert "read in time zone Asia/Tokyo it is 2098-12-31T15:00:00Z, and now is " in run.stdout


def test_an_instant_may_come_from_python(reports: Project) -> None:
    reports.load()
    instant = datetime(2026, 11, 22, 10, tzinfo=UTC)

    assert parse_instant(instant) == instant


def test_an_instant_of_this_very_second_is_waited_for(reports: Project) -> None:
    reports.load()
    now = datetime.now(UTC)
    one = open_day("reports", days_ago(1), now.replace(microsecond=0) + timedelta(seconds=1))

    for step in (extract_day, decode_day, load_day):
        step(one)

    assert one.published


def test_what_was_staged_before_the_instant_is_read_again(reports: Project) -> None:
    reports.load()
    extract_day(open_day("reports", days_ago(1)))
    time.sleep(2.1)
    reports.cursor.execute("UPDATE reports SET account = 9")

    for step in (extract_day, decode_day, load_day):
        step(open_day("reports", days_ago(1), datetime.now(UTC)))

    assert set(reports.read(days_ago(1))["account"].to_pylist()) == {9}


def test_an_object_that_lost_its_metadata_says_in_its_footer_what_it_was(changing: Project) -> None:
    place = {"Bucket": changing.bucket, "Key": changing.key(days_ago(1))}
    changing.s3.put_object(**place, Body=changing.s3.get_object(**place)["Body"].read())
    changing.cursor.execute("UPDATE reports SET spend = spend + 1 WHERE date_start = %s", (days_ago(1),))

    assert loaded(changing.luigi("Backfill", "--table", "reports").stdout) == [str(days_ago(1))]


def test_a_day_of_the_window_that_is_no_parquet_file_is_loaded_again(changing: Project) -> None:
    changing.s3.put_object(Bucket=changing.bucket, Key=changing.key(days_ago(2)), Body=b"")

    run = changing.luigi("Backfill", "--table", "reports")

    assert (run.returncode, loaded(run.stdout)) == (0, [str(days_ago(2))])
    assert changing.read(days_ago(2)).num_rows == 3


def test_a_writer_that_was_overtaken_after_its_put_leaves_the_newer_day(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.add_reports([days_ago(1)], rows=20)
    settings = project.load()
    stale = open_day("reports", days_ago(1))
    extract_day(stale)
    decode_day(stale)
    lake = open_lake(settings.lake)
    put, calls = lake._put, []

    def put_and_be_overtaken(*arguments: Any) -> None:
        put(*arguments)
        calls.append(1)
        if len(calls) == 1:
            project.cursor.execute("INSERT INTO reports (date_start) VALUES (%s)", (days_ago(1),))
            theirs = replace(settings, lake=replace(settings.lake, staging_dir=str(project.folder / "other")))
            again = datetime(2100, 1, 1, tzinfo=UTC)
            monkeypatch.setattr(time, "sleep", lambda _: None)
            for step in (extract_day, decode_day, load_day):
                step(replace(stale, settings=theirs, run="other", loaded_since=again))

    monkeypatch.setattr(lake, "_put", put_and_be_overtaken)
    load_day(stale)

    assert project.read(days_ago(1)).num_rows == 21


def test_loaded_since_is_in_the_zone_of_the_lake(project: Project) -> None:
    project.configure("lake", timezone="Asia/Kathmandu")
    project.add_reports([DAY])
    project.load()

    assert parse_instant("2026-01-01T10:00") == datetime(2026, 1, 1, 4, 15, tzinfo=UTC)
    assert parse_instant("2026-01-01T10:00:07.5+01:00") == datetime(2026, 1, 1, 9, 0, 8, tzinfo=UTC)
    assert parse_instant(None) is None
    for wrong, why in (("yesterday", "must be like"), ("3026-01-01", "lies in the future")):
        with pytest.raises(ConfigError, match=why):
            parse_instant(wrong)


@pytest.mark.fault("F23", "a day that was staged before a newer one was published is loaded after it")
def test_a_stale_writer_leaves_the_newer_day(project: Project) -> None:
    """It was extracted before the day that is published when it wakes up."""
    project.add_reports([days_ago(1)])
    project.load()
    stale = open_day("reports", days_ago(1))
    extract_day(stale)
    decode_day(stale)
    old = {path: path.read_bytes() for path in stale.folder.path.iterdir()}
    stale.folder.empty()
    project.cursor.execute("INSERT INTO reports (date_start) VALUES (%s)", (days_ago(1),))
    project.run_steps(days_ago(1))
    stale.folder.path.mkdir(parents=True)
    for path, data in old.items():
        path.write_bytes(data)

    load_day(stale)

    assert project.read(days_ago(1)).num_rows == 21
    assert project.staged() == []


@pytest.mark.fault("F23", "another object appears between the look and the PUT")
def test_a_writer_whose_day_is_replaced_at_the_last_moment_gets_412_and_looks_again(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.add_reports([days_ago(1)])
    settings = project.load()
    one = open_day("reports", days_ago(1))
    extract_day(one)
    decode_day(one)
    lake = open_lake(settings.lake)
    original, answers = lake._put, []

    def put(path: Any, key: str, facts: Any, crc32: int, replaces: Any) -> None:
        answers.append(replaces and replaces.size)
        if len(answers) == 1:
            project.s3.put_object(Bucket=project.bucket, Key=key, Body=b"another's")
        original(path, key, facts, crc32, replaces)

    monkeypatch.setattr(lake, "_put", put)

    load_day(one)

    assert answers == [None, len(b"another's")]
    assert project.read(days_ago(1)).num_rows == 20
