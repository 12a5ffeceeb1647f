from datetime import date

import pytest

from luigi_jobs.layout import check_table_name, day_folder, day_key, parse_day, parse_key, table_prefix

DAY = date(2021, 1, 31)


@pytest.mark.parametrize(
    ("prefix", "table", "partition_key", "expected"),
    [
        ("", "reports", "date", "reports/date=20210131/reports.parquet"),
        ("lake/", "reports", "date", "lake/reports/date=20210131/reports.parquet"),
        ("a/b/", "order", "ds", "a/b/order/ds=20210131/order.parquet"),
        ("/srv/lake/", "we`ird name", "date", "/srv/lake/we`ird name/date=20210131/we`ird name.parquet"),
    ],
)
def test_day_key_and_back(prefix: str, table: str, partition_key: str, expected: str) -> None:
    assert day_key(prefix, table, partition_key, DAY) == expected
    assert parse_key(prefix, table, partition_key, expected) == DAY
    assert expected.startswith(table_prefix(prefix, table) + day_folder(partition_key, DAY))


@pytest.mark.parametrize(
    "key",
    [
        "lake/reports/date=20210131/other.parquet",
        "lake/reports/date=20210131/reports.parquet.tmp",
        "lake/reports/date=20210131/",
        "lake/reports/date=20210131/sub/reports.parquet",
        "lake/reports/date=20210231/reports.parquet",
        "lake/reports/date=2021-01-31/reports.parquet",
        "lake/reports/date=٢٠٢١٠١٣١/reports.parquet",
        "lake/reports/_SUCCESS",
        "lake/reports2/date=20210131/reports2.parquet",
        "reports/date=20210131/reports.parquet",
    ],
)
def test_parse_key_of_what_is_not_ours_is_none(key: str) -> None:
    assert parse_key("lake/", "reports", "date", key) is None


def test_parse_day_of_another_partition_key_is_none() -> None:
    assert parse_day("date=20210131", "ds") is None


@pytest.mark.parametrize("name", ["reports", "order", "Reports_2", "we`ird", "sales 2021", "umsätze", "a;DROP TABLE b"])
def test_check_table_name_accepts(name: str) -> None:
    assert check_table_name(name) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "is empty"),
        ("..", "Athena and Spark hide"),
        ("_reports", "Athena and Spark hide"),
        ("../other", "slash"),
        ("a/b", "slash"),
        ("a\\b", "slash"),
        ("a\nb", "cannot be printed"),
        ("a\x00b", "cannot be printed"),
        (" reports", "space"),
        ("a" * 201, "longer"),
    ],
)
def test_check_table_name_refuses(name: str, reason: str) -> None:
    assert reason in (check_table_name(name) or "")
