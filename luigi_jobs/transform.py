"""The transform hook: a user's function over pandas DataFrames, between decoding and the lake."""

import importlib

import pyarrow as pa

from luigi_jobs.errors import ConfigError, DecodeError, SchemaError


class Transform:
    """A user's function, pandas DataFrame in and out, called for a batch of rows at a time.

    Columns come and go as Arrow-backed dtypes, so that integers with NULLs stay integers. What the function makes of
    an empty frame says which columns and types the lake has; every batch must come out the same.
    """

    def __init__(self, name: str, schema: pa.Schema):
        """Import `name` (`package.module:function`) and learn what it makes of `schema`.

        Raises:
            ConfigError: there is no such function.
            SchemaError: what it returns for an empty frame has a column without a type.
        """
        module, _, function = name.partition(":")
        try:
            self._function = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise ConfigError(f"transform = {name}: {error}; PYTHONPATH must lead to the module") from error
        self._name = name
        self.schema = pa.schema(
            [(field.name, self._lake_type(field)) for field in self._call(schema.empty_table()).schema]
        )

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
        except Exception as error:
            raise DecodeError(f"transform = {self._name} failed: {type(error).__name__}: {error}") from error
        if not isinstance(frame, pd.DataFrame):
            raise DecodeError(f"transform = {self._name} returned a {type(frame).__name__}, not a DataFrame")
        return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)

    def _lake_type(self, field: pa.Field) -> pa.DataType:
        if pa.types.is_null(field.type):
            raise SchemaError(
                f"transform = {self._name}: column {field.name} of an empty frame has no type; "
                "give it an Arrow-backed dtype",
                column=field.name,
            )
        plain = {pa.large_string(): pa.string(), pa.string_view(): pa.string(), pa.large_binary(): pa.binary()}
        return plain.get(field.type, field.type)
