"""Where a day of a table stands in the lake: (table, day) <-> prefix and key. Pure.

`{prefix}{table}/{partition_key}=YYYYMMDD/{table}.parquet`, the layout that Glue, Athena and Spark read as partitions.
"""

import re
from datetime import date, datetime

_MAX_NAME_BYTES = 200


def check_table_name(name: str) -> str | None:
    """Say why `name` cannot be a table's folder in the lake, or return None when it can.

    A folder is one path segment that Athena shows: https://docs.aws.amazon.com/athena/latest/ug/tables-location-format.html
    """
    if not name or name != name.strip():
        return "is empty, or begins or ends with a space"
    if "/" in name or "\\" in name:
        return "holds a slash; a table is one folder"
    if name[0] in "._":
        return f"begins with {name[0]!r}; Athena and Spark hide such folders"
    if not name.isprintable():
        return "holds a character that cannot be printed"
    if len(name.encode()) > _MAX_NAME_BYTES:
        return f"is longer than {_MAX_NAME_BYTES} bytes"
    return None


def day_folder(partition_key: str, day: date) -> str:
    """Return the partition's folder name, `date=20210131`."""
    return f"{partition_key}={day.year:04}{day:%m%d}"


def table_prefix(prefix: str, table: str) -> str:
    """Return the prefix that holds every day of a table, `lake/reports/`; `prefix` is empty or ends in a slash."""
    return f"{prefix}{table}/"


def day_key(prefix: str, table: str, partition_key: str, day: date) -> str:
    """Return the key of a day's one object, `lake/reports/date=20210131/reports.parquet`."""
    return f"{table_prefix(prefix, table)}{day_folder(partition_key, day)}/{table}.parquet"


def parse_day(folder: str, partition_key: str) -> date | None:
    """Return the day of a partition's folder name, or None for a folder that no day of ours explains."""
    match = re.fullmatch(re.escape(partition_key) + r"=(\d{8})", folder, re.ASCII)
    try:
        return datetime.strptime(match[1], "%Y%m%d").date() if match else None
    except ValueError:
        return None


def parse_key(prefix: str, table: str, partition_key: str, key: str) -> date | None:
    """Return the day whose object `key` is, or None for a key that no day of this table explains."""
    folder = key.removeprefix(table_prefix(prefix, table)).partition("/")[0]
    day = parse_day(folder, partition_key)
    return day if day and key == day_key(prefix, table, partition_key, day) else None
