"""What a rule refused, and how that is told. Pure."""

from dataclasses import dataclass

import pyarrow as pa

from luigi_jobs.errors import DecodeError
from luigi_jobs.settings import TABLE_SECTION

_SHOWN_CHARACTERS = 24


@dataclass(frozen=True)
class Refused:
    """The values of one column that one rule refused in a batch.

    Attributes:
        column: the column that the rule names.
        wanted: what the values are not: a decoder's name, or a format.
        row: the place of the first of them in the batch.
        value: the first of them.
        count: how many they are.
        reason: why the first was refused, where there is more to say.
    """

    column: str
    wanted: str
    row: int
    value: object
    count: int
    reason: str = ""

    def explain(self, batch: pa.RecordBatch, key: tuple[str, ...], table: str) -> DecodeError:
        """Return the error of the first of them; the columns `key` of the batch name its row."""
        return DecodeError(
            f"cannot decode {self.column}: row {name_row(batch, self.row, key)} holds {show(self.value)}, which is not "
            f"{self.wanted}{self.reason and f' ({self.reason})'}; repair the row, change the rule, or set "
            f"`on_decode_error = null` in [{TABLE_SECTION}{table}]",
            column=self.column,
        )


def name_row(batch: pa.RecordBatch, row: int, key: tuple[str, ...]) -> str:
    """Name a row of a batch by its primary key, `id=42`, or by its place where there is no key."""
    return ", ".join(f"{name}={show(batch.column(name)[row].as_py())}" for name in key) or str(row)


def show(value: object) -> str:
    """Return a value for an error message: printable, on one line, cut after a few characters."""
    text = ascii(value) if isinstance(value, str | bytes) else str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}...({len(text)} characters)"
