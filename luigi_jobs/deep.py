"""A day's values in MySQL and in the lake, as checksums: what `audit --deep` compares."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from luigi_jobs.checksum import checksum_batch, checksum_rows
from luigi_jobs.compare import UNREADABLE, VALUES
from luigi_jobs.convert import Converter
from luigi_jobs.mysql import connect, fetch
from luigi_jobs.plan import DayPlan, day_query, plan_day
from luigi_jobs.reader import DayReader
from luigi_jobs.schema import Field
from luigi_jobs.settings import Settings
from luigi_jobs.source import Source

BATCH_ROWS = 8192
# What MySQL decodes as our decoders do, where no value is refused.
_IN_SQL = {"base64": "FROM_BASE64({})", "hex": "UNHEX({})", "utf8": "{}", "json": "{}"}


@dataclass(frozen=True)
class Checksum:
    """The rows of a day, and the checksum of them."""

    rows: int
    value: int


def select_as_loaded(source: Source) -> list[Field] | None:
    """Return the table's fields as the lake has them, or None where only Python can say what the lake has."""
    table = source.settings
    if table.transform or table.dates or table.types or (table.decode and table.on_decode_error != "fail"):
        return None
    fields = {field.name: field for field in source.fields}
    for rule in table.decode:
        field = fields[rule.source]
        if pa.types.is_string(field.wire_type):  # decoders see what arrives, and that is UTF-8
            field = replace(field, expression=f"CONVERT({field.expression} USING utf8mb4)")
        for decoder in rule.decoders:
            if decoder not in _IN_SQL:
                return None
            field = replace(field, expression=_IN_SQL[decoder].format(field.expression), wire_type=pa.binary())
        fields[rule.source] = replace(field, name=rule.target)
    return list(fields.values())


def compare_values(settings: Settings, source: Source, schema: pa.Schema, day: date, path: Path) -> tuple[str, str]:
    """Compare the values of a day in MySQL and in its file, of the columns that the file has, in the types of today.

    Args:
        schema: what the file would have today; columns of the file may be narrower, but none is lost or another.

    Returns:
        A status, `values` or `unreadable`, and what was found; empty when they are equal.

    Raises:
        SourceError: MySQL cannot tell.
    """
    columns = {column.name.lower(): column for column in schema}
    fields = {field.name: field for field in select_as_loaded(source) or ()}
    try:
        today = pa.schema([columns[name.lower()] for name in pq.read_schema(path).names])
        chosen = [fields[name] for name in today.names] if fields else None
        lakes = checksum_of_file(path, today)
    except (pa.ArrowException, OSError) as error:
        return UNREADABLE, f"it cannot be read: {' '.join(str(error).split())}"
    with connect(settings.mysql) as connection:
        plan = plan_day(connection, source, day, settings.lake.timezone)
    if chosen is None:
        mysqls = checksum_by_reading(settings, source, plan, f"{source.settings.name} {day}", today.names)
    else:
        mysqls = checksum_in_mysql(settings, source, plan, chosen)
    if mysqls == lakes:
        return "", ""
    return VALUES, f"checksum {lakes.value} of {lakes.rows:,} rows, MySQL's is {mysqls.value} of {mysqls.rows:,}"


def checksum_in_mysql(settings: Settings, source: Source, plan: DayPlan, fields: Sequence[Field]) -> Checksum:
    """Have MySQL compute the checksum of a day's rows."""
    with connect(settings.mysql) as connection:
        query = day_query(source, plan, f"COUNT(*), {checksum_rows(fields)}")
        ((rows, value),) = fetch(connection, query)
    return Checksum(int(rows), int(value or 0))


def checksum_by_reading(
    settings: Settings, source: Source, plan: DayPlan, label: str, names: Sequence[str]
) -> Checksum:
    """Read a day's rows from MySQL once more, convert them as a load would, and compute some columns' checksum.

    PyMySQL reads them: it is the second opinion, and gives up a connection that stalls by itself.
    """
    converter = Converter(source.schema, source.primary_key, source.settings, settings.lake.partition_key)
    sink = _Sum(converter, names)
    mysql = replace(settings.mysql, driver="pymysql")
    DayReader(mysql, source, plan, label, at_last_part=lambda: None).read_into(sink)
    return Checksum(sink.rows, sink.value)


def checksum_of_file(path: Path, schema: pa.Schema) -> Checksum:
    """Compute the checksum of a Parquet file's rows; its columns, in their order, are read as `schema`."""
    rows = value = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH_ROWS):
            rows += batch.num_rows
            value += checksum_batch(batch.rename_columns(schema.names).cast(schema))
    return Checksum(rows, value)


class _Sum:
    """Sums what a DayReader writes to it."""

    def __init__(self, converter: Converter, names: Sequence[str]):
        self.rows = self.value = 0
        self._converter = converter
        self._names = list(names)
        self._mark = (0, 0)

    def write(self, batch: pa.RecordBatch) -> None:
        """Take a batch in."""
        for converted in self._converter.convert([batch]):
            self.rows += converted.num_rows
            self.value += checksum_batch(converted.select(self._names))

    def mark(self) -> None:
        """Keep all that has been taken in until now."""
        self._mark = self.rows, self.value

    def roll_back(self) -> None:
        """Take back what came since the last mark."""
        self.rows, self.value = self._mark
