"""A batch as MySQL delivered it -> a batch as the lake has it: cast, decode, read dates, transform."""

from collections import Counter
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from luigi_jobs.dates import date_batch, dated_schema
from luigi_jobs.decode import decode_batch, decoded_schema
from luigi_jobs.decoders import TooLargeError
from luigi_jobs.errors import SchemaError
from luigi_jobs.overrides import OverrideError, overridden_schema, override_batch
from luigi_jobs.refused import name_row
from luigi_jobs.schema import cast_batch
from luigi_jobs.settings import TABLE_SECTION, TableSettings
from luigi_jobs.transform import Transform


class Converter:
    """Converts the batches of one table.

    Attributes:
        schema: what every file of the table in the lake has.
        zero_dates: column -> how many of its values were no real dates and became NULL so far.
        undecodable: column of a rule -> how many of its values became NULL by `on_decode_error = null` so far.
    """

    def __init__(self, source: pa.Schema, key: tuple[str, ...], table: TableSettings, partition_key: str):
        """Plan the conversion, before any row is read.

        Args:
            source: the table's schema before decoding.
            key: the primary key's columns, which name a row in an error.

        Raises:
            ConfigError: there is no such transform, or no such column to read dates from.
            SchemaError: a rule or the transform does not fit the schema, or the partition key is a column already.
        """
        self._source = source
        self._key = key
        self._table = table
        self.zero_dates: Counter[str] = Counter()
        self.undecodable: Counter[str] = Counter()
        schema = decoded_schema(overridden_schema(source, table.types), table.decode)
        schema = dated_schema(schema, table.dates)
        self._transform = Transform(table.transform, schema) if table.transform else None
        self.schema: pa.Schema = self._transform.schema if self._transform else schema
        _check_names(self.schema.names, partition_key)

    def convert(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the batches converted, in order; a batch may come out as several, or as none.

        Raises:
            SchemaError: a value does not fit its column's type.
            DecodeError: a value cannot be decoded, or the transform failed.
        """
        for batch in batches:
            for decoded in self._decode(self._override(self._cast(batch))):
                yield from self._transform.apply(decoded) if self._transform else (decoded,)

    def _decode(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        try:
            decoded, refused = decode_batch(batch, self._table.decode)
        except TooLargeError:
            half = batch.num_rows // 2
            yield from self._decode(batch.slice(0, half))
            yield from self._decode(batch.slice(half))
            return
        dated, undated = date_batch(decoded, self._table.dates)
        for values in (*refused, *undated):
            if self._table.on_decode_error == "fail":
                raise values.explain(batch, self._key, self._table.name)
            self.undecodable[values.column] += values.count
        yield dated

    def _cast(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        zero_dates: Counter[str] = Counter()
        cast = cast_batch(batch, self._source, zero_dates)
        if zero_dates and self._table.zero_dates == "error":
            name = next(iter(zero_dates))
            row = pc.index(pc.and_(cast.column(name).is_null(), batch.column(name).is_valid()), True).as_py()
            value = batch.column(name).slice(row, 1).cast(pa.string())[0].as_py()
            raise SchemaError(
                f"column {name} of row {name_row(cast, row, self._key)} holds {value}, which is no real date; correct "
                f"it, or set `zero_dates = null` in [{TABLE_SECTION}{self._table.name}]",
                column=name,
            )
        self.zero_dates += zero_dates
        return cast

    def _override(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        try:
            return override_batch(batch, self._table.types)
        except OverrideError as error:
            where = name_row(batch, error.row, self._key)
            raise SchemaError(
                f"row {where}: {error}; correct the row, or the rule in luigi.cfg", column=error.column
            ) from error


def _check_names(names: list[str], partition_key: str) -> None:
    """Refuse names that Glue and Athena, which know lower case only, cannot tell apart."""
    seen: dict[str, str] = {}
    for name in names:
        if name.lower() == partition_key:
            raise SchemaError(
                f"column {name} is called like the partition key: set `partition_key` in [lake] to another word, "
                "or rename the column in a view or a transform",
                column=name,
            )
        if other := seen.get(name.lower()):
            raise SchemaError(f"columns {other} and {name} are one name in Glue and Athena: rename one", column=name)
        seen[name.lower()] = name
