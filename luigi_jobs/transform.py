"""The transform hook: a user's function over pandas DataFrames, between decoding and the lake."""

import importlib

import pyarrow as pa

from luigi_jobs.errors import ConfigError, DecodeError, SchemaError

# What a transform may return, and what the lake has for it; decimals besides.
LAKE_TYPES = {
    **{kind: kind for kind in (pa.bool_(), pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64())},
    **{kind: kind for kind in (pa.string(), pa.binary(), pa.date32())},
    pa.large_string(): pa.string(),
    pa.string_view(): pa.string(),
    pa.large_binary(): pa.binary(),
    **{pa.timestamp(unit): pa.timestamp("us") for unit in ("s", "ms", "us", "ns")},
    **{pa.timestamp(unit, "UTC"): pa.timestamp("us", "UTC") for unit in ("s", "ms", "us", "ns")},
}


class Transform:
    """A user's function, pandas DataFrame in and out, called for a batch of rows at a time.

    Columns come and go as Arrow-backed dtypes, so that integers with NULLs stay integers. What the function makes of
    an empty frame says which columns and types the lake has; every batch must come out the same.
    """

    def __init__(self, name: str, schema: pa.Schema):
        """Import `name` (`package.module:function`) and learn what it makes of `schema`.

        Raises:
            ConfigError: there is no such function.
            DecodeError: the function fails on an empty frame.
            SchemaError: what it returns for an empty frame has a column without a name or a fit type.
        """
        self._name = name
        module, _, function = name.partition(":")
        try:
            self._function = getattr(importlib.import_module(module), function)
        except ModuleNotFoundError as error:
            raise ConfigError(f"transform = {name}: {error}; PYTHONPATH must lead to the module") from error
        except (Exception, SystemExit) as error:
            raise ConfigError(f"transform = {name}: {type(error).__name__}: {error}; correct the module") from error
        empty = self._call(schema.empty_table())
        self.schema = pa.schema([(field.name, self._lake_type(field)) for field in empty.schema])

    def apply(self, batch: pa.RecordBatch) -> list[pa.RecordBatch]:
        """Return the batch transformed, in the transform's schema.

        Raises:
            DecodeError: the function failed, or returned other columns or types than for an empty frame.
        """
        table = self._call(pa.Table.from_batches([batch]))
        if table.schema.names != self.schema.names:
            raise DecodeError(
                f"transform = {self._name} returned columns {table.schema.names}, "
                f"and {self.schema.names} for an empty frame"
            )
        try:
            batches: list[pa.RecordBatch] = table.cast(self.schema).combine_chunks().to_batches()
        except pa.ArrowException as error:
            raise DecodeError(
                f"transform = {self._name} returned other types than for an empty frame: {error}"
            ) from error
        return batches

    def _call(self, table: pa.Table) -> pa.Table:
        import pandas as pd  # noqa: PLC0415  # a third of a second, for tables with a transform only

        try:
            frame = self._function(table.to_pandas(types_mapper=pd.ArrowDtype))
            if not isinstance(frame, pd.DataFrame):
                raise TypeError(f"it returned a {type(frame).__name__}, not a DataFrame")
            if frame.index.names != [None]:
                raise ValueError(f"it left {list(frame.index.names)} in the index, which is dropped: use reset_index()")
            return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)
        except (Exception, SystemExit) as error:
            raise DecodeError(f"transform = {self._name} failed: {type(error).__name__}: {error}") from error

    def _lake_type(self, field: pa.Field) -> pa.DataType:
        kind = field.type if pa.types.is_decimal128(field.type) else LAKE_TYPES.get(field.type)
        if kind is None or not field.name.strip():
            raise SchemaError(
                f"transform = {self._name}: column {field.name!r} of an empty frame has type {field.type}, which the "
                "lake does not take: give it a name and a dtype such as pandas.ArrowDtype(pyarrow.int64())",
                column=field.name,
            )
        return kind
