"""The formats of a day's files: Arrow IPC as MySQL had it, Parquet as the lake will have it."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from luigi_jobs.errors import StagingError
from luigi_jobs.facts import DayFacts
from luigi_jobs.row_groups import WRITE_ROWS, choose_dictionaries, choose_write_rows, row_groups

ROW_GROUP_BYTES = 16 * 1024 * 1024
COMPRESSION_LEVEL = 1
# Without it a stream that is cut off between two batches would pass for a short one:
# https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format
_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_SCHEMA, _KEY = b"luigi_jobs.schema", b"luigi_jobs.key"


@dataclass(frozen=True)
class Head:
    """What an extract says of its rows: the table's schema, which the wire types are cast to, and its primary key."""

    schema: pa.Schema
    key: tuple[str, ...]

    def to_metadata(self) -> dict[bytes, bytes]:
        """Return the facts as the metadata of an Arrow schema."""
        return {_SCHEMA: self.schema.serialize().to_pybytes(), _KEY: json.dumps(self.key).encode()}

    @classmethod
    def from_metadata(cls, metadata: Mapping[bytes, bytes]) -> "Head":
        """Read the facts back."""
        return cls(pa.ipc.read_schema(pa.py_buffer(metadata[_SCHEMA])), tuple(json.loads(metadata[_KEY])))


class ExtractWriter:
    """Writes batches as they come to an Arrow IPC stream; what followed the last mark can be taken back.

    The first batch gives the wire types. Use it as a context manager.
    """

    def __init__(self, path: Path, facts: Head, progress: Callable[[int], None]):
        """`progress` is told the number of rows after every batch."""
        self.rows = 0
        self._facts = facts
        self._progress = progress
        self._file = open(path, "wb", buffering=0)  # noqa: SIM115  # closed by __exit__
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None
        self._schema: pa.Schema | None = None
        self._mark = (0, 0)

    def __enter__(self) -> "ExtractWriter":
        """Return the writer, with nothing written."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the stream, unless it is broken off."""
        with self._file:
            if self._writer is not None and kind is None:
                self._writer.close()

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch."""
        if self._writer is None:
            self._schema = batch.schema
            self._writer = pa.ipc.new_stream(self._file, batch.schema.with_metadata(self._facts.to_metadata()))
        # A date behind a guard is an expression, whose type may differ from the column's.
        self._writer.write_batch(batch if batch.schema.equals(self._schema) else batch.cast(self._schema))
        self.rows += batch.num_rows
        self._progress(self.rows)

    def mark(self) -> None:
        """Keep all that has been written until now."""
        self._mark = (self._file.tell(), self.rows)

    def roll_back(self) -> None:
        """Take back what was written since the last mark."""
        offset, self.rows = self._mark
        if self._file.tell() == offset:  # ext4 would flush a file that was cut to nothing when it is closed
            return
        self._file.seek(offset)
        self._file.truncate()
        if not offset:
            self._writer = None


@contextmanager
def read_extract(path: Path) -> Iterator[tuple[Head, Iterator[pa.RecordBatch]]]:
    """Open an extract, memory-mapped: its facts and its batches, in order.

    Raises:
        StagingError: the file is not whole.
    """
    with pa.memory_map(str(path)) as source:
        try:
            if source.size() < len(_END) or source.read_at(len(_END), source.size() - len(_END)) != _END:
                raise pa.ArrowInvalid("it is cut off")
            reader = pa.ipc.open_stream(source)
        except pa.ArrowInvalid as error:
            raise StagingError(f"{path} is not whole: {error}; remove it and run again") from error
        yield Head.from_metadata(reader.schema.metadata or {}), _read_whole(path, reader)


def _read_whole(path: Path, reader: pa.ipc.RecordBatchStreamReader) -> Iterator[pa.RecordBatch]:
    """Yield the batches of a stream."""
    try:
        yield from reader
    except (pa.ArrowException, OSError) as error:
        raise StagingError(f"{path} is not whole: {error}; remove it and run again") from error


def write_parquet(
    path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch], describe: Callable[[int], Mapping[str, str]]
) -> None:
    """Write batches to a Parquet file in row groups of about ROW_GROUP_BYTES, and count its rows again in its footer.

    The same rows give the same bytes, whatever the batches they came in.

    Args:
        describe: called with the number of rows when all batches are written; what it returns goes into the footer as
            key and value.

    Raises:
        StagingError: the file does not hold what was written: after a full disk the writer closes without a word.
    """
    rows = 0
    groups = row_groups(schema, batches, ROW_GROUP_BYTES)
    table = next(groups, None)
    with (
        pq.ParquetWriter(
            path,
            schema,
            compression="zstd",
            compression_level=COMPRESSION_LEVEL,
            use_dictionary=choose_dictionaries(table) if table else False,
            write_batch_size=choose_write_rows(table) if table else WRITE_ROWS,
        ) as writer,
        ThreadPoolExecutor(1, "parquet") as encoder,  # a group is encoded while the batches of the next are decoded
    ):
        while table:
            rows += table.num_rows
            encoding = encoder.submit(writer.write_table, table, row_group_size=table.num_rows)
            table = next(groups, None)
            encoding.result()
        writer.add_key_value_metadata(dict(describe(rows)))
    if rows != (counted := count_parquet(path)):
        raise StagingError(f"{path} holds {counted:,} rows after {rows:,} were written; run again")


def read_facts(path: Path) -> DayFacts:
    """Return what a Parquet file's footer says of its day, its rows as they are counted there.

    Raises:
        StagingError: the file has no whole footer.
    """
    footer = _read_footer(path)
    return replace(DayFacts.from_footer(footer.metadata or {}), rows=footer.num_rows)


def count_parquet(path: Path) -> int:
    """Return the number of rows in a Parquet file's footer.

    Raises:
        StagingError: the file has no whole footer.
    """
    return int(_read_footer(path).num_rows)


def _read_footer(path: Path) -> pq.FileMetaData:
    try:
        return pq.read_metadata(path)
    except pa.ArrowException as error:
        raise StagingError(f"{path} is not whole: {error}; remove it and run again") from error
