"""Every type of MySQL and MariaDB with its hard values, tables of them, and how MySQL itself prints these."""

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pymysql

LONG_LAT = "{LONG_LAT}"  # MySQL takes latitude first unless it is told otherwise; MariaDB always takes x first


_UNKNOWN_TYPE = (1064, 1115, 1425, 4161)  # syntax, character set, DECIMAL(38,38), data type


@dataclass(frozen=True)
class Print:
    """`sql` selects a value as a text of ASCII, `read` makes of the text what the lake must have; `Q` is the column."""

    sql: str
    read: Callable[[str], Any]


@dataclass(frozen=True)
class Kind:
    """A column's type in MySQL and in the lake, and the literals of its values."""

    mysql: str
    lake: pa.DataType
    print: Print
    values: tuple[str, ...]


_WHOLE = Print("CAST(Q AS CHAR)", int)
_EXACT = Print("CAST(Q AS CHAR)", Decimal)
_FLOAT = Print("CAST(CAST(Q AS DOUBLE) AS CHAR)", float)  # a FLOAT as such is printed with six digits
_DOUBLE = Print("CAST(Q AS CHAR)", float)
_AS_SENT = Print("Q", str)  # by the text protocol
_TEXT = Print("HEX(CONVERT(Q USING utf8mb4))", lambda text: bytes.fromhex(text).decode())
_BYTES = Print("HEX(Q)", bytes.fromhex)
_BOOLEAN = Print("HEX(Q)", lambda text: bool(int(text, 16)))
_BITS = Print("HEX(Q)", lambda text: int(text, 16))
_64_BITS = Print("HEX(Q)", lambda text: Decimal(int(text, 16)))
_DATE = Print("CAST(Q AS CHAR)", date.fromisoformat)
_MOMENT = Print("CAST(Q AS CHAR)", datetime.fromisoformat)
_INSTANT = Print("CAST(Q AS CHAR)", lambda text: datetime.fromisoformat(text).replace(tzinfo=UTC))
_GEOMETRY = Print("HEX(Q)", lambda text: bytes.fromhex(text)[4:])  # as stored: SRID, then WKB with x first

_INT8, _INT16, _INT32, _INT64, _20_DIGITS = pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.decimal128(20, 0)
_US, _UTC, _STRING, _BINARY = pa.timestamp("us"), pa.timestamp("us", "UTC"), pa.string(), pa.binary()


def _range(least: int, greatest: int, *others: int) -> tuple[str, ...]:
    return tuple(map(str, (least, greatest, 0, *others)))


_ALL_BYTES = f"0x{bytes(range(256)).hex()}"
_POINT = struct.pack("<bIdd", 1, 1, 10.5, 40.25).hex()
_SQUARE = "POLYGON((0 0,0 3,3 3,3 0,0 0),(1 1,1 2,2 2,2 1,1 1))"
_TEXTS = (
    *("'😀 東京 Zürich'", "''", "'  both  '", r"'\\ \' \" `%s` %(x)s %% ?'", "_utf8mb4 0x610062", r"'a\r\n\tb\Z'"),
    *("'NULL'", "_utf8mb4 0xF48FBFBF", "_utf8mb4 0xEFBBBF61", "'e\u0301 é'", r"'\\N'"),
)
_UUID = "00000000-0000-1000-8000-000000000000"
_FLOATS = ("16777216", "1.1", "0.1", "123456.789", "1e-40", "1.1754943508222875e-38", "-0e0", "16777217")
_DOUBLES = (
    *("0.1e0+0.2e0", "-1.7976931348623157e308", "1.7976931348623157e308", "2.2250738585072014e-308", "-0e0"),
    *("9007199254740993e0", "1e22", "1e23", "123456789.123456789e0", "3e-310", "5e-324", "PI()"),
)
_COLLECTIONS = tuple(f"ST_GeomFromText('GEOMETRYCOLLECTION{members}')" for members in ("(POINT(1 2))", " EMPTY"))
_DIGITS = "9" * 60
_MOMENTS = ("'1000-01-01'", "'9999-12-31 23:59:59'", "'2021-03-28 02:30:00'", "'2021-10-31 02:30:00'", "'1969-12-31'")
_JSONS = (
    '\'{"n": 18446744073709551615, "i": -9223372036854775808, "f": 0.1, "e": 1e-7, "d": 1.0}\'',
    "'[123456789012345678901234567890, [[[{}]]], null, true]'",
    r"""'{"é": "\\u00e9 😀 \\"q\\" \\\\ \\/", "": " "}'""",
    *("'\"text\"'", "'null'", "'[]'", "'-0.0'", '\'{"b":1,  "a":2}\''),
    "JSON_OBJECT('day', CAST('2021-01-31' AS DATE), 'exact', CAST(1.10 AS DECIMAL(5,2)))",
)

KINDS = [
    Kind("tinyint", _INT8, _WHOLE, _range(-128, 127)),
    Kind("tinyint(1)", _INT8, _WHOLE, _range(-128, 127, 2, -1)),
    Kind("boolean", _INT8, _WHOLE, ("TRUE", "FALSE", "2")),
    Kind("smallint", _INT16, _WHOLE, _range(-32768, 32767)),
    Kind("mediumint", _INT32, _WHOLE, _range(-(2**23), 2**23 - 1)),
    Kind("int", _INT32, _WHOLE, _range(-(2**31), 2**31 - 1)),
    Kind("bigint", _INT64, _WHOLE, _range(-(2**63), 2**63 - 1, 2**53 + 1, -(2**53) - 1)),
    Kind("tinyint unsigned", _INT16, _WHOLE, _range(0, 255)),
    Kind("tinyint(1) unsigned", _INT16, _WHOLE, _range(0, 255)),
    Kind("smallint unsigned", _INT32, _WHOLE, _range(0, 65535)),
    Kind("mediumint unsigned", _INT32, _WHOLE, _range(0, 2**24 - 1)),
    Kind("int unsigned", _INT64, _WHOLE, _range(0, 2**32 - 1)),
    Kind("bigint unsigned", _20_DIGITS, _EXACT, _range(0, 2**64 - 1, 2**63, 2**53 + 1)),
    Kind("tinyint zerofill", _INT16, _WHOLE, _range(0, 255, 7)),
    Kind("smallint(2) zerofill", _INT32, _WHOLE, _range(0, 65535, 7)),
    Kind("mediumint(8) zerofill", _INT32, _WHOLE, _range(0, 2**24 - 1, 7)),
    Kind("int(8) unsigned zerofill", _INT64, _WHOLE, _range(0, 2**32 - 1, 42)),
    Kind("bigint(20) zerofill", _20_DIGITS, _EXACT, _range(0, 2**64 - 1, 2**53 + 1)),
    Kind("float", pa.float32(), _FLOAT, (*_FLOATS, "3.4028234663852886e38", "-3.4028234663852886e38", "1.4013e-45")),
    Kind("float(10,2)", pa.float32(), _FLOAT, ("1.1", "-99999.99", "12345678.12")),
    Kind("float(53)", pa.float64(), _DOUBLE, _DOUBLES),
    Kind("float unsigned", pa.float32(), _FLOAT, ("1.1", "0")),
    Kind("float(9,3) zerofill", pa.float32(), _FLOAT, ("1.1", "0")),
    Kind("double", pa.float64(), _DOUBLE, _DOUBLES),
    Kind("double(10,2)", pa.float64(), _DOUBLE, ("10.01", "-99999999.99", "0.005", "1e-9")),
    Kind("double(22,0)", pa.float64(), _DOUBLE, ("9007199254740993", "-1.5")),
    Kind("double unsigned", pa.float64(), _DOUBLE, ("1.1", "1.7976931348623157e308")),
    Kind("double(12,3) zerofill", pa.float64(), _DOUBLE, ("1.1", "0")),
    Kind("decimal", pa.decimal128(10, 0), _EXACT, ("9999999999", "-9999999999", "-0")),
    Kind("decimal(1,1)", pa.decimal128(1, 1), _EXACT, ("0.9", "-0.9", "0")),
    Kind("decimal(9,4)", pa.decimal128(9, 4), _EXACT, ("-0.0001", "99999.9999", "1")),
    Kind("decimal(12,4) unsigned", pa.decimal128(12, 4), _EXACT, ("0", "99999999.9999", "0.0001")),
    Kind("decimal(12,4) zerofill", pa.decimal128(12, 4), _EXACT, ("0", "99999999.9999", "0.0001")),
    Kind("decimal(30,30)", pa.decimal128(30, 30), _EXACT, (f"0.{_DIGITS[:30]}", "-1e-30", "0")),
    Kind("decimal(38,0)", pa.decimal128(38, 0), _EXACT, (_DIGITS[:38], f"-{_DIGITS[:38]}", "0", "9007199254740993")),
    Kind("decimal(38,10)", pa.decimal128(38, 10), _EXACT, (f"{_DIGITS[:28]}.{_DIGITS[:10]}", "-1e-10", "0", "1e27")),
    Kind("decimal(38,30)", pa.decimal128(38, 30), _EXACT, (f"-{_DIGITS[:8]}.{_DIGITS[:30]}", "1e-30", "0")),
    Kind("decimal(38,38)", pa.decimal128(38, 38), _EXACT, (f"0.{_DIGITS[:38]}", f"-0.{'0' * 37}1", "0")),
    Kind("decimal(39,0)", _STRING, _AS_SENT, (_DIGITS[:39], f"-{_DIGITS[:39]}", "0")),
    Kind("decimal(65,0)", _STRING, _AS_SENT, (f"{_DIGITS}99999", f"-{_DIGITS}99999", "0")),
    Kind("decimal(65,30)", _STRING, _AS_SENT, (f"{_DIGITS[:35]}.{_DIGITS[:30]}", f"-0.{'0' * 29}1", "0")),
    Kind("date", pa.date32(), _DATE, ("'1000-01-01'", "'9999-12-31'", "'0001-01-01'", "'2020-02-29'", "'1582-10-10'")),
    Kind("datetime", _US, _MOMENT, (*_MOMENTS, "'0001-01-01'")),
    Kind("datetime(3)", _US, _MOMENT, (*_MOMENTS, "'1969-12-31 23:59:59.999'")),
    Kind("datetime(6)", _US, _MOMENT, (*_MOMENTS, "'9999-12-31 23:59:59.999999'", "'1969-12-31 23:59:59.999999'")),
    Kind("timestamp NULL", _UTC, _INSTANT, ("'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'", "'2021-03-28 01:30:00'")),
    Kind("timestamp(3) NULL", _UTC, _INSTANT, ("'2021-10-31 00:30:00.001'", "'2021-10-31 01:30:00.999'")),
    Kind("timestamp(6) NULL", _UTC, _INSTANT, ("'1970-01-01 00:00:01.000001'", "'2038-01-19 03:14:07.999999'")),
    Kind("time", _STRING, _AS_SENT, ("'-838:59:59'", "'838:59:59'", "'00:00:00'", "'-00:00:01'", "'24:00:00'")),
    Kind("time(3)", _STRING, _AS_SENT, ("'-00:00:00.001'", "'100:00:00'")),
    Kind("time(6)", _STRING, _AS_SENT, ("'-00:00:00.000001'", "'838:59:58.999999'", "'-838:59:59'", "'9:8:7.6'")),
    Kind("year", _INT16, _WHOLE, ("0", "1901", "2155", "'0'", "'69'", "'70'")),
    Kind("bit(1)", pa.bool_(), _BOOLEAN, ("b'0'", "b'1'")),
    Kind("bit(9)", _INT64, _BITS, ("b'0'", "b'111111111'", "b'100000000'")),
    Kind("bit(63)", _INT64, _BITS, ("0", "9223372036854775807")),
    Kind("bit(64)", _20_DIGITS, _64_BITS, ("0", "0xFFFFFFFFFFFFFFFF", "0x8000000000000000")),
    Kind("char(40)", _STRING, _TEXT, (*_TEXTS, "'ab   '", "'   '")),
    Kind("varchar(40)", _STRING, _TEXT, (*_TEXTS, "'ab   '", "'   '")),
    Kind("varchar(20) CHARACTER SET latin1", _STRING, _TEXT, ("'é€'", "_latin1 0x80818D8F909DA0FF", "''", r"'\\'")),
    Kind("varchar(20) CHARACTER SET utf16", _STRING, _TEXT, ("'😀é'", "''", "_utf16 0x0000005C0027D83DDE00")),
    Kind("varchar(20) CHARACTER SET utf32", _STRING, _TEXT, ("'😀é'", "''")),
    Kind("varchar(20) CHARACTER SET ucs2", _STRING, _TEXT, ("'é東'", "''")),
    Kind("varchar(20) CHARACTER SET sjis", _STRING, _TEXT, ("'表ソ'", r"'\\ \''")),  # 0x5C is a second byte here
    Kind("varchar(20) CHARACTER SET gbk", _STRING, _TEXT, ("'東京'", "'誠'")),
    Kind("char(20) CHARACTER SET ascii", _STRING, _TEXT, ("'plain'", "''")),
    Kind("varchar(20) CHARACTER SET big5", _STRING, _TEXT, ("'功'", "''")),  # and here
    Kind("varchar(20) CHARACTER SET eucjpms", _STRING, _TEXT, ("'表'", "''")),
    Kind("varchar(20) CHARACTER SET cp1251", _STRING, _TEXT, ("'ж€'", "''")),
    Kind("varchar(20) CHARACTER SET gb18030", _STRING, _TEXT, ("'😀'", "''")),
    Kind("varchar(99) COMPRESSED", _STRING, _TEXT, ("REPEAT('é', 99)", "''", "'a'")),
    Kind("blob COMPRESSED", _BINARY, _BYTES, (f"REPEAT({_ALL_BYTES}, 9)", "''", "0x00")),
    Kind("varchar(20) CHARACTER SET utf8mb3", _STRING, _TEXT, ("'é東'", "''")),
    Kind("varchar(20) COLLATE utf8mb4_bin", _STRING, _TEXT, ("'aA'", "''")),
    Kind("tinytext", _STRING, _TEXT, _TEXTS),
    Kind("text", _STRING, _TEXT, _TEXTS),
    Kind("text CHARACTER SET latin1", _STRING, _TEXT, ("'é€'", "''")),
    Kind("mediumtext", _STRING, _TEXT, (*_TEXTS, "REPEAT('東', 30000)")),
    Kind("longtext", _STRING, _TEXT, (*_TEXTS, "REPEAT('😀', 30000)")),
    Kind("enum('a','b c','','é','it''s','0')", _STRING, _TEXT, ("'a'", "'b c'", "''", "'é'", r"'it\'s'", "6")),
    Kind("enum('é') CHARACTER SET latin1", _STRING, _TEXT, ("'é'",)),
    Kind("enum('x','y') DEFAULT NULL", _STRING, _TEXT, ("'x'", "'no member'")),  # becomes the error value ''
    Kind("set('a','b c','é')", _STRING, _TEXT, ("''", "'a,b c,é'", "'é,a'", "2")),
    Kind(f"set({','.join(repr(f'm{n}') for n in range(64))})", _STRING, _TEXT, ("18446744073709551615", "1<<63")),
    Kind("json", _STRING, _TEXT, _JSONS),
    Kind("uuid", _STRING, _AS_SENT, (f"'{_UUID}'", f"'{_UUID.replace('0', 'F')}'")),
    Kind("inet4", _STRING, _AS_SENT, ("'0.0.0.0'", "'255.255.255.255'")),
    Kind("inet6", _STRING, _AS_SENT, ("'::'", "'ffff:FFFF::1'", "'::ffff:192.0.2.1'")),
    Kind("binary(4)", _BINARY, _BYTES, ("'ab'", "0x00000000", "0xFF00FF20", "''")),
    Kind("binary(16)", _BINARY, _BYTES, ("0x9DD4E461268C8034F5C8564E155C67A6", "'a '")),
    Kind("char(4) CHARACTER SET binary", _BINARY, _BYTES, ("'ab'", "0xFF00FF20")),
    Kind("varbinary(300)", _BINARY, _BYTES, (_ALL_BYTES, "''", "0x00", "'ab  '", "'😀'")),
    Kind("tinyblob", _BINARY, _BYTES, (f"{_ALL_BYTES[:-2]}", "''", "0x00")),
    Kind("blob", _BINARY, _BYTES, (_ALL_BYTES, "''", "0xC328", "'\\\\'")),
    Kind("mediumblob", _BINARY, _BYTES, (f"REPEAT({_ALL_BYTES}, 400)", "''")),
    Kind("longblob", _BINARY, _BYTES, (f"REPEAT({_ALL_BYTES}, 400)", "''")),
    Kind("vector(3)", _BINARY, _BYTES, ("0x0000803F000000C0CDCC8C3F",)),
    Kind("point", _BINARY, _GEOMETRY, ("ST_GeomFromText('POINT(1 2)')", f"ST_GeomFromWKB(0x{_POINT}, 4326{LONG_LAT})")),
    Kind("point SRID 4326", _BINARY, _GEOMETRY, (f"ST_GeomFromWKB(0x{_POINT}, 4326{LONG_LAT})",)),
    Kind("linestring", _BINARY, _GEOMETRY, ("ST_GeomFromText('LINESTRING(0 1,2 3)')",)),
    Kind("polygon", _BINARY, _GEOMETRY, tuple(f"ST_GeomFromText('{_SQUARE}', {srid}{LONG_LAT})" for srid in (0, 4326))),
    Kind("geometry", _BINARY, _GEOMETRY, ("ST_GeomFromText('MULTIPOINT(0 0,1 2)')", f"ST_GeomFromText('{_SQUARE}')")),
    Kind("multipoint", _BINARY, _GEOMETRY, ("ST_GeomFromText('MULTIPOINT(0 0,1 2)')",)),
    Kind("multilinestring", _BINARY, _GEOMETRY, ("ST_GeomFromText('MULTILINESTRING((0 0,1 2),(3 4,5 6))')",)),
    Kind("multipolygon", _BINARY, _GEOMETRY, ("ST_GeomFromText('MULTIPOLYGON(((0 0,0 3,3 3,0 0)))')",)),
    Kind("geometrycollection", _BINARY, _GEOMETRY, _COLLECTIONS),
]  # fmt: skip


def known_kinds(cursor: Any) -> list[Kind]:
    """Return the kinds whose types the server has."""
    return [kind for kind in KINDS if _has_type(cursor, kind)]


def _has_type(cursor: Any, kind: Kind) -> bool:
    try:
        cursor.execute(f"CREATE TABLE probe (c {kind.mysql})")
    except pymysql.Error as error:
        if error.args[0] not in _UNKNOWN_TYPE:
            raise
        return False
    cursor.execute("DROP TABLE probe")
    return True


def make_table(cursor: Any, table: str, kinds: Mapping[str, Kind], days: Iterable[date]) -> None:
    """Make a table with a column for each kind, and for each day a row for each of the values, the last all NULL."""
    columns = "".join(f", {name} {kind.mysql}" for name, kind in kinds.items())
    cursor.execute(f"CREATE TABLE {table} (id INT PRIMARY KEY AUTO_INCREMENT, at DATE, zero DATE{columns})")
    long_lat = "" if "MariaDB" in cursor.connection.get_server_info() else ", 'axis-order=long-lat'"
    for day in days:
        for number in range(1 + max(len(kind.values) for kind in kinds.values())):
            values = {name: kind.values[number] for name, kind in kinds.items() if number < len(kind.values)}
            literals = ", ".join([f"'{day}'", *values.values()]).replace(LONG_LAT, long_lat)
            cursor.execute(f"INSERT INTO {table} ({', '.join(['at', *values])}) VALUES ({literals})")
            # What the server cut would be another value than is meant; an ENUM's error value is meant.
            cursor.execute("SHOW WARNINGS")
            assert [
                text for level, _, text in cursor.fetchall() if level == "Warning" and "truncated" not in text
            ] == []


def print_table(
    environment: Mapping[str, str], database: str, table: str, kinds: Mapping[str, Kind], day: date
) -> dict[str, list[str | None]]:
    """Select a day's values as text, in a session of our own; nothing is converted on this side."""
    expressions = ", ".join(kind.print.sql.replace("Q", name) for name, kind in kinds.items())
    connection = pymysql.connect(
        host=environment["MYSQL_HOST"],
        port=int(environment["MYSQL_PORT"]),
        user=environment["MYSQL_USER"],
        password=environment["MYSQL_PASSWORD"].encode(),  # type: ignore[arg-type]
        database=database,
        charset="utf8mb4",
        conv=pymysql.converters.encoders,
    )
    with connection, connection.cursor() as cursor:
        cursor.execute("SET time_zone='+00:00'")
        cursor.execute(f"SELECT {expressions} FROM {table} WHERE at = '{day}' ORDER BY id")
        columns = [list(map(_as_text, column)) for column in zip(*cursor.fetchall(), strict=True)]
    return dict(zip(kinds, columns, strict=True))


def _as_text(value: str | bytes | None) -> str | None:
    return value.decode("ascii") if isinstance(value, bytes) else value
