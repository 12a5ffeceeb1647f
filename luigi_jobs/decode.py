"""The decode rules of a table, on schemas and batches. Pure; decoders.py has what they name."""

from collections.abc import Iterable

import pyarrow as pa

from luigi_jobs.decoders import DECODERS, decode_column
from luigi_jobs.errors import SchemaError
from luigi_jobs.refused import Refused
from luigi_jobs.settings import DecodeRule


def decoded_schema(schema: pa.Schema, rules: Iterable[DecodeRule]) -> pa.Schema:
    """Return the schema after the rules: each target in the place of its source.

    Raises:
        SchemaError: a rule's source is neither text nor bytes, or its target is the name of another column.
    """
    for rule in rules:
        index = schema.get_field_index(rule.source)
        if schema.field(index).type not in (pa.string(), pa.binary()):
            raise SchemaError(
                f"column {rule.source} is {schema.field(index).type}, which holds nothing to decode: "
                "remove its decode rule",
                column=rule.source,
            )
        if rule.target != rule.source and rule.target in schema.names:
            raise SchemaError(
                f"decode rule {rule.source} -> {rule.target}: the table has a column {rule.target} already",
                column=rule.target,
            )
        schema = schema.set(index, pa.field(rule.target, DECODERS[rule.decoders[-1]].type))
    return schema


def decode_batch(batch: pa.RecordBatch, rules: Iterable[DecodeRule]) -> tuple[pa.RecordBatch, list[Refused]]:
    """Apply the rules to a batch of N rows: N rows, each target in the place of its source.

    Returns:
        The batch, with NULL for a value that a decoder refused, and what was refused.

    Raises:
        TooLargeError: the values of a column are too many bytes once decoded.
    """
    refused = []
    for rule in rules:
        index = batch.schema.get_field_index(rule.source)
        array = batch.column(index)
        for name in rule.decoders:
            decoded, reasons = decode_column(array, DECODERS[name])
            if reasons:
                row, reason = next(iter(reasons.items()))
                refused.append(Refused(rule.source, name, row, array[row].as_py(), len(reasons), reason))
            array = decoded
        batch = batch.set_column(index, pa.field(rule.target, array.type), array)
    return batch, refused
