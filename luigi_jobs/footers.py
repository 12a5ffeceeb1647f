"""The Parquet footers of days in the lake, read by themselves."""

from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq

from luigi_jobs.facts import DayFacts, hash_schema
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


def find_alteration(footer: pq.FileMetaData, day: date) -> str:
    """Say how a file is not what was loaded as a day; empty when it is, or when its footer does not tell."""
    facts = DayFacts.from_footer(footer.metadata or {})
    if facts.day not in ("", str(day)):
        return f"it is the file of {facts.day}"
    if facts.rows not in (None, footer.num_rows):
        return f"it has {footer.num_rows:,} rows, and had {facts.rows:,} when it was loaded"
    if facts.schema not in ("", hash_schema(footer.schema.to_arrow_schema())):
        return "its columns are not those that it was loaded with, in their order"
    return ""
