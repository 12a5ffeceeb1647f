"""The rows of one day, slice by slice: what is lost is read again, what is too much in smaller parts."""

import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

import pyarrow as pa

from luigi_jobs import watch
from luigi_jobs.errors import LargeSliceError, LostConnectionError, LuigiJobsError, SchemaError, ZeroDateError
from luigi_jobs.mysql import connect, end_queries
from luigi_jobs.plan import DayPlan, find_zero_date
from luigi_jobs.retry import once_more, until_it_is_back
from luigi_jobs.schema import Guards, take_flags
from luigi_jobs.settings import TABLE_SECTION, MySQLSettings
from luigi_jobs.slices import UNKNOWN_ROW_BYTES, Axis, Cut, Slicer
from luigi_jobs.source import Source
from luigi_jobs.stream import BATCH_BYTES, MAX_BATCH_ROWS, Query, rust_stderr_dropped, stream_rows

logger = logging.getLogger("luigi-interface")

MB = 1024 * 1024
# connectorx takes as many rows into a batch as it is told, whatever their size. So it is not given values that could
# make a batch larger than this, and takes fewer rows where values may be large; fewer still of what cannot be cut.
MOST_BATCH_BYTES = 128 * MB
CAREFUL_BATCH_ROWS = 8192
UNCUT_BATCH_ROWS = 64
READ_AHEAD_FACTOR = 2


class Sink(Protocol):
    """What takes the rows; what was written since the last mark can be taken back."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch."""

    def mark(self) -> None:
        """Keep all that has been written until now."""

    def roll_back(self) -> None:
        """Take back what was written since the last mark."""


@dataclass(frozen=True)
class _Part:
    """A part of the day that one query reads; `cut` is None for what does not lie on an axis."""

    condition: str
    driver: str
    cut: Cut | None = None


class DayReader:
    """Reads one day; `zero_dates` counts, by column, the dates that were none and came as NULL.

    Rows go to the sink as they come, and a slice that is refused, lost or too large is taken back and read again. With
    several connections the slices that follow are read meanwhile and wait in memory.
    """

    def __init__(
        self, mysql: MySQLSettings, source: Source, plan: DayPlan, label: str, at_last_part: Callable[[], None]
    ):
        """Plan the reading.

        Args:
            label: names table and day in the log.
            at_last_part: called when the first rows of the last of several parts are there, at each attempt at it.
        """
        self.zero_dates: Counter[str] = Counter()
        self.slices = 0
        self._mysql = mysql
        self._source = source
        self._plan = plan
        self._label = label
        self._at_last_part = at_last_part
        self._guard_dates = False
        self._is_lost = False
        self._slice_bytes = source.settings.slice_mb * MB
        self._slicer = Slicer(plan.axis, plan.rows, source.row_bytes, self._slice_bytes) if plan.axis else None
        self._queue: deque[_Part] = deque()
        self._ahead: dict[_Part, Future[tuple[list[pa.RecordBatch], Counter[str]]]] = {}
        self._stopped = threading.Event()

    def read_into(self, sink: Sink) -> None:
        """Write the day's rows to `sink`, in the order of the key they are read along: one batch at least, maybe empty.

        Raises:
            SourceError: MySQL refused a query.
            LostConnectionError: a connection was lost, twice.
            SchemaError: with `zero_dates = error`, a date is none.
        """
        threads = self._source.settings.connections - 1
        parts = self._cut_day()
        with rust_stderr_dropped(), ThreadPoolExecutor(max(1, threads), "slice") as pool:
            try:
                while True:
                    self._queue.extend(islice(parts, max(0, threads + 1 - len(self._queue))))
                    if not self._queue:
                        break
                    for part in islice(self._queue, 1, threads + 1):
                        if part not in self._ahead:
                            self._ahead[part] = pool.submit(self._read_ahead, part)
                    sink.mark()
                    self._copy(self._queue.popleft(), sink)
            except BaseException:
                self._stopped.set()
                self._kill()
                raise

    def _cut_day(self) -> Iterator[_Part]:
        """Yield the parts of the day in order; a slice's size depends on what was learned of those before."""
        if self._slicer is None:
            yield _Part(self._plan.condition, self._mysql.driver)
            return
        if self._slicer.axis.rest:
            yield _Part(self._slicer.axis.rest, self._mysql.driver)
        while cut := self._slicer.take():
            yield self._part(self._slicer.axis, cut)

    def _part(self, axis: Axis, cut: Cut) -> _Part:
        return _Part(f"{self._plan.condition} AND {axis.condition(cut)}", self._mysql.driver, cut)

    def _copy(self, part: _Part, sink: Sink) -> None:
        """Write a part to the sink, or put smaller ones in its place in the queue."""
        while True:
            is_guarded = self._guard_dates and part not in self._ahead
            try:
                once_more(self._label, LostConnectionError)(self._copy_once, part, sink)
                return
            except ZeroDateError as error:
                if is_guarded:
                    raise
                self._set_guards(part, error)
            except LargeSliceError as error:
                sink.roll_back()
                logger.info("%s: %s: reading a part of it again, with care", self._label, error)
                if self._slicer and part.cut and (smaller := self._slicer.split(part.cut)):
                    self._queue.extendleft(self._part(self._slicer.axis, cut) for cut in reversed(smaller))
                    return
                # It is as quick with large values, and its batches are cut by their bytes.
                part = replace(part, driver="pymysql")

    def _copy_once(self, part: _Part, sink: Sink) -> None:
        sink.roll_back()
        if self._is_lost:
            until_it_is_back()(self._look_for_server)
            self._is_lost = False
        try:
            self._copy_rows(part, sink)
        except LostConnectionError:
            self._is_lost = True
            raise

    def _look_for_server(self) -> None:
        """Raise UnreachableError for a server that is gone, which would take connectorx half a minute."""
        with connect(self._mysql):
            pass

    def _copy_rows(self, part: _Part, sink: Sink) -> None:
        is_last = self.slices > 0 and not self._queue and self._slicer is not None and self._slicer.is_used_up
        zero_dates: Counter[str] = Counter()
        rows = size = 0
        writing_s, started = 0.0, time.monotonic()
        if future := self._ahead.pop(part, None):
            batches, zero_dates = future.result()
            stream = (batch for batch in batches)
        else:
            stream = self._stream(part, zero_dates)
        with closing(stream):
            for batch in stream:
                if is_last:
                    self._at_last_part()
                    is_last = False
                arrived = time.monotonic()
                sink.write(batch)
                rows, size = rows + batch.num_rows, size + batch.nbytes
                writing_s += time.monotonic() - arrived
        self.zero_dates += zero_dates
        self.slices += 1
        if self._slicer:
            self._slicer.learn(rows, size, is_taken_quickly=writing_s * 2 < time.monotonic() - started)

    def _read_ahead(self, part: _Part) -> tuple[list[pa.RecordBatch], Counter[str]]:
        """Read a part into memory, in a thread of its own."""
        zero_dates: Counter[str] = Counter()
        batches, size = [], 0
        with closing(self._stream(part, zero_dates)) as stream:
            for batch in stream:
                batches.append(batch)
                size += batch.nbytes
                if self._stopped.is_set():
                    break
                if size > READ_AHEAD_FACTOR * self._slice_bytes:
                    raise LargeSliceError(f"a slice has more than {size:,} bytes")
        return batches, zero_dates

    def _stream(self, part: _Part, zero_dates: Counter[str]) -> Generator[pa.RecordBatch, None, None]:
        row_bytes = self._slicer.row_bytes if self._slicer else self._source.row_bytes or UNKNOWN_ROW_BYTES
        batch_rows, most_bytes = max(1, min(MAX_BATCH_ROWS, int(BATCH_BYTES / row_bytes))), 0
        if part.driver == "connectorx" and self._source.has_large_values:
            batch_rows = min(batch_rows, CAREFUL_BATCH_ROWS if part.cut else UNCUT_BATCH_ROWS)
            most_bytes = MOST_BATCH_BYTES // batch_rows
        query = Query(
            part.condition,
            index=self._plan.index,
            guards=Guards(self._guard_dates, most_bytes),
            batch_rows=batch_rows,
        )
        mysql = replace(self._mysql, driver=part.driver)
        with closing(stream_rows(mysql, self._source, query)) as stream:
            while True:
                with watch.waiting():
                    batch = next(stream, None)
                if batch is None:
                    return
                yield take_flags(batch, self._source.fields, query.guards, zero_dates)

    def _set_guards(self, part: _Part, error: ZeroDateError) -> None:
        if self._source.settings.zero_dates == "error":
            with connect(self._mysql) as connection:
                found = find_zero_date(connection, self._source, part.condition)
            section = f"[{TABLE_SECTION}{self._source.settings.name}]"
            raise SchemaError(f"{found}; correct it, or set `zero_dates = null` in {section}") from error
        self._guard_dates = True

    def _kill(self) -> None:
        """End the queries of this process that are under way: nobody takes their rows."""
        with suppress(LuigiJobsError):
            end_queries(self._mysql, watch.name_queries(os.getpid()))
