"""`luigi-jobs audit --deep`: values of MySQL and of the lake."""

from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from auditing import TRANSFORM, audit, change_a_value, find, in_capitals, rewrite
from project import Project, days_ago, last_days, without_footer
from torture import known_kinds, make_table

from luigi_jobs.deep import select_as_loaded
from luigi_jobs.mysql import connect
from luigi_jobs.source import describe_table

DAY = days_ago(2)


def test_deep_audit_compares_every_value(audited: Project) -> None:
    audited.cursor.execute("UPDATE reports SET account = 4242 WHERE date_start = %s LIMIT 1", (DAY,))
    rewrite(audited, days_ago(4), change_a_value)

    assert find(audited) == {}
    assert find(audited, "--deep") == {str(DAY): "values", str(days_ago(4)): "values"}


def test_deep_audit_compares_columns_that_were_widened_too(audited: Project) -> None:
    audited.cursor.execute("ALTER TABLE reports ADD ratio FLOAT")
    audited.cursor.execute("UPDATE reports SET ratio = id / 7")
    audited.remove_days(last_days(5))
    assert audited.luigi("Backfill", "--table", "reports").returncode == 0
    audited.cursor.execute("ALTER TABLE reports MODIFY account BIGINT, MODIFY spend DECIMAL(14,5), MODIFY ratio DOUBLE")
    assert find(audited, "--deep") == {}

    for number, change in enumerate(("account = account + 1", "spend = spend + 0.1", "ratio = 1"), start=1):
        audited.cursor.execute(f"UPDATE reports SET {change} WHERE date_start = %s", (days_ago(number),))

    assert find(audited, "--deep") == {str(days_ago(number)): "values" for number in (1, 2, 3)}


def test_deep_audit_compares_what_another_writer_made(audited: Project) -> None:
    def demand(table: pa.Table) -> pa.Table:
        return table.cast(pa.schema([table.schema[0].with_nullable(False), *list(table.schema)[1:]]))

    rewrite(audited, DAY, demand, is_told=False)
    rewrite(audited, days_ago(3), lambda table: demand(change_a_value(table)), is_told=False)
    rewrite(audited, days_ago(4), lambda table: in_capitals(change_a_value(table)), is_told=False)

    rewrite(audited, days_ago(5), lambda table: table.drop_columns(["account"]), is_told=False)

    schema = {str(days_ago(number)): "schema" for number in (4, 5)}
    assert find(audited) == schema
    assert find(audited, "--deep") == schema | {str(days_ago(3)): "values"}

    audited.configure("table.reports", fingerprint="checksum")
    assert find(audited) == schema | {str(day): "unknown" for day in (DAY, days_ago(3))}
    assert find(audited, "--deep") == schema | {str(days_ago(3)): "values"}


def test_deep_audit_notices_a_flipped_byte(audited: Project) -> None:
    key = {"Bucket": audited.bucket, "Key": audited.key(DAY)}
    data = audited.s3.get_object(**key)["Body"].read()
    flipped = [bytes([*data[:at], data[at] ^ 1, *data[at + 1 :]]) for at in range(4, len(without_footer(data)))]
    whole = read(data)
    spoiled = [one for one in flipped if (table := read(one)) is not None and table != whole]  # pages have no checksums
    audited.s3.put_object(**key, Body=spoiled[0])

    assert find(audited, "--deep") == {str(DAY): "values"}

    audited.s3.put_object(**key, Body=next(one for one in flipped if read(one) is None))
    assert find(audited, "--deep") == {str(DAY): "unreadable"}


def read(data: bytes) -> pa.Table | None:
    try:
        return pq.ParquetFile(BytesIO(data)).read()
    except (pa.ArrowException, OSError):
        return None


@pytest.mark.parametrize(
    ("keys", "in_mysql"),
    [
        ({"decode": "encoded -> decoded: base64 | utf8"}, True),
        ({"decode": "encoded -> decoded: base64", "on_decode_error": "null"}, False),
        ({"decode": "encoded -> decoded: base64 | url"}, False),
        ({"types": "account: string"}, False),
        ({"transform": "jobs:tidy"}, False),
    ],
)
def test_deep_audit_of_what_mysql_cannot_compute_reads_the_rows_again(
    project: Project, keys: dict[str, str], in_mysql: bool
) -> None:
    project.add_reports(last_days(2), rows=50)
    project.cursor.execute("UPDATE reports SET encoded = TO_BASE64(CONCAT('Übung', id))")
    (project.folder / "jobs.py").write_text(TRANSFORM)
    project.configure("table.reports", decode=None)
    project.configure("table.reports", **keys)
    project.environment["PYTHONPATH"] = str(project.folder)
    run = project.luigi("Backfill", "--table", "reports", python_path=str(project.folder))
    assert run.returncode == 0, run.stdout
    if "transform" not in keys:
        settings = project.load()
        with connect(settings.mysql) as connection:
            source = describe_table(connection, settings.mysql, settings.table("reports"))
        assert (select_as_loaded(source) is not None) == in_mysql

    assert find(project, "--deep") == {}

    project.cursor.execute("UPDATE reports SET spend = 1 WHERE account IS NOT NULL AND date_start = %s", (days_ago(1),))
    assert find(project, "--deep") == {str(days_ago(1)): "values"}


def test_deep_audit_knows_every_type(project: Project, cursor: Any) -> None:
    kinds = {f"c{number}": kind for number, kind in enumerate(known_kinds(cursor))}
    make_table(cursor, "torture", kinds, [DAY])
    project.configure("table.torture", date_column="at", since=str(DAY))
    assert project.luigi("Backfill", "--table", "torture").returncode == 0

    assert find(project, "--deep", "--stop", str(days_ago(1))) == {}


@pytest.mark.parametrize(
    ("charset", "rule", "value"),
    [
        ("latin1", "utf8", "é"),
        ("latin1", "json", '{"a": "é"}'),
        ("utf16", "hex", "4142"),
        ("utf8mb4", "hex", "FFFE80C3"),
        ("latin1", "base64", "/+8="),
    ],
)
def test_a_deep_audit_decodes_text_of_any_character_set(project: Project, charset: str, rule: str, value: str) -> None:
    project.cursor.execute(f"CREATE TABLE t (id INT PRIMARY KEY, at DATE, v VARCHAR(200) CHARACTER SET {charset})")
    project.cursor.execute("INSERT INTO t VALUES (1, %s, %s)", (DAY, value))
    project.configure("table.t", date_column="at", since=str(DAY), decode=f"v -> d: {rule}")
    assert project.luigi("LoadDay", "--table", "t", "--date", str(DAY)).returncode == 0

    run = audit(project, "--deep", "--table", "t", "--start", str(DAY), "--stop", str(days_ago(1)))

    assert run.returncode == 0, run.stdout + run.stderr


def test_a_deep_audit_takes_infinity_from_a_file(project: Project) -> None:
    project.cursor.execute("CREATE TABLE t (id INT PRIMARY KEY, at DATE, v VARCHAR(9))")
    project.cursor.execute("INSERT INTO t VALUES (1, %s, 'inf')", (DAY,))
    project.configure("table.t", date_column="at", since=str(DAY), types="v: double")
    assert project.luigi("LoadDay", "--table", "t", "--date", str(DAY)).returncode == 0

    run = audit(project, "--deep", "--table", "t", "--start", str(DAY), "--stop", str(days_ago(1)))

    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("keys", [{}, {"types": "account: int64"}], ids=["by MySQL", "by reading"])
def test_a_deep_audit_compares_the_columns_that_a_day_has_in_their_order(
    audited: Project, keys: dict[str, str]
) -> None:
    audited.configure("table.reports", **keys)
    if keys:
        audited.remove_days(last_days(5))
        assert audited.luigi("Backfill", "--table", "reports").returncode == 0
    audited.cursor.execute("ALTER TABLE reports ADD gained INT AFTER id, MODIFY spend DECIMAL(12,4) FIRST")
    assert find(audited, "--deep") == {}

    audited.cursor.execute("UPDATE reports SET spend = spend + 1 WHERE date_start = %s AND spend > 0", (DAY,))

    assert find(audited, "--deep") == {str(DAY): "values"}


def test_a_deep_audit_gives_up_a_connection_that_stalls(project: Project) -> None:
    project.add_reports([DAY], rows=2)
    project.cursor.execute("CREATE VIEW slow AS SELECT *, SLEEP(0) nap FROM reports")
    project.configure("table.slow", date_column="date_start", since=str(DAY), types="account: string")
    assert project.luigi("LoadDay", "--table", "slow", "--date", str(DAY)).returncode == 0
    project.cursor.execute("CREATE OR REPLACE VIEW slow AS SELECT *, SLEEP(60) nap FROM reports")
    project.configure("mysql", read_timeout_s="2")
    assert project.sections["mysql"]["driver"] == "connectorx"

    run = audit(project, "--table", "slow", "--stop", str(days_ago(1)), "--deep")

    assert (run.returncode, "has sent nothing for 2 s (read_timeout_s in [mysql])" in run.stderr) == (2, True)


def test_a_deep_audit_knows_the_numbers_that_a_view_makes(project: Project) -> None:
    project.cursor.execute("CREATE TABLE t (id INT PRIMARY KEY, at DATE, z INT ZEROFILL, y YEAR, d DECIMAL(8,3))")
    project.cursor.execute("INSERT INTO t VALUES (1, %s, 1, 0, 100), (2, %s, 2, 2001, 0.125)", (DAY, DAY))
    project.cursor.execute(
        "CREATE VIEW v AS SELECT id, at, IF(id % 2, z, 5) a, IF(id % 2, y, 2001) b, IF(id % 2, y, z) c, d / 3 e, "
        "IF(id % 2, d, z) f, id * 1e-5 g FROM t"
    )
    project.configure("table.v", date_column="at", since=str(DAY), fingerprint="checksum", refresh_days="2")
    assert project.luigi("LoadDay", "--table", "v", "--date", str(DAY)).returncode == 0

    assert find(project, "--deep", "--stop", str(days_ago(1))) == {}

    project.cursor.execute("UPDATE t SET d = 100.5 WHERE id = 1")
    assert find(project, "--stop", str(days_ago(1))) == {str(DAY): "stale"}
