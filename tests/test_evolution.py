import logging

import pyarrow as pa
import pytest
from project import Project, days_ago, last_days

from luigi_jobs.day_of_table import open_day
from luigi_jobs.errors import SchemaError
from luigi_jobs.evolution import compare_schemas, forget_schemas
from luigi_jobs.pipeline import check_table, decode_day, extract_day, load_day

OLD = pa.schema([("id", pa.int32()), ("spend", pa.decimal128(10, 2)), ("note", pa.string())])
DAY = days_ago(1)


def change(position: int, name: str, kind: pa.DataType) -> pa.Schema:
    return OLD.set(position, pa.field(name, kind))


@pytest.mark.parametrize(
    ("new", "reported", "refused"),
    [
        (OLD, [], []),
        (pa.schema(reversed(list(OLD))), [], []),
        (OLD.append(pa.field("x", pa.bool_())), ["x (bool) was gained"], []),
        (OLD.remove(2), [], ["note (string) was lost"]),
        (change(0, "id", pa.int64()), ["id has changed from int32 to int64"], []),
        (change(0, "id", pa.int16()), [], ["id has changed from int32 to int16"]),
        (change(0, "ID", pa.int32()), ["id is called ID now"], []),
        (
            change(1, "spend", pa.decimal128(12, 4)),
            ["spend has changed from decimal128(10, 2) to decimal128(12, 4)"],
            [],
        ),
        (
            change(1, "spend", pa.decimal128(10, 4)),
            [],
            ["spend has changed from decimal128(10, 2) to decimal128(10, 4)"],
        ),
        (change(1, "spend", pa.float64()), [], ["spend has changed from decimal128(10, 2) to double"]),
        (change(2, "memo", pa.string()), ["memo (string) was gained"], ["note (string) was lost"]),
    ],
)
def test_compare_schemas(new: pa.Schema, reported: list[str], refused: list[str]) -> None:
    changes = compare_schemas(OLD, new)

    assert changes == ([f"column {text}" for text in reported], [f"column {text}" for text in refused])


@pytest.fixture
def loaded(project: Project) -> Project:
    """Three days of reports of which all but the newest are in the lake."""
    project.add_reports(last_days(3), rows=3)
    project.run_steps(*last_days(3)[:2])
    forget_schemas()
    return project


def test_a_column_that_was_gained_loads_and_is_reported_once(loaded: Project, caplog: pytest.LogCaptureFixture) -> None:
    loaded.cursor.execute("ALTER TABLE reports ADD COLUMN clicks INT DEFAULT 5, MODIFY account BIGINT")

    with caplog.at_level(logging.WARNING, "luigi-interface"):
        check_table("reports")
        loaded.run_steps(DAY)

    assert loaded.read(DAY)["clicks"].to_pylist() == [5, 5, 5]
    assert loaded.read(DAY).schema.field("account").type == pa.int64()
    assert caplog.text.count(f"reports: since {days_ago(2)} in the lake column clicks (int32) was gained") == 1
    assert caplog.text.count("column account has changed from int32 to int64") == 1


@pytest.mark.parametrize(
    ("statement", "change"),
    [
        ("DROP COLUMN spend", r"column spend \(decimal128\(12, 4\)\) was lost"),
        ("MODIFY account VARCHAR(20)", "column account has changed from int32 to string"),
    ],
)
def test_a_column_that_was_lost_or_changed_is_refused_with_the_way_on(
    loaded: Project, statement: str, change: str
) -> None:
    loaded.cursor.execute(f"ALTER TABLE reports {statement}")

    for check in (lambda: check_table("reports"), lambda: extract_day(open_day("reports", DAY))):
        forget_schemas()
        with pytest.raises(SchemaError, match=rf"{change}.*set `schema_changes = accept` in \[table.reports\] until"):
            check()
    assert loaded.days() == last_days(3)[:2]

    loaded.configure("table.reports", schema_changes="accept")
    loaded.load()
    loaded.run_steps(DAY)
    loaded.configure("table.reports", schema_changes="refuse")
    loaded.load()
    check_table("reports")
    assert loaded.days() == last_days(3)


@pytest.mark.fault("F24", "a column was lost before the run")
def test_a_run_that_is_refused_ends_red_before_any_day(loaded: Project) -> None:
    loaded.cursor.execute("ALTER TABLE reports DROP COLUMN spend")

    run = loaded.luigi("Backfill", "--table", "reports")

    assert run.returncode == 35
    assert "column spend (decimal128(12, 4)) was lost" in run.stdout
    assert "Traceback" not in run.stdout
    assert loaded.luigi("LoadDay", "--table", "reports", "--date", str(DAY)).returncode == 30


@pytest.mark.parametrize(
    "body", [b"", b"x", b"PAR1\0\0\0\0PAR1", b"PAR1garbage\x07\0\0\0PAR1", b"\xff\xff\xff\x7fPAR1"]
)
def test_a_newest_day_that_is_no_parquet_file_is_reported(
    loaded: Project, caplog: pytest.LogCaptureFixture, body: bytes
) -> None:
    loaded.s3.put_object(Bucket=loaded.bucket, Key=loaded.key(days_ago(2)), Body=body)

    with caplog.at_level(logging.WARNING, "luigi-interface"):
        check_table("reports")

    assert f"{loaded.key(days_ago(2))} is no whole Parquet file; luigi-jobs audit names" in caplog.text


def test_schema_of_many_columns_is_read_by_a_second_request(project: Project) -> None:
    columns = ", ".join(f"`{'c' * 50}{number}` INT" for number in range(600))
    project.cursor.execute(f"CREATE TABLE wide (id INT PRIMARY KEY, at DATE, {columns})")
    project.configure("table.wide", date_column="at", since=str(days_ago(3)))
    project.load()
    for step in (extract_day, decode_day, load_day):
        step(open_day("wide", days_ago(2)))
    project.cursor.execute(f"ALTER TABLE wide DROP COLUMN `{'c' * 50}599`")
    forget_schemas()

    with pytest.raises(SchemaError, match=r"c599 \(int32\) was lost"):
        check_table("wide")
