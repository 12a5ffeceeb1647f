"""The Parquet footers of days in the lake, read by themselves."""

import logging
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq

from luigi_jobs.stored_days import Lake

logger = logging.getLogger("luigi-interface")

FOOTER_BYTES = 64 * 1024


def read_footer(lake: Lake, table: str, day: date) -> pq.FileMetaData | None:
    """Return a day's Parquet footer, by one request or two; None, with a warning, for what is no Parquet file.

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
        logger.warning(
            "%s: %s is no whole Parquet file; luigi-jobs audit names the command that loads the day again",
            table, lake.key(table, day),
        )  # fmt: skip
        return None
