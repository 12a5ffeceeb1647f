"""How a day is read: how many rows it has, where they lie, by which index, along which column it is cut."""

from dataclasses import dataclass, replace
from datetime import date, tzinfo

import pymysql

from luigi_jobs.days import ONE_DAY, day_bounds
from luigi_jobs.mysql import fetch
from luigi_jobs.schema import quote_name
from luigi_jobs.slices import Axis, Cut, moment_axis
from luigi_jobs.source import Source

# A row that is passed over costs about a third of what the way from an index entry to its row does.
DENSE = 2
# InnoDB's estimate of a range stops at half of the table.
_HALF_OF_TABLE = 0.4


@dataclass(frozen=True)
class DayPlan:
    """How the rows of one day are read.

    Attributes:
        condition: the WHERE clause of the day.
        rows: what COUNT(*) says before a row is read, or about that.
        index: the index that every query is told to use; empty leaves it to the optimizer.
        axis: what the day is cut along; None: there is nothing, and one SELECT reads it all.
        is_counted: `rows` was counted, not estimated.
    """

    condition: str
    rows: int
    index: str = ""
    axis: Axis | None = None
    is_counted: bool = True


def day_condition(source: Source, day: date, zone: tzinfo) -> str:
    """Return the WHERE clause of a day, which an index on the date column serves."""
    first, stop = day_limits(source, day, zone)
    name = quote_name(source.settings.date_column)
    return f"{name} >= '{first}' AND {name} < '{stop}'"


def day_limits(source: Source, day: date, zone: tzinfo) -> tuple[str, str]:
    """Return the first moment of a day and of the next, as the date column has them.

    DATE and DATETIME hold wall time and are compared with the calendar day; TIMESTAMP holds instants and is compared,
    in a session that runs in UTC, with the business day's first and last instant.
    """
    kind = source.date_column.data_type
    if kind == "timestamp":
        first, stop = (f"{bound:%Y-%m-%d %H:%M:%S}" for bound in day_bounds(day, zone))
        return first, stop
    time = "" if kind == "date" else " 00:00:00"
    return f"{day}{time}", f"{day + ONE_DAY}{time}"


def day_query(source: Source, plan: DayPlan, aggregates: str) -> str:
    """Return the query of aggregates over a day's rows, by the way on which they are read."""
    where, axis = plan.condition, plan.axis
    if axis and not axis.rest:
        where = f"{where} AND {axis.condition(Cut(axis.low, axis.high))}"
    hint = f" FORCE INDEX ({quote_name(plan.index)})" if plan.index else ""
    return f"SELECT {aggregates} FROM {quote_name(source.settings.source)}{hint} WHERE {where}"


def count_day(connection: pymysql.Connection, source: Source, day: date, zone: tzinfo) -> int:
    """Return how many rows of the table a day has."""
    return sum(rows for (rows,) in _measure_day(connection, source, day, zone, "COUNT(*)"))


def _count_and_locate(
    connection: pymysql.Connection, source: Source, day: date, zone: tzinfo, key: str
) -> tuple[int, int, int]:
    """Return a day's rows, and the least and the greatest value of a key column; 0 where there is no row."""
    expressions = f"COUNT(*), MIN({quote_name(key)}), MAX({quote_name(key)})"
    measured = [part for part in _measure_day(connection, source, day, zone, expressions) if part[0]]
    rows, least, greatest = zip(*measured or [(0, 0, 0)], strict=True)
    return sum(rows), min(least), max(greatest)


def _measure_day(
    connection: pymysql.Connection, source: Source, day: date, zone: tzinfo, expressions: str
) -> list[tuple[int, ...]]:
    """Return aggregates of a day's rows, in one or two parts, by one statement.

    An index serves `date = day` better than a range, so a DATE's partial dates, such as 2021-01-00, are asked apart.
    """
    partial = _partial_dates(source, day) if source.date_index else ""
    conditions = [_exact_date(source, day), partial] if partial else [day_condition(source, day, zone)]
    select = f"SELECT {expressions} FROM {quote_name(source.settings.source)} WHERE "
    return fetch(connection, " UNION ALL ".join(select + condition for condition in conditions))


def _exact_date(source: Source, day: date) -> str:
    """Return the condition of the rows whose date is the day; empty where the date column has a time of day."""
    return f"{source.date_column.quoted} = '{day}'" if source.date_column.data_type == "date" else ""


def _partial_dates(source: Source, day: date) -> str:
    """Return the condition of the day's rows whose DATE is none, but lies between the day and the next."""
    name = source.date_column.quoted
    return f"{name} > '{day}' AND {name} < '{day + ONE_DAY}'" if source.date_column.data_type == "date" else ""


def plan_day(connection: pymysql.Connection, source: Source, day: date, zone: tzinfo) -> DayPlan:
    """Find where a day's rows lie, count them unless that is plain without, and choose how they are read.

    A day whose rows lie close together along the clustered key, as they do in a table that is only appended to, is
    read along it; any other through the index on its date column.
    """
    condition = day_condition(source, day, zone)
    date_column = source.date_column
    is_date = date_column.data_type == "date"
    led_by_date = source.primary_key[:1] == (date_column.name,)
    key = next(iter(source.primary_key[led_by_date and is_date :]), "")
    if key and (axis := _locate_by_index(connection, source, day, key)):
        most = axis.high - axis.low
        if most <= _explain_rows(connection, source, source.date_index, _exact_date(source, day)):
            return DayPlan(condition, most, "PRIMARY", axis, is_counted=False)
    if key and source.column(key).is_integer:
        rows, low, high = _count_and_locate(connection, source, day, zone, key)
        axis = Axis(key, low, high + 1)
        if not led_by_date and _is_dense(connection, source, axis, rows):
            return DayPlan(condition, rows, "PRIMARY", axis)
        if source.date_index_columns[:2] == (date_column.name, key) and is_date:
            axis = replace(axis, fixed=_exact_date(source, day), rest=_partial_dates(source, day))
            return DayPlan(condition, rows, source.date_index, axis)
    else:
        rows = count_day(connection, source, day, zone)
    limits = day_limits(source, day, zone)
    if not is_date and source.date_index and limits[0] < limits[1]:  # a date that a zone skipped has no length
        return DayPlan(condition, rows, source.date_index, moment_axis(date_column.name, *limits))
    # A day that is a large part of the table may be quicker by a scan: that is the optimizer's to say.
    return DayPlan(condition, rows, source.date_index if rows * 4 < source.rows else "")


def _locate_by_index(connection: pymysql.Connection, source: Source, day: date, key: str) -> Axis | None:
    """Return where a day lies along the key, if the ends of an index on (date, key) say so without a row being read."""
    is_sorted = source.date_index_columns == (source.date_column.name, key) and source.is_transactional
    if not is_sorted or source.primary_key != (key,) or not source.column(key).is_integer or source.is_view:
        return None
    if not (exact := _exact_date(source, day)):
        return None
    table, name = quote_name(source.settings.source), quote_name(key)
    query = f"SELECT MIN({name}), MAX({name}) FROM {table} FORCE INDEX ({quote_name(source.date_index)}) WHERE "
    ends = fetch(connection, f"{query}{exact} UNION ALL {query}{_partial_dates(source, day)}")
    found = [(least, greatest) for least, greatest in ends if least is not None]
    return Axis(key, min(least for least, _ in found), max(most for _, most in found) + 1) if found else None


def _is_dense(connection: pymysql.Connection, source: Source, axis: Axis, rows: int) -> bool:
    """Say whether the key's range between a day's first and last row holds little else."""
    if source.is_view:
        return False
    if len(source.primary_key) == 1 and axis.high - axis.low <= DENSE * rows:
        return True
    estimate = _explain_rows(connection, source, "PRIMARY", axis.condition(Cut(axis.low, axis.high)))
    if estimate >= _HALF_OF_TABLE * source.rows:
        estimate = source.rows
    return 0 < estimate <= DENSE * rows


def _explain_rows(connection: pymysql.Connection, source: Source, index: str, condition: str) -> int:
    """Return how many rows the optimizer expects to meet a condition by an index; 0 when it cannot tell.

    With FORCE INDEX, MySQL 8 and 9 do not look: https://dev.mysql.com/doc/refman/8.4/en/range-optimization.html
    """
    table, hint = quote_name(source.settings.source), f"USE INDEX ({quote_name(index)})"
    with connection.cursor(pymysql.cursors.DictCursor) as cursor:
        cursor.execute(f"EXPLAIN FORMAT=TRADITIONAL SELECT 1 FROM {table} {hint} WHERE {condition}")
        row = cursor.fetchone()
    return int(row["rows"] or 0) if row else 0


def find_zero_date(connection: pymysql.Connection, source: Source, condition: str) -> str:
    """Describe one value of a day that is no real date: its column, its row's primary key, the value."""
    for field in (field for field in source.fields if field.is_date):
        name = quote_name(field.name)
        key = ", ".join(map(quote_name, source.primary_key)) or "NULL"
        rows = fetch(
            connection,
            f"SELECT CAST({name} AS CHAR), {key} FROM {quote_name(source.settings.source)} "
            f"WHERE {condition} AND {field.is_zero_date} LIMIT 1",
        )
        for value, *values in rows:
            where = ", ".join(f"{name}={value}" for name, value in zip(source.primary_key, values, strict=False))
            return f"column {field.name} of row {where or 'without a key'} holds {value}, which is no real date"
    return "a date column held a value that is no real date"
