"""Rows cut into Parquet row groups by their bytes, at the same rows however the batches were cut. Pure."""

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

WRITE_ROWS = 1024  # write_batch_size of pyarrow.parquet.ParquetWriter, or a power of two below
LEAST_LOOKS = 16
SAMPLE_ROWS = 16384
MOST_DISTINCT = 0.2


def row_groups(schema: pa.Schema, batches: Iterable[pa.RecordBatch], group_bytes: int) -> Iterator[pa.Table]:
    """Yield tables, each cut after the row that brings it to `group_bytes`; no table has no rows.

    A group holds one row at least, so it is no larger than `group_bytes` and one row. Its chunks end where the Parquet
    writer looks whether a page is full, so that it finds the same pages whatever the chunks.
    """
    group: list[pa.RecordBatch] = []
    room = group_bytes
    for batch in batches:
        ends = _row_ends(batch)
        start, used = 0, 0
        while start < batch.num_rows:
            stop = min(int(np.searchsorted(ends, used + room)) + 1, batch.num_rows)
            group.append(batch.slice(start, stop - start))
            room -= int(ends[stop - 1]) - used
            start, used = stop, int(ends[stop - 1])
            if room <= 0:
                yield pa.Table.from_batches(_align(group), schema)
                group, room = [], group_bytes
    if group:
        yield pa.Table.from_batches(_align(group), schema)


def _align(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield the same rows in batches of which all but the last are a multiple of WRITE_ROWS."""
    open_rows: list[pa.RecordBatch] = []
    missing = WRITE_ROWS
    for batch in batches:
        taken = 0
        if open_rows:
            taken = min(missing, batch.num_rows)
            open_rows.append(batch.slice(0, taken))
            missing -= taken
            if not missing:
                yield _join(open_rows)
                open_rows, missing = [], WRITE_ROWS
        whole = (batch.num_rows - taken) // WRITE_ROWS * WRITE_ROWS
        if whole:
            yield batch.slice(taken, whole)
        if rest := batch.num_rows - taken - whole:
            open_rows.append(batch.slice(taken + whole))
            missing = WRITE_ROWS - rest
    if open_rows:
        yield _join(open_rows)


def _join(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def choose_write_rows(group: pa.Table) -> int:
    """Return after how many rows the writer looks whether a page is full: seldom, but often enough for large rows."""
    rows = WRITE_ROWS
    while rows > 1 and rows * LEAST_LOOKS > group.num_rows:
        rows //= 2
    return rows


def choose_dictionaries(group: pa.Table) -> list[str]:
    """Return the columns that have few distinct values: a dictionary of the others costs time and makes them larger."""
    sample = group.slice(0, SAMPLE_ROWS)
    return [
        name
        for name in sample.schema.names
        if pc.count_distinct(sample.column(name)).as_py() <= MOST_DISTINCT * sample.num_rows
    ]


def _row_ends(batch: pa.RecordBatch) -> np.ndarray:
    """Return, for each of N rows, the bytes of all rows up to and with it, by what the values hold."""
    fixed = 0
    ends = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
            offsets = np.frombuffer(column.buffers()[1], np.int32, len(column) + 1, column.offset * 4)
            ends += offsets[1:]
            ends -= offsets[0]
            fixed += 4
        else:
            fixed += max(1, column.type.bit_width // 8)
    ends += np.arange(1, batch.num_rows + 1, dtype=np.int64) * fixed
    return ends
