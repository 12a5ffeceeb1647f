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
        where = ", ".join(f"{name}={_show(batch.column(name)[self.row].as_py())}" for name in key)
        return DecodeError(
            f"cannot decode {self.column}: row {where or self.row} holds {_show(self.value)}, which is not "
            f"{self.wanted}{self.reason and f' ({self.reason})'}; repair the row, change the rule, or set "
            f"`on_decode_error = null` in [{TABLE_SECTION}{table}]",
            column=self.column,
        )


def _show(value: object) -> str:
    text = ascii(value) if isinstance(value, str | bytes) else str(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}...({len(text)} characters)"
