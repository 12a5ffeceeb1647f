"""luigi_jobs with a staging disk of 20 MB/s: `luigi --module slow_disk …`.

Every write of an Arrow or Parquet file takes as long as such a disk would: a real one hides behind the page cache
until that is full, which is when a run that holds rows back in memory is in trouble. The file SLOW_DISK_BYTES, if the
variable is set, gets a line with the number of bytes of each write.
"""

import functools
import os
import time
from collections.abc import Callable
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

import luigi_jobs  # noqa: F401  # registers the tasks

BYTES_PER_S = 20_000_000


class SlowFile:
    """A file whose writes return when a slow disk would have taken them."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._free_at = 0.0
        self._written = open(os.environ.get("SLOW_DISK_BYTES", os.devnull), "a")  # noqa: SIM115  # lives as long
        self.closed = False

    def write(self, data: bytes) -> int:
        self._free_at = max(self._free_at, time.monotonic()) + len(data) / BYTES_PER_S
        written = self._file.write(data)
        print(written, file=self._written, flush=True)
        time.sleep(max(0.0, self._free_at - time.monotonic()))
        return written

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()
        self.closed = True


def slow_down(opener: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(opener)
    def wrapper(sink: Any, *arguments: Any, **keywords: Any) -> Any:
        file = sink if hasattr(sink, "write") else open(sink, "wb", buffering=0)  # noqa: SIM115  # the writer keeps it
        return opener(pa.PythonFile(SlowFile(file), "w"), *arguments, **keywords)

    return wrapper


pa.ipc.new_file = slow_down(pa.ipc.new_file)
pa.ipc.new_stream = slow_down(pa.ipc.new_stream)
pq.ParquetWriter = slow_down(pq.ParquetWriter)
