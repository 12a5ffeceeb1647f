"""The dates rules of a table: text -> days and moments. Pure."""

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from luigi_jobs.buffers import to_mask
from luigi_jobs.errors import ConfigError, SchemaError
from luigi_jobs.refused import Refused
from luigi_jobs.settings import DateRule

# As Python and Arrow print these, a text can be read in one way only.
_FIXED_WIDTH = set("YmdHMS")
_TIME = set("HIMSfp")


def dated_type(form: str) -> pa.DataType:
    """Return what a text of this strptime format becomes: a moment where the format has a time of day, else a day."""
    used = _directives(form)
    if "z" in used:
        return pa.timestamp("us", "UTC")
    return pa.timestamp("us") if used & _TIME else pa.date32()


def dated_schema(schema: pa.Schema, rules: Iterable[DateRule]) -> pa.Schema:
    """Return the schema after the rules: each column in its place.

    Raises:
        ConfigError: a rule's column is not there.
        SchemaError: a rule's column is not text.
    """
    for rule in rules:
        if rule.column not in schema.names:
            raise ConfigError(f"dates: there is no column {rule.column!r} after decoding", column=rule.column)
        index = schema.get_field_index(rule.column)
        if (kind := schema.field(index).type) != pa.string():
            way_out = "add `| utf8` to its decode rule" if kind == pa.binary() else "remove its dates rule"
            raise SchemaError(
                f"column {rule.column} is {kind}, and dates are read from text: {way_out}", column=rule.column
            )
        schema = schema.set(index, pa.field(rule.column, dated_type(rule.form)))
    return schema


def date_batch(batch: pa.RecordBatch, rules: Iterable[DateRule]) -> tuple[pa.RecordBatch, list[Refused]]:
    """Apply the rules to a batch of N rows: N rows, each column in its place.

    Returns:
        The batch, with NULL for a value that is not of its format, and what was refused.
    """
    refused = []
    for rule in rules:
        index = batch.schema.get_field_index(rule.column)
        texts = batch.column(index)
        array = read_dates(texts, rule.form)
        rows = np.flatnonzero(to_mask(pc.and_(array.is_null(), texts.is_valid())))
        if len(rows):
            refused.append(Refused(rule.column, rule.form, int(rows[0]), texts[rows[0]].as_py(), len(rows)))
        batch = batch.set_column(index, pa.field(rule.column, array.type), array)
    return batch, refused


def read_dates(texts: pa.Array, form: str) -> pa.Array:
    """Read N texts as `datetime.strptime` does, each distinct one once; NULL for a text that it refuses."""
    encoded = texts.dictionary_encode()
    kind = dated_type(form)
    read = _read_printed(encoded.dictionary, form).cast(kind)
    others = encoded.dictionary.filter(read.is_null()).to_pylist()
    moments = pa.array([_read_one(text, form, kind) for text in others], kind)
    return pc.replace_with_mask(read, read.is_null(), moments).take(encoded.indices)


def _read_printed(texts: pa.Array, form: str) -> pa.Array:
    """Read the texts that are exactly what their moment is printed as; NULL for the rest.

    Arrow reads too kindly: to it the 31st of February is the 3rd of March.
    """
    if not _directives(form) <= _FIXED_WIDTH:
        return pa.nulls(len(texts), pa.timestamp("s"))
    moments = pc.strptime(texts, format=form, unit="s", error_is_null=True)
    printed = pc.equal(pc.strftime(moments, format=form), texts)
    four_digits = pc.and_(pc.greater_equal(pc.year(moments), 1000), pc.less_equal(pc.year(moments), 9999))
    return pc.if_else(pc.and_(printed, four_digits), moments, pa.scalar(None, moments.type))


def _read_one(text: str, form: str, kind: pa.DataType) -> date | None:
    try:
        moment = datetime.strptime(text, form)
        if pa.types.is_date(kind):
            return moment.date()
        return moment.astimezone(UTC) if moment.tzinfo else moment
    except (ValueError, OverflowError):  # the latter: the year 0 or 10000 in UTC
        return None


def _directives(form: str) -> set[str]:
    return set(re.findall("%(.)", form)) - {"%"}
