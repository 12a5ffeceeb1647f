"""The rows of a query, in record batches, by either driver; both deliver the same columns.

connectorx (Rust, binary protocol, Arrow) is the fast one, PyMySQL the second opinion: `[mysql] driver`.
"""

import logging
import os
import re
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import pyarrow as pa
import pymysql
import pymysql.cursors

from luigi_jobs.errors import LargeSliceError, LostConnectionError, SchemaError, SourceError, ZeroDateError
from luigi_jobs.mysql import LOST, MAX_PACKET_BYTES, connect, first_line, mark, session_statements
from luigi_jobs.schema import Guards
from luigi_jobs.settings import MySQLSettings
from luigi_jobs.source import NO_GUARDS, Source

logger = logging.getLogger("luigi-interface")

BATCH_BYTES = 4 * 1024 * 1024
MAX_BATCH_ROWS = 65536
MAX_PYMYSQL_ROWS = 8192  # a row of Python objects takes several times the room of its values


@dataclass(frozen=True)
class Query:
    """Which rows are read, and how.

    Attributes:
        condition: the WHERE clause.
        index: the index to use; empty leaves it to the optimizer.
        guards: what is kept from the driver.
        batch_rows: rows of a batch.
    """

    condition: str
    index: str = ""
    guards: Guards = NO_GUARDS
    batch_rows: int = MAX_BATCH_ROWS


def stream_rows(mysql: MySQLSettings, source: Source, query: Query) -> Generator[pa.RecordBatch, None, None]:
    """Yield the rows of a query in record batches, as the driver of the settings delivers them: one at least.

    Close the generator when it is not read to its end.

    Raises:
        SourceError: MySQL refused the query.
        LostConnectionError: the connection was lost before the last row.
        ZeroDateError: without guards, a date column holds a value that is no real date.
        LargeSliceError: connectorx found that a batch is more than 2 GiB.
        SchemaError: connectorx does not know a column's type, or text is not UTF-8.
    """
    text = mark(source.select(query.condition, query.index, query.guards), " rows")
    if mysql.driver == "connectorx":
        yield from _stream_connectorx(mysql, source, text, query.batch_rows)
    else:
        yield from _stream_pymysql(mysql, source, text, query)


def load_driver(mysql: MySQLSettings) -> Any:
    """Import connectorx, where the settings name it: a tenth of a second, and RUST_BACKTRACE must be set before."""
    os.environ.setdefault("RUST_BACKTRACE", "0")
    if mysql.driver == "pymysql":
        return pymysql
    import connectorx  # noqa: PLC0415

    return connectorx


def _stream_pymysql(
    mysql: MySQLSettings, source: Source, text: str, query: Query
) -> Generator[pa.RecordBatch, None, None]:
    with connect(mysql) as connection, _reading(connection, text) as cursor:
        flags = [(name, pa.int64()) for name, *_ in cursor.description[len(source.fields) :]]
        schema = pa.schema([*((field.name, field.wire_type) for field in source.fields), *flags])
        ended = False
        while not ended:
            try:
                rows, ended = _take_rows(cursor, min(query.batch_rows, MAX_PYMYSQL_ROWS))
            except UnicodeDecodeError as error:
                raise _explain_text(source) from error
            columns = zip(*rows, strict=True) if rows else ((),) * len(schema)
            try:
                arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                # PyMySQL returns the text of a date that is none: https://pymysql.readthedocs.io/en/latest/
                raise ZeroDateError(f"{source.settings.name}: a date column holds no real date: {error}") from error
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)


def _take_rows(cursor: pymysql.cursors.SSCursor, most: int) -> tuple[list[tuple[Any, ...]], bool]:
    """Read up to `most` rows, or BATCH_BYTES of text and bytes; say whether they were the last."""
    rows: list[tuple[Any, ...]] = []
    size = 0
    while len(rows) < most and size < BATCH_BYTES:
        row = cursor.fetchone()
        if row is None:
            return rows, True
        rows.append(row)
        size += sum(len(value) for value in row if isinstance(value, str | bytes))
    return rows, False


@contextmanager
def _reading(connection: pymysql.Connection, query: str) -> Iterator[pymysql.cursors.SSCursor]:
    """Run a query whose rows are read as they come; leaving early leaves the rest unread."""
    cursor = connection.cursor(pymysql.cursors.SSCursor)
    cursor.execute(query)
    result = cursor._result
    try:
        yield cursor
    finally:
        result.unbuffered_active = False  # or PyMySQL would read the rest of the day first


def _stream_connectorx(
    mysql: MySQLSettings, source: Source, text: str, batch_rows: int
) -> Generator[pa.RecordBatch, None, None]:
    connectorx = load_driver(mysql)
    try:
        reader = connectorx.read_sql(
            _connectorx_url(mysql, source),
            text,
            return_type="arrow_stream",
            batch_size=batch_rows,
            pre_execution_query=session_statements(mysql, source.mariadb),
        )
        empty = True
        for batch in reader:
            empty = False
            yield batch
        if empty:
            yield pa.RecordBatch.from_pylist([], reader.schema)
    except BaseException as error:
        # Rust panics arrive as a BaseException of a module that cannot be imported.
        if not isinstance(error, RuntimeError) and type(error).__module__ != "pyo3_runtime":
            raise
        raise _explain_connectorx(error, mysql, source) from None


def _explain_connectorx(error: BaseException, mysql: MySQLSettings, source: Source) -> SourceError | SchemaError:
    if "chrono::naive" in str(error):
        return ZeroDateError(f"{source.settings.name}: a date column holds a value that is no real date")
    if "offset overflow" in str(error):
        return LargeSliceError(f"{source.settings.name}: a batch of rows is more than 2 GiB")
    if "alloc::string::String" in str(error):
        return _explain_text(source)
    if "not implemented" in str(error):
        return SchemaError(
            f"connectorx cannot read {source.settings.source}: {first_line(error, mysql)}; cast the column in a view, "
            "or set [mysql] driver = pymysql"
        )
    text = first_line(error, mysql)
    answer = re.search(r"ERROR (\d+) \(\w+\): [^}]+", text)
    reason = answer[0].strip() if answer else f"the connection was lost while rows were read ({text})"
    error_type = LostConnectionError if not answer or int(answer[1]) in LOST else SourceError
    return error_type(f"MySQL {mysql.user}@{mysql.host}:{mysql.port}: {reason}; the next run tries again")


def _explain_text(source: Source) -> SchemaError:
    return SchemaError(
        f"{source.settings.source}: a column of text holds a value that is no UTF-8, such as one half of a surrogate "
        "pair: correct the value, or cast the column to BINARY in a view"
    )


def _connectorx_url(mysql: MySQLSettings, source: Source) -> str:
    host = f"[{mysql.host}]" if ":" in mysql.host else mysql.host
    ssl_mode = mysql.ssl_mode
    if ssl_mode == "PREFERRED":  # connectorx takes it for REQUIRED; do what the first connection could do
        ssl_mode = "REQUIRED" if source.encrypted else "DISABLED"
    options = {
        "prefer_socket": "false",
        "tcp_connect_timeout_ms": str(mysql.connect_timeout_s * 1000),
        "tcp_keepalive_time_ms": str(mysql.connect_timeout_s * 1000),
        "tcp_user_timeout_ms": str(mysql.read_timeout_s * 1000),
        "max_allowed_packet": str(MAX_PACKET_BYTES),  # or a row may not be larger than what the server takes itself
        "ssl-mode": ssl_mode,
        **({"ssl-ca": mysql.ssl_ca} if mysql.ssl_ca else {}),
    }
    credentials = f"{quote(mysql.user, safe='')}:{quote(mysql.password, safe='')}"
    return f"mysql://{credentials}@{host}:{mysql.port}/{quote(mysql.database, safe='')}?{urlencode(options)}"


@contextmanager
def rust_stderr_dropped() -> Iterator[None]:
    """Drop what Rust prints of a panic, column values among it, while the process's own log lines go through.

    Standard error is the process's: enter this once around all that is streamed, by however many threads.
    """
    sink, visible = os.open(os.devnull, os.O_WRONLY), os.fdopen(os.dup(2), "w", buffering=1)
    handlers = [
        handler
        for handler in (*logger.handlers, *logging.getLogger().handlers)
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stderr
    ]
    try:
        for handler in handlers:
            handler.setStream(visible)
        os.dup2(sink, 2)
        yield
    finally:
        os.dup2(visible.fileno(), 2)
        for handler in handlers:
            handler.setStream(sys.stderr)
        visible.close()
        os.close(sink)
