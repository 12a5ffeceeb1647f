"""A day in MySQL held against its file in the lake, by the file's footer. Pure."""

from dataclasses import dataclass
from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq

from luigi_jobs.evolution import compare_schemas
from luigi_jobs.facts import DayFacts
from luigi_jobs.fingerprint import Fingerprint
from luigi_jobs.footers import find_alteration
from luigi_jobs.settings import TableSettings

EQUAL, MISSING, EXTRA, UNREADABLE, UNKNOWN = "equal", "missing", "extra", "unreadable", "unknown"
ROWS, SCHEMA, ALTERED, STALE, VALUES = "rows", "schema", "altered", "stale", "values"

_NOT_TOLD = "it does not say what it was made of: something else wrote it; --deep compares its values"


@dataclass(frozen=True)
class DayResult:
    """What was found of one day; `status` is one of the words above."""

    day: date
    status: str
    mysql_rows: int | None = None
    lake_rows: int | None = None
    detail: str = ""


def compare_day(
    day: date, table: TableSettings, now: Fingerprint, footer: pq.FileMetaData | None, schema: pa.Schema
) -> DayResult:
    """Compare what MySQL has of a day with what the footer of its file says.

    Args:
        now: the day in MySQL.
        footer: None for what is no Parquet file.
        schema: what the file would have today.
    """
    if footer is None:
        return DayResult(day, UNREADABLE, now.rows, None, "it is no whole Parquet file")
    facts = DayFacts.from_footer(footer.metadata or {})
    before = Fingerprint.parse(facts.fingerprint)
    # A transform makes of the rows as many as it likes.
    lake_rows = facts.source_rows if table.transform else footer.num_rows
    gained, refused = compare_schemas(footer.schema.to_arrow_schema(), schema)
    if not facts.schema:  # nothing says that the file was whole when it was loaded
        refused, gained = refused + gained, []
    looks = {
        SCHEMA: "; ".join(refused and refused + gained),
        ROWS: f"MySQL has {now.rows:,} rows and the lake {lake_rows:,}" if lake_rows not in (None, now.rows) else "",
        ALTERED: find_alteration(footer, day),
        UNKNOWN: _NOT_TOLD if lake_rows is None or (before is None and now.kind) else "",
        STALE: f"{change}, when it was loaded" if before and (change := now.describe_change(before)) else "",
    }
    status, detail = next(((status, detail) for status, detail in looks.items() if detail), (EQUAL, "; ".join(gained)))
    return DayResult(day, status, now.rows, lake_rows, detail)
