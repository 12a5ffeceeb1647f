from collections import Counter

import pyarrow as pa
import pytest

from luigi_jobs.errors import LargeSliceError, SchemaError
from luigi_jobs.schema import Column, Guards, cast_batch, lake_schema, quote_name, select_list, take_flags
from luigi_jobs.type_table import plan_fields

UINT64 = pa.decimal128(20, 0)
MOMENT = pa.timestamp("us")
GUARD = "IF(YEAR(`c`)>0 AND DAYOFMONTH(`c`) BETWEEN 1 AND DAYOFMONTH(LAST_DAY(`c`)), `c`, NULL)"
FLAG = "(`c` IS NOT NULL AND (YEAR(`c`)>0 AND DAYOFMONTH(`c`) BETWEEN 1 AND DAYOFMONTH(LAST_DAY(`c`))) IS NOT TRUE)"


@pytest.mark.parametrize(
    ("data_type", "column_type", "precision", "scale", "expression", "lake_type"),
    [
        ("tinyint", "tinyint(4)", 3, 0, "`c`", pa.int8()),
        ("tinyint", "tinyint(1)", 3, 0, "`c`", pa.int8()),
        ("smallint", "smallint(6)", 5, 0, "`c`", pa.int16()),
        ("mediumint", "mediumint(9)", 7, 0, "`c`", pa.int32()),
        ("int", "int(11)", 10, 0, "`c`", pa.int32()),
        ("bigint", "bigint(20)", 19, 0, "`c`", pa.int64()),
        ("tinyint", "tinyint(3) unsigned", 3, 0, "`c`", pa.int16()),
        ("smallint", "smallint unsigned", 5, 0, "`c`", pa.int32()),
        ("mediumint", "mediumint unsigned", 7, 0, "`c`", pa.int32()),
        ("int", "int unsigned", 10, 0, "`c`", pa.int64()),
        ("int", "int(8) unsigned zerofill", 10, 0, "(`c`+0)", pa.int64()),
        ("bigint", "bigint unsigned", 20, 0, "`c`", UINT64),
        ("year", "year(4)", None, None, "`c`", pa.int16()),
        ("float", "float", 12, None, "(`c`*1e0)", pa.float32()),
        ("double", "double", 22, None, "`c`", pa.float64()),
        ("double", "double(10,2)", 10, 2, "(`c`*1e0)", pa.float64()),
        ("decimal", "decimal(10,2)", 10, 2, "CAST(`c` AS CHAR)", pa.decimal128(10, 2)),
        ("decimal", "decimal(38,30)", 38, 30, "CAST(`c` AS CHAR)", pa.decimal128(38, 30)),
        ("decimal", "decimal(39,0)", 39, 0, "CAST(`c` AS CHAR)", pa.string()),
        ("bit", "bit(1)", 1, None, "(`c`+0)", pa.bool_()),
        ("bit", "bit(9)", 9, None, "(`c`+0)", pa.int64()),
        ("bit", "bit(64)", 64, None, "(`c`+0)", UINT64),
        ("date", "date", None, None, "`c`", pa.date32()),
        ("datetime", "datetime(6)", None, None, "`c`", MOMENT),
        ("timestamp", "timestamp", None, None, "`c`", pa.timestamp("us", "UTC")),
        ("time", "time(3)", None, None, "CAST(`c` AS CHAR)", pa.string()),
        ("json", "json", None, None, "CAST(`c` AS CHAR)", pa.string()),
        *(
            (kind, kind, None, None, "`c`", pa.string())
            for kind in ("char", "varchar", "text", "longtext", "enum", "set")
        ),
        *((kind, kind, None, None, "`c`", pa.string()) for kind in ("uuid", "inet4", "inet6")),
        *((kind, kind, None, None, "`c`", pa.binary()) for kind in ("binary", "varbinary", "blob", "longblob")),
        ("vector", "vector(4)", None, None, "CAST(`c` AS BINARY)", pa.binary()),
        ("point", "point", None, None, "ST_AsWKB(`c`)", pa.binary()),
    ],
)
def test_field_of_a_type(
    data_type: str, column_type: str, precision: int, scale: int, expression: str, lake_type: pa.DataType
) -> None:
    (field,) = plan_fields([Column("c", data_type, column_type, precision, scale)], mariadb=True)

    assert (field.expression, field.type) == (expression, lake_type)
    is_date = data_type in ("date", "datetime", "timestamp")
    assert field.select(Guards(dates=True)) == (GUARD if is_date else expression)


def test_geometry_is_x_then_y_on_mysql_too() -> None:
    (field,) = plan_fields([Column("c", "geometry", "geometry")], mariadb=False)

    assert field.expression == "ST_AsWKB(`c`,'axis-order=long-lat')"


def test_field_of_an_unknown_type_is_an_error_that_names_the_column() -> None:
    with pytest.raises(SchemaError, match="column c has type tuple, which has no faithful type") as caught:
        plan_fields([Column("c", "tuple", "tuple")], mariadb=True)

    assert caught.value.column == "c"


@pytest.mark.parametrize(
    ("name", "quoted"), [("order", "`order`"), ("we`ird", "`we``ird`"), ("%s %(x)s", "`%s %(x)s`")]
)
def test_quote_name(name: str, quoted: str) -> None:
    assert quote_name(name) == quoted


def test_select_list_guards_dates_only_when_asked() -> None:
    fields = plan_fields([Column("i`d", "int", "int"), Column("c", "date", "date")], mariadb=True)

    assert select_list(fields, Guards()) == "`i``d` AS `i``d`, `c` AS `c`"
    assert select_list(fields, Guards(dates=True)) == f"`i``d` AS `i``d`, {GUARD} AS `c`, {FLAG} AS `flag 0`"


def test_take_flags_counts_them_by_column() -> None:
    fields = plan_fields(
        [Column(name, kind, kind) for name, kind in [("d", "date"), ("i", "int"), ("t", "datetime")]], True
    )
    batch = pa.record_batch([[None, None], [1, 2], [None, None], [1, 1], [0, 0]], names=["d", "i", "t", "x", "y"])
    zero_dates: Counter[str] = Counter()

    assert take_flags(batch, fields, Guards(dates=True), zero_dates).schema.names == ["d", "i", "t"]
    assert zero_dates == {"d": 2}


def test_cast_batch_of_a_value_that_does_not_fit_names_the_column() -> None:
    schema = lake_schema(plan_fields([Column("small", "tinyint", "tinyint")], mariadb=True))

    assert cast_batch(pa.record_batch({"small": pa.array([1, None])}), schema, Counter()).to_pylist() == [
        {"small": 1},
        {"small": None},
    ]
    with pytest.raises(SchemaError, match="column small holds a value that does not fit int8"):
        cast_batch(pa.record_batch({"small": pa.array([300])}), schema, Counter())


def test_large_values_are_kept_back_and_flagged() -> None:
    columns = [
        Column("i", "int", "int"),
        Column("b", "longblob", "longblob", octets=2**32 - 1),
        Column("v", "varchar", "varchar(255)", octets=1020),
        Column("w", "varchar", "varchar(256)", octets=1024),
        Column("j", "json", "json"),
    ]
    fields = plan_fields(columns, mariadb=False)
    guards = Guards(most_bytes=9)

    assert [field.size for field in fields] == [
        "",
        "OCTET_LENGTH(`b`)",
        "",
        "OCTET_LENGTH(`w`)",
        "JSON_STORAGE_SIZE(`j`)",
    ]
    assert select_list(fields[:2], guards) == (
        "`i` AS `i`, IF(OCTET_LENGTH(`b`) > 9, NULL, `b`) AS `b`, IFNULL(OCTET_LENGTH(`b`) > 9, 0) AS `flag 0`"
    )
    batch = pa.record_batch([[1], [b"x"], [0]], names=["i", "b", "flag 0"])
    assert take_flags(batch, fields[:2], guards, Counter()).schema.names == ["i", "b"]
    with pytest.raises(LargeSliceError, match="values have more than 9 bytes"):
        take_flags(pa.record_batch([[1], [b"x"], [1]], names=["i", "b", "x"]), fields[:2], guards, Counter())
