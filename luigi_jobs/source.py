"""A table as MySQL describes it, held against its section of luigi.cfg."""

from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pymysql

from luigi_jobs.errors import ConfigError, SchemaError
from luigi_jobs.mysql import fetch
from luigi_jobs.schema import Column, Field, Guards, lake_schema, quote_name, select_list
from luigi_jobs.settings import MySQLSettings, TableSettings
from luigi_jobs.type_table import GEOMETRIES, plan_fields

NO_GUARDS = Guards()

_Index = tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """A table as MySQL has it now, and how it is read.

    Attributes:
        columns: the table's columns, in its order.
        fields: how each is selected, and what it becomes.
        primary_key: names of the key's columns, in the key's order; empty without a key of whole columns.
        date_index: name of an index that begins with the date column; empty without one.
        date_index_columns: what this index is sorted by, with the primary key that InnoDB appends.
        rows: rows of the table by the server's statistics; 0 when unknown.
        row_bytes: average bytes of a row by the server's statistics; 0 when unknown.
        is_view: a view, whose indexes are not its own.
        is_transactional: its engine reads it as of one moment, whatever is written meanwhile.
    """

    settings: TableSettings
    columns: tuple[Column, ...]
    fields: tuple[Field, ...]
    primary_key: tuple[str, ...]
    date_index: str
    date_index_columns: tuple[str, ...]
    rows: int
    row_bytes: int
    is_view: bool
    is_transactional: bool
    mariadb: bool
    encrypted: bool

    @property
    def schema(self) -> pa.Schema:
        """Return the Arrow schema of the table's rows, before decoding."""
        return lake_schema(self.fields)

    @property
    def date_column(self) -> Column:
        """Return the column that days are cut from."""
        return self.column(self.settings.date_column)

    @property
    def has_large_values(self) -> bool:
        """Say whether there is a column whose values may be large."""
        return any(field.size for field in self.fields)

    def column(self, name: str) -> Column:
        """Return a column by its name."""
        return next(column for column in self.columns if column.name == name)

    def select(self, condition: str, index: str = "", guards: Guards = NO_GUARDS) -> str:
        """Return the SELECT that reads the rows that meet a condition, the same for both drivers."""
        hint = f" FORCE INDEX ({quote_name(index)})" if index else ""
        columns = select_list(self.fields, guards)
        return f"SELECT {columns} FROM {quote_name(self.settings.source)}{hint} WHERE {condition}"


def describe_table(connection: pymysql.Connection, mysql: MySQLSettings, table: TableSettings) -> Source:
    """Read a table's columns, indexes and size from information_schema.

    Raises:
        ConfigError: the table, its date column or a column that a rule names is not there.
        SchemaError: a column has no faithful type in the lake.
    """
    names = (mysql.database, table.source)
    where = f"{mysql.database}.{table.source}"
    columns = _read_columns(connection, names)
    if not columns:
        raise ConfigError(
            f"[table.{table.name}] source: MySQL has no table {where}, or {mysql.user} may not read it",
            table=table.name,
        )
    fetch(connection, f"SELECT * FROM {quote_name(table.source)} LIMIT 0")  # the catalogue hides what may not be read
    _check_settings(table, columns, where)
    kind, engine, rows, row_bytes = fetch(
        connection,
        "SELECT table_type, engine, table_rows, avg_row_length FROM information_schema.tables "
        "WHERE table_schema=%s AND table_name=%s",
        names,
    )[0]
    is_view = kind.endswith("VIEW")
    mariadb = "MariaDB" in connection.get_server_info()
    try:
        fields = tuple(plan_fields(columns, mariadb, [rule.column for rule in table.types], is_view))
    except SchemaError as error:
        raise SchemaError(f"table {where}: {error}", table=table.name, column=error.column) from error
    indexes = _read_indexes(connection, names)
    primary_key = indexes.get("PRIMARY", ())
    appended = primary_key if engine == "InnoDB" else ()
    date_index, date_index_columns = _choose_date_index(indexes, table.date_column, appended)
    return Source(
        settings=table,
        columns=columns,
        fields=fields,
        primary_key=primary_key,
        date_index=date_index,
        date_index_columns=date_index_columns,
        rows=int(rows or 0),
        row_bytes=int(row_bytes or 0),
        is_view=is_view,
        is_transactional=engine == "InnoDB",
        mariadb=mariadb,
        encrypted=bool(fetch(connection, "SHOW SESSION STATUS LIKE 'Ssl_cipher'")[0][1]),
    )


def _read_columns(connection: pymysql.Connection, names: tuple[str, str]) -> tuple[Column, ...]:
    rows = fetch(
        connection,
        "SELECT column_name, data_type, column_type, numeric_precision, numeric_scale, character_octet_length "
        "FROM information_schema.columns WHERE table_schema=%s AND table_name=%s ORDER BY ordinal_position",
        names,
    )
    return tuple(Column(name, kind.lower(), full.lower(), *numbers) for name, kind, full, *numbers in rows)


def _check_settings(table: TableSettings, columns: tuple[Column, ...], where: str) -> None:
    types = {column.name: column.data_type for column in columns}
    wanted = [
        ("date_column", table.date_column),
        *(("decode", rule.source) for rule in table.decode),
        *(("types", rule.column) for rule in table.types),
        *(("fingerprint", name) for name in [table.fingerprint.column] if name),
    ]
    for key, name in wanted:
        if name not in types:
            raise ConfigError(
                f"[table.{table.name}] {key}: {where} has no column {name!r}", table=table.name, column=name
            )
    if types.get(table.fingerprint.column) in GEOMETRIES:
        raise ConfigError(
            f"[table.{table.name}] fingerprint: {table.fingerprint.column} is {types[table.fingerprint.column]}, which "
            "has no greatest value; name another column, or use `checksum`",
            table=table.name,
            column=table.fingerprint.column,
        )
    if (kind := types[table.date_column]) not in ("date", "datetime", "timestamp"):
        raise ConfigError(
            f"[table.{table.name}] date_column: {table.date_column} is {kind}; a day is cut from DATE, DATETIME "
            "or TIMESTAMP",
            table=table.name,
            column=table.date_column,
        )


def _read_indexes(connection: pymysql.Connection, names: tuple[str, str]) -> dict[str, _Index]:
    """Return the columns of every index that a query may be told to use, in order."""
    with connection.cursor(pymysql.cursors.DictCursor) as cursor:
        cursor.execute(
            "SELECT * FROM information_schema.statistics WHERE table_schema=%s AND table_name=%s "
            "ORDER BY index_name, seq_in_index",
            names,
        )
        rows: list[dict[str, Any]] = [{key.lower(): value for key, value in row.items()} for row in cursor.fetchall()]
    indexes: dict[str, list[str]] = {}
    cut: set[str] = set()
    for row in rows:
        name, column = row["index_name"], row["column_name"]
        hidden = row.get("is_visible") == "NO" or row.get("ignored") == "YES" or row["index_type"] != "BTREE"
        if hidden or column is None or row["sub_part"]:  # what follows a prefix or an expression is in no useful order
            cut.add(name)
        if name not in cut:
            indexes.setdefault(name, []).append(column)
    return {name: tuple(columns) for name, columns in indexes.items() if name != "PRIMARY" or name not in cut}


def _choose_date_index(indexes: dict[str, _Index], date_column: str, appended: _Index) -> tuple[str, _Index]:
    """Return the best index that begins with the date column and what it is sorted by, or two times nothing."""
    found = [(name, columns) for name, columns in indexes.items() if columns[0] == date_column]
    if not found:
        return "", ()
    name, columns = min(found, key=lambda index: (index[0] != "PRIMARY", len(index[1]), index[0]))
    if name == "PRIMARY":
        return name, columns
    return name, (*columns, *(column for column in appended if column not in columns))
