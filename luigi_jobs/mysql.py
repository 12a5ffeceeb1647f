"""Sessions on MySQL, and what is small: describe a table, count a day. Fails fast, with a clear word.

stream.py reads the rows; no other module knows a driver.
"""

import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date, tzinfo
from typing import Any
from urllib.parse import quote, quote_plus

import pyarrow as pa
import pymysql

from luigi_jobs.days import ONE_DAY, day_bounds
from luigi_jobs.errors import ConfigError, LostConnectionError, SchemaError, SourceError
from luigi_jobs.schema import Column, Field, lake_schema, plan_fields, quote_name
from luigi_jobs.settings import MySQLSettings, TableSettings

BATCH_BYTES = 8 * 1024 * 1024
MAX_BATCH_ROWS = 65536
UNKNOWN_ROW_BYTES = 16 * 1024
MAX_PACKET_BYTES = 1024 * 1024 * 1024

_UNREACHABLE = (2002, 2003, 2005)
_REFUSED_LOGIN = (1044, 1045, 1698, 2059, 2061)
_NO_DATABASE = (1049,)
# Connection lost, killed or ended by a shutdown; query killed; deadlock and lock wait.
LOST = (2006, 2013, 1927, 4031, 1053, 1317, 1205, 1213)
_NO_TABLE_OR_COLUMN = (1054, 1142, 1143, 1146)


@dataclass(frozen=True)
class Source:
    """A table as MySQL has it now, and how it is read.

    Attributes:
        fields: one for each column, in the table's order.
        primary_key: names of the key's columns, for error messages; empty without a key.
        row_bytes: average bytes of a row by the server's statistics; 0 when unknown.
        max_batch_rows: rows of a batch at most, whatever the statistics say.
    """

    settings: TableSettings
    fields: tuple[Field, ...]
    primary_key: tuple[str, ...]
    row_bytes: int
    mariadb: bool
    encrypted: bool
    max_batch_rows: int = MAX_BATCH_ROWS

    @property
    def schema(self) -> pa.Schema:
        """Return the Arrow schema of the table's rows, before decoding."""
        return lake_schema(self.fields)

    @property
    def batch_rows(self) -> int:
        """Return how many rows make a batch of about BATCH_BYTES."""
        return max(1, min(self.max_batch_rows, BATCH_BYTES // (self.row_bytes or UNKNOWN_ROW_BYTES)))


@contextmanager
def connect(mysql: MySQLSettings) -> Iterator[pymysql.Connection]:
    """Open a read-only connection whose session is the same on every server: UTC, utf8mb4, no SQL mode.

    Raises:
        ConfigError: MySQL refuses the user, the password, the database or the certificate.
        SourceError: MySQL cannot be reached, or refuses what it is asked.
        LostConnectionError: MySQL is lost while the connection is used.
    """
    where = f"{mysql.user}@{mysql.host}:{mysql.port}"
    try:
        connection = pymysql.connect(
            host=mysql.host,
            port=mysql.port,
            user=mysql.user,
            password=mysql.password.encode(),  # type: ignore[arg-type]  # text would be sent as latin1
            database=mysql.database,
            charset="utf8mb4",
            connect_timeout=mysql.connect_timeout_s,
            read_timeout=mysql.read_timeout_s,
            write_timeout=mysql.read_timeout_s,
            max_allowed_packet=MAX_PACKET_BYTES,
            autocommit=True,
            ssl_disabled=mysql.ssl_mode == "DISABLED",
            ssl=_ssl_context(mysql),
            auth_plugin_map={"mysql_clear_password": _RefuseClearText, "dialog": _RefuseClearText},
        )
    except (pymysql.Error, OSError) as error:
        raise _explain_connect(error, mysql, where) from error
    with closing(connection):
        try:
            for statement in session_statements(mysql, "MariaDB" in connection.get_server_info()):
                _fetch(connection, statement)
            zone = _fetch(connection, "SELECT @@session.time_zone")[0][0]
            if zone != "+00:00":
                raise SourceError(f"MySQL {where} kept the session's time zone {zone!r} where +00:00 was set")
            yield connection
        except (pymysql.Error, OSError) as error:
            text = f"MySQL {where}: {first_line(error, mysql)}"
            if error.args and error.args[0] in _NO_TABLE_OR_COLUMN:
                raise ConfigError(f"{text}; grant {mysql.user} SELECT on all of it, or name a view") from error
            is_lost = isinstance(error, OSError) or error.args[:1] in [(code,) for code in LOST]
            raise (LostConnectionError if is_lost else SourceError)(f"{text}; the next run tries again") from error


class _RefuseClearText:
    """Refuses the login plugins that send the password as it is: a server nobody checked could ask for it."""

    def __init__(self, connection: object):
        pass

    def authenticate(self, packet: object) -> None:
        raise pymysql.OperationalError(2061, "the server asks for a clear-text password, which is never sent")


def _ssl_context(mysql: MySQLSettings) -> ssl.SSLContext | None:
    if mysql.ssl_mode in ("DISABLED", "PREFERRED"):
        return None
    context = ssl.create_default_context(cafile=mysql.ssl_ca or None)
    context.check_hostname = mysql.ssl_mode == "VERIFY_IDENTITY"
    if mysql.ssl_mode == "REQUIRED":
        context.verify_mode = ssl.CERT_NONE
    return context


def session_statements(mysql: MySQLSettings, mariadb: bool) -> list[str]:
    """Return the statements that make every session alike, whichever driver opened it."""
    statements = [
        "SET NAMES utf8mb4",
        "SET time_zone='+00:00'",
        "SET sql_mode=''",
        "SET sql_select_limit=18446744073709551615",
        "SET SESSION TRANSACTION READ ONLY",
    ]
    if mysql.statement_timeout_s and mariadb:
        statements.append(f"SET SESSION max_statement_time={mysql.statement_timeout_s}")
    elif mysql.statement_timeout_s:
        statements.append(f"SET SESSION max_execution_time={mysql.statement_timeout_s * 1000}")
    return statements


def _fetch(connection: pymysql.Connection, statement: str, arguments: tuple[object, ...] = ()) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(statement, arguments or None)
        return list(cursor.fetchall())


def _explain_connect(error: Exception, mysql: MySQLSettings, where: str) -> ConfigError | SourceError:
    code = error.args[0] if error.args else 0
    if code in _NO_DATABASE:
        return ConfigError(f"MySQL {where} has no database {mysql.database!r}: correct [mysql] database")
    if code in _REFUSED_LOGIN:
        return ConfigError(
            f"MySQL {where} refused the login to {mysql.database!r}: {first_line(error, mysql)}; "
            "correct [mysql] user and password, or grant the user SELECT"
        )
    if "CERTIFICATE_VERIFY" in str(error) or "certificate" in str(error):
        return ConfigError(f"MySQL {where} is not whom ssl_ca vouches for: {first_line(error, mysql)}")
    hint = (
        "check [mysql] host and port, and that the server runs" if code in _UNREACHABLE else "the next run tries again"
    )
    return SourceError(f"cannot reach MySQL {where}: {first_line(error, mysql)}; {hint}")


def first_line(error: BaseException, mysql: MySQLSettings) -> str:
    """Return the error's message on one line, with the password, in every way a driver writes it, struck out."""
    parts = error.args[1:] if isinstance(error, pymysql.Error) and len(error.args) > 1 else (error,)
    text = " ".join(str(part) for part in parts) or type(error).__name__
    for secret in {mysql.password, quote(mysql.password, safe=""), quote_plus(mysql.password)} - {""}:
        text = text.replace(secret, "***")
    return text.splitlines()[0]


def describe_table(connection: pymysql.Connection, mysql: MySQLSettings, table: TableSettings) -> Source:
    """Read a table's columns, key and size from information_schema.

    Raises:
        ConfigError: the table, its date column or a column that a rule decodes is not there.
        SchemaError: a column has no faithful type in the lake.
    """
    rows = _fetch(
        connection,
        "SELECT column_name, data_type, column_type, numeric_precision, numeric_scale, column_key "
        "FROM information_schema.columns WHERE table_schema=%s AND table_name=%s ORDER BY ordinal_position",
        (mysql.database, table.source),
    )
    where = f"{mysql.database}.{table.source}"
    if not rows:
        raise ConfigError(
            f"[table.{table.name}] source: MySQL has no table {where}, or {mysql.user} may not read it",
            table=table.name,
        )
    _fetch(connection, f"SELECT * FROM {quote_name(table.source)} LIMIT 0")  # the catalogue hides what may not be read
    columns = [
        Column(name, kind.lower(), full.lower(), precision, scale) for name, kind, full, precision, scale, _ in rows
    ]
    known = {column.name for column in columns}
    for key, wanted in [("date_column", table.date_column), *(("decode", rule.source) for rule in table.decode)]:
        if wanted not in known:
            raise ConfigError(
                f"[table.{table.name}] {key}: {where} has no column {wanted!r}", table=table.name, column=wanted
            )
    date_type = next(column.data_type for column in columns if column.name == table.date_column)
    if date_type not in ("date", "datetime", "timestamp"):
        raise ConfigError(
            f"[table.{table.name}] date_column: {table.date_column} is {date_type}; a day is cut from DATE, DATETIME "
            "or TIMESTAMP",
            table=table.name,
            column=table.date_column,
        )
    mariadb = "MariaDB" in connection.get_server_info()
    try:
        fields = tuple(plan_fields(columns, mariadb))
    except SchemaError as error:
        raise SchemaError(f"table {where}: {error}", table=table.name, column=error.column) from error
    row_bytes = _fetch(
        connection,
        "SELECT avg_row_length FROM information_schema.tables WHERE table_schema=%s AND table_name=%s",
        (mysql.database, table.source),
    )[0][0]
    return Source(
        settings=table,
        fields=fields,
        primary_key=tuple(row[0] for row in rows if row[5] == "PRI"),
        row_bytes=int(row_bytes or 0),
        mariadb=mariadb,
        encrypted=bool(_fetch(connection, "SHOW SESSION STATUS LIKE 'Ssl_cipher'")[0][1]),
    )


def has_date_index(connection: pymysql.Connection, mysql: MySQLSettings, table: TableSettings) -> bool:
    """Say whether an index begins with the date column; True for a view, whose indexes are not its own."""
    rows = _fetch(
        connection,
        "SELECT t.table_type, s.column_name FROM information_schema.tables t LEFT JOIN information_schema.statistics s "
        "ON s.table_schema=t.table_schema AND s.table_name=t.table_name AND s.seq_in_index=1 "
        "WHERE t.table_schema=%s AND t.table_name=%s",
        (mysql.database, table.source),
    )
    return any("TABLE" not in kind or column == table.date_column for kind, column in rows)


def day_condition(source: Source, day: date, zone: tzinfo) -> str:
    """Return the WHERE clause of a day, which an index on the date column serves.

    DATE and DATETIME hold wall time and are compared with the calendar day; TIMESTAMP holds instants and is compared,
    in a session that runs in UTC, with the business day's first and last instant.
    """
    field = next(field for field in source.fields if field.name == source.settings.date_column)
    first, stop = (f"{day} 00:00:00", f"{day + ONE_DAY} 00:00:00")
    if pa.types.is_timestamp(field.type) and field.type.tz:
        first, stop = (f"{bound:%Y-%m-%d %H:%M:%S}" for bound in day_bounds(day, zone))
    elif pa.types.is_date32(field.type):
        first, stop = f"{day}", f"{day + ONE_DAY}"
    name = quote_name(field.name)
    return f"{name} >= '{first}' AND {name} < '{stop}'"


def count_day(connection: pymysql.Connection, source: Source, condition: str) -> int:
    """Return how many rows of the table meet the day's condition."""
    rows = _fetch(connection, f"SELECT COUNT(*) FROM {quote_name(source.settings.source)} WHERE {condition}")
    return int(rows[0][0])
