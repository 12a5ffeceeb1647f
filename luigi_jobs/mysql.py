"""Sessions on MySQL that are the same on every server, by PyMySQL; what it refuses is said at once, in a clear word."""

import os
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, quote_plus

import pymysql

from luigi_jobs import watch
from luigi_jobs.errors import (
    TRIES_AGAIN,
    ConfigError,
    LostConnectionError,
    LuigiJobsError,
    SourceError,
    UnreachableError,
)
from luigi_jobs.settings import MySQLSettings

MAX_CLOCK_SKEW_S = 300
MAX_PACKET_BYTES = 1024 * 1024 * 1024
TIDY_S = 3

_UNREACHABLE = (2002, 2003, 2005)
_REFUSED_LOGIN = (1044, 1045, 1698, 2059, 2061)
_NO_DATABASE = (1049,)
# Connection lost, killed or ended by a shutdown; query killed, or over its time (MariaDB, MySQL); lock wait; deadlock.
LOST = (2006, 2013, 1927, 4031, 1053, 1317, 1969, 3024, 1205, 1213)
_NO_TABLE_OR_COLUMN = (1054, 1142, 1143, 1146)


@contextmanager
def connect(mysql: MySQLSettings, *, is_tidying: bool = False) -> Iterator[pymysql.Connection]:
    """Open a read-only connection whose session is the same on every server: UTC, utf8mb4, no SQL mode.

    A query that nobody waits for any more is ended, unless the connection is there for that.

    Raises:
        ConfigError: MySQL refuses the user, the password, the database or the certificate.
        SourceError: MySQL cannot be reached, or refuses what it is asked.
        LostConnectionError: MySQL is lost while the connection is used.
    """
    where = f"{mysql.user}@{mysql.host}:{mysql.port}"
    try:
        mysql.host.encode("idna")
    except UnicodeError as error:  # as the resolver would raise it
        raise UnreachableError(f"cannot reach MySQL {where}: it is no host's name; check [mysql] host") from error
    try:
        connection = _Connection(
            host=mysql.host,
            port=mysql.port,
            user=mysql.user,
            password=mysql.password.encode(),  # type: ignore[arg-type]  # text would be sent as latin1
            database=mysql.database,
            charset="utf8mb4",
            connect_timeout=mysql.connect_timeout_s,
            read_timeout=mysql.connect_timeout_s,  # of greeting and login
            write_timeout=mysql.connect_timeout_s,
            max_allowed_packet=MAX_PACKET_BYTES,
            autocommit=True,
            ssl_disabled=mysql.ssl_mode == "DISABLED",
            ssl=_ssl_context(mysql),
            auth_plugin_map={"mysql_clear_password": _RefuseClearText, "dialog": _RefuseClearText},
        )
    except (pymysql.Error, OSError) as error:
        raise _explain_connect(error, mysql, where) from error
    connection._read_timeout = connection._write_timeout = mysql.read_timeout_s
    with closing(connection):
        try:
            for statement in session_statements(mysql, "MariaDB" in connection.get_server_info()):
                fetch(connection, statement)
            zone = fetch(connection, "SELECT @@session.time_zone")[0][0]
            if zone != "+00:00":
                raise SourceError(f"MySQL {where} kept the session's time zone {zone!r} where +00:00 was set")
            yield connection
        except (SystemExit, KeyboardInterrupt):
            if not is_tidying:
                _end_query(mysql, connection.thread_id())
            raise
        except (pymysql.Error, OSError) as error:
            if isinstance(error.__context__, TimeoutError):
                if not is_tidying:
                    _end_query(mysql, connection.thread_id())
                raise LostConnectionError(
                    f"MySQL {where} has sent nothing for {mysql.read_timeout_s} s (read_timeout_s in [mysql]): the "
                    f"connection is given up{TRIES_AGAIN}"
                ) from error
            text = f"MySQL {where}: {first_line(error, mysql)}"
            if error.args and error.args[0] in _NO_TABLE_OR_COLUMN:
                raise ConfigError(f"{text}; grant {mysql.user} SELECT on all of it, or name a view") from error
            is_lost = isinstance(error, OSError) or error.args[:1] in [(code,) for code in LOST]
            raise (LostConnectionError if is_lost else SourceError)(f"{text}; the next run tries again") from error


class _Connection(pymysql.Connection):
    """A connection that sends the password itself by TLS alone, as MySQL's own client does.

    Without TLS, caching_sha2_password and sha256_password would encrypt it by a key that the server shows, and that
    anybody who answers in its place could show as well.
    """

    @property
    def server_public_key(self) -> bytes:
        raise pymysql.OperationalError(
            2061, "its login plugin asks for the password itself, which is sent by TLS only: enable TLS on the server, "
            "or have the user log in by TLS once, which caching_sha2_password remembers"
        )  # fmt: skip

    @server_public_key.setter
    def server_public_key(self, _: object) -> None:
        """Take no key from the server."""


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
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",  # without which there is no snapshot
    ]
    if not mariadb:  # MySQL 8 would answer with yesterday's statistics of a table; MySQL 5.7 does not know the variable
        statements.append("SET @luigi_jobs=1 /*!80000 , SESSION information_schema_stats_expiry=0 */")
    if mysql.statement_timeout_s and mariadb:
        statements.append(f"SET SESSION max_statement_time={mysql.statement_timeout_s}")
    elif mysql.statement_timeout_s:
        statements.append(f"SET SESSION max_execution_time={mysql.statement_timeout_s * 1000}")
    return statements


def fetch(connection: pymysql.Connection, statement: str, arguments: tuple[object, ...] = ()) -> list[Any]:
    """Return all rows that a statement answers with, as tuples."""
    with connection.cursor() as cursor:
        cursor.execute(mark(statement), arguments or None)
        return list(cursor.fetchall())


def mark(statement: str, note: str = "") -> str:
    """Return a SELECT with this process's marker in its text, by which it can be found on the server and ended."""
    if not statement.startswith("SELECT "):
        return statement
    return f"SELECT /* {watch.name_queries(os.getpid())}{note} */{statement.removeprefix('SELECT')}"


def read_clock(connection: pymysql.Connection) -> str:
    """Return the server's time in UTC, ISO 8601 with microseconds: one clock for all hosts that load from it.

    Raises:
        ConfigError: this machine's clock, which says which days are closed, is another.
    """
    text = str(fetch(connection, "SELECT DATE_FORMAT(UTC_TIMESTAMP(6), '%Y-%m-%dT%H:%i:%s.%fZ')")[0][0])
    ours = datetime.now(UTC)
    if abs((ours - datetime.fromisoformat(text)).total_seconds()) > MAX_CLOCK_SKEW_S:
        raise ConfigError(
            f"this machine's clock says {ours:%Y-%m-%dT%H:%M:%SZ} and MySQL's {text[:19]}Z: set the one that is wrong, "
            "or days would be loaded that are not closed"
        )
    return text


def _explain_connect(error: Exception, mysql: MySQLSettings, where: str) -> ConfigError | SourceError:
    code = error.args[0] if error.args else 0
    if code in _NO_DATABASE:
        return ConfigError(f"MySQL {where} has no database {mysql.database!r}: correct [mysql] database")
    if code in _REFUSED_LOGIN:
        return ConfigError(
            f"MySQL {where} refused the login to {mysql.database!r}: {first_line(error, mysql)}; "
            "correct [mysql] user and password, or grant the user SELECT"
        )
    if "SSL is required" in str(error):
        return ConfigError(
            f"MySQL {where} has no TLS, which [mysql] ssl_mode = {mysql.ssl_mode} asks for: enable it there, or "
            "correct ssl_mode"
        )
    if "CERTIFICATE_VERIFY" in str(error) or "certificate" in str(error):
        return ConfigError(f"MySQL {where} is not whom ssl_ca vouches for: {first_line(error, mysql)}")
    hint = (
        "check [mysql] host and port, and that the server runs" if code in _UNREACHABLE else "the next run tries again"
    )
    return UnreachableError(f"cannot reach MySQL {where}: {first_line(error, mysql)}; {hint}")


def first_line(error: BaseException, mysql: MySQLSettings) -> str:
    """Return the error's message on one line, with the password, in every way a driver writes it, struck out."""
    parts = error.args[1:] if isinstance(error, pymysql.Error) and len(error.args) > 1 else (error,)
    text = " ".join(str(part) for part in parts) or type(error).__name__
    for secret in {mysql.password, quote(mysql.password, safe=""), quote_plus(mysql.password)} - {""}:
        text = text.replace(secret, "***")
    return text.splitlines()[0]


def end_queries(mysql: MySQLSettings, marker: str, only: int | None = None) -> None:
    """End the queries that hold `marker` in their text, or the one of them of connection `only`: nobody reads them.

    Raises:
        LuigiJobsError: MySQL cannot be asked within a few seconds.
    """
    seconds = min(mysql.connect_timeout_s, TIDY_S)
    hurried = replace(mysql, connect_timeout_s=seconds, read_timeout_s=seconds)
    with connect(hurried, is_tidying=True) as connection:
        for identifier, statement in fetch(
            connection, "SELECT id, info FROM information_schema.processlist WHERE id <> CONNECTION_ID()"
        ):
            if marker in (statement or "") and only in (None, int(identifier)):
                with suppress(pymysql.Error):  # it has ended by itself
                    fetch(connection, f"KILL QUERY {int(identifier)}")


def _end_query(mysql: MySQLSettings, connection: int) -> None:
    with suppress(LuigiJobsError):
        end_queries(mysql, watch.RUN_MARKER, only=connection)
