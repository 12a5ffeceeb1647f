"""The Parquet footers of days in the lake, read by themselves."""

from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq

from luigi_jobs.stored_days import Lake

FOOTER_BYTES = 64 * 1024


def read_footer(lake: Lake, table: str, day: date) -> pq.FileMetaData | None:
    """Return a day's Parquet footer, by one request or two; None for what is no Parquet file.

    Raises:
        LakeError: the lake refused or was lost, or the day is not there.
    """
    try:
        tail = lake.read_end(table, day, FOOTER_BYTES)
        footer_bytes = int.from_bytes(tail[-8:-4], "little") + 8
        if tail[-4:] == b"PAR1" and footer_bytes > len(tail):
            tail = lake.read_end(table, day, footer_bytes)
        return pq.read_metadata(pa.BufferReader(tail))
    except (pa.ArrowException, OSError):
        return None
