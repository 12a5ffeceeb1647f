"""The rows of a day, in record batches, by either driver; both deliver the same columns.

connectorx (Rust, binary protocol, Arrow) is the fast one, PyMySQL the second opinion: `[mysql] driver`.
"""

import logging
import os
import re
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from urllib.parse import quote, urlencode

import pyarrow as pa
import pymysql
import pymysql.cursors

from luigi_jobs.errors import LargeBatchError, LostConnectionError, SchemaError, SourceError, ZeroDateError
from luigi_jobs.mysql import LOST, Source, connect, first_line, session_statements
from luigi_jobs.schema import quote_name, select_list
from luigi_jobs.settings import MySQLSettings

logger = logging.getLogger("luigi-interface")


def select_day(source: Source, condition: str, guard_dates: bool = False) -> str:
    """Return the SELECT that reads a day, the same for both drivers."""
    columns = select_list(source.fields, guard_dates)
    return f"SELECT {columns} FROM {quote_name(source.settings.source)} WHERE {condition}"


def stream_day(
    mysql: MySQLSettings, source: Source, condition: str, guard_dates: bool
) -> Generator[pa.RecordBatch, None, None]:
    """Yield a day's rows in record batches, as the driver of the settings delivers them; at least one, maybe empty.

    Close the generator when it is not read to its end.

    Raises:
        SourceError: MySQL refused the query.
        LostConnectionError: the connection was lost before the last row.
        ZeroDateError: without `guard_dates`, a date column holds a value that is no real date.
        LargeBatchError: a batch of `source.batch_rows` rows is more than 2 GiB.
    """
    stream = _stream_connectorx if mysql.driver == "connectorx" else _stream_pymysql
    return stream(mysql, source, select_day(source, condition, guard_dates))


def _stream_pymysql(mysql: MySQLSettings, source: Source, query: str) -> Generator[pa.RecordBatch, None, None]:
    schema = pa.schema([(field.name, field.wire_type) for field in source.fields])
    with connect(mysql) as connection, _reading(connection, query) as cursor:
        while True:
            rows = cursor.fetchmany(source.batch_rows)
            columns = zip(*rows, strict=True) if rows else ((),) * len(schema)
            try:
                arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                # PyMySQL returns the text of a date that is none: https://pymysql.readthedocs.io/en/latest/
                raise ZeroDateError(f"{source.settings.name}: a date column holds no real date: {error}") from error
            yield pa.RecordBatch.from_arrays(arrays, schema=schema)
            if len(rows) < source.batch_rows:
                return


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


def _stream_connectorx(mysql: MySQLSettings, source: Source, query: str) -> Generator[pa.RecordBatch, None, None]:
    os.environ.setdefault("RUST_BACKTRACE", "0")
    import connectorx  # noqa: PLC0415  # RUST_BACKTRACE must be set before

    with _rust_stderr_dropped():
        try:
            reader = connectorx.read_sql(
                _connectorx_url(mysql, source),
                query,
                return_type="arrow_stream",
                batch_size=source.batch_rows,
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
        return LargeBatchError(f"{source.settings.name}: {source.batch_rows} rows in a batch are more than 2 GiB")
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
        "ssl-mode": ssl_mode,
        **({"ssl-ca": mysql.ssl_ca} if mysql.ssl_ca else {}),
    }
    credentials = f"{quote(mysql.user, safe='')}:{quote(mysql.password, safe='')}"
    return f"mysql://{credentials}@{host}:{mysql.port}/{quote(mysql.database, safe='')}?{urlencode(options)}"


@contextmanager
def _rust_stderr_dropped() -> Iterator[None]:
    """Drop what Rust prints of a panic, column values among it, while the process's own log lines go through."""
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
