"""A table's schema held against that of its newest day in the lake: what was gained, widened, lost or changed."""

import logging

import pyarrow as pa

from luigi_jobs.day_of_table import last_closed
from luigi_jobs.errors import SchemaError
from luigi_jobs.footers import find_alteration, read_footer
from luigi_jobs.lake import open_lake
from luigi_jobs.settings import TABLE_SECTION, Settings, TableSettings
from luigi_jobs.stored_days import Lake

logger = logging.getLogger("luigi-interface")

_WIDER = [pa.int8(), pa.int16(), pa.int32(), pa.int64()], [pa.float32(), pa.float64()]

_Measure = tuple[str, pa.Schema]  # since when, and the schema then

# By this process or the one it was forked from.
_measures: dict[tuple[str, str], _Measure] = {}
_reported: set[tuple[str, str, str]] = set()


def forget_schemas() -> None:
    """Look at the lake again when a schema is next checked: a run begins."""
    _measures.clear()
    _reported.clear()


def check_schema(settings: Settings, table: TableSettings, schema: pa.Schema) -> None:
    """Hold the schema that a day will have against that of the newest day in the lake when the run began.

    Where there was none, the schema that is checked first is the measure of the run: its days are alike.

    Columns that were gained or widened are reported, once a run, and load.

    Raises:
        SchemaError: a column was lost, or has become another type, and the table's section does not accept that.
    """
    name = table.name
    place = settings.lake.url, name
    if place not in _measures:
        _measures[place] = _measure(open_lake(settings.lake), table) or ("the first look of this run", schema)
    last, newest = _measures[place]
    reported, refused = compare_schemas(newest, schema)
    if refused and table.schema_changes == "refuse":
        raise SchemaError(
            f"since {last} {'; '.join(refused)}: bring it back (a view can, or `types`), or set "
            f"`schema_changes = accept` in [{TABLE_SECTION}{name}] until a newer day, the next measure, is loaded"
        )
    for change in (*reported, *refused):
        if (*place, change) not in _reported:
            _reported.add((*place, change))
            logger.warning("%s: since %s %s", name, last, change)


def is_refused(settings: Settings, table: TableSettings, schema: pa.Schema) -> bool:
    """Say whether a run that begins now would refuse the schema that a table's days will have."""
    measure = _measure(open_lake(settings.lake), table) if table.schema_changes == "refuse" else None
    return bool(measure and compare_schemas(measure[1], schema)[1])


def _measure(lake: Lake, table: TableSettings) -> _Measure | None:
    """Return which is the newest day in the lake that was not altered, and its schema; None if it is no whole file."""
    for day in lake.newest_days(table.name, table.since, last_closed()):
        footer = read_footer(lake, table.name, day)
        altered = find_alteration(footer, day) if footer else ""
        if footer and not altered:
            return f"{day} in the lake", footer.schema.to_arrow_schema().remove_metadata()
        wrong = f"is not what was loaded: {altered}" if altered else "is no whole Parquet file"
        key = lake.key(table.name, day)
        logger.warning("%s: %s %s; luigi-jobs audit names the command that loads it again", table.name, key, wrong)
        if not footer:
            break
    return None


def compare_schemas(old: pa.Schema, new: pa.Schema) -> tuple[list[str], list[str]]:
    """Return what has changed from `old` to `new`: what readers of both can bear, and what they cannot."""
    before = {field.name.lower(): field for field in old}
    after = {field.name.lower(): field for field in new}
    reported = [f"column {field.name} ({field.type}) was gained" for name, field in after.items() if name not in before]
    refused = [f"column {field.name} ({field.type}) was lost" for name, field in before.items() if name not in after]
    if len(before) < len(old):
        refused.append("a column stands there twice")
    for was, now in ((was, after[name]) for name, was in before.items() if name in after):
        if was.name != now.name:
            reported.append(f"column {was.name} is called {now.name} now")
        if was.type != now.type:
            changed = reported if _is_wider(was.type, now.type) else refused
            changed.append(f"column {was.name} has changed from {was.type} to {now.type}")
    return reported, refused


def _is_wider(old: pa.DataType, new: pa.DataType) -> bool:
    if pa.types.is_decimal(old) and pa.types.is_decimal(new):
        return bool(new.scale >= old.scale and new.precision - new.scale >= old.precision - old.scale)
    return any(old in kinds and new in kinds and kinds.index(old) < kinds.index(new) for kinds in _WIDER)
