"""What a day knows about itself: in the Parquet footer, and short in the object's S3 metadata. Pure.

Both can be read without this package: README, "What a day knows about itself".
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # planning is spared the third of a second that it takes
    import pyarrow as pa

_PREFIX = "luigi_jobs."
_COUNTS = ("zero_dates", "undecodable")  # by column, as JSON


@dataclass(frozen=True)
class DayFacts:
    """What is known of a day in the lake; empty or None is unknown.

    Attributes:
        day: the calendar day, YYYY-MM-DD.
        rows: rows of the file.
        source_rows: rows that MySQL had when the day was read.
        fingerprint: MySQL's fingerprint of the day before it was read, as fingerprint.py writes it.
        extracted_at: when that was, by MySQL's clock in UTC, ISO 8601.
        version: of this package.
        schema: a hash of the file's columns and types.
        zero_dates: column -> values that were no real dates and are NULL.
        undecodable: column -> values that could not be decoded and are NULL.
    """

    day: str = ""
    rows: int | None = None
    source_rows: int | None = None
    fingerprint: str = ""
    extracted_at: str = ""
    version: str = ""
    schema: str = ""
    zero_dates: Mapping[str, int] = field(default_factory=dict)
    undecodable: Mapping[str, int] = field(default_factory=dict)

    def to_footer(self) -> dict[str, str]:
        """Return key and value for a Parquet footer."""
        texts = {name: str(value) for name, value in vars(self).items() if name not in _COUNTS}
        counts = {name: json.dumps(dict(getattr(self, name)), sort_keys=True) for name in _COUNTS}
        return {_PREFIX + name: text for name, text in (texts | counts).items()}

    def to_s3(self) -> dict[str, str]:
        """Return S3 user metadata, in ASCII and short: counts in all, not by column."""
        counts = {name: sum(getattr(self, name).values()) for name in _COUNTS}
        return {
            (_PREFIX + name).replace(".", "-").replace("_", "-"): str(value)
            for name, value in (vars(self) | counts).items()
        }

    @classmethod
    def from_footer(cls, metadata: Mapping[bytes, bytes]) -> "DayFacts":
        """Read what a footer says; what it does not say is unknown."""
        texts = {name: metadata.get((_PREFIX + name).encode(), b"").decode() for name in cls.__dataclass_fields__}
        return cls._read(texts)

    @classmethod
    def from_s3(cls, metadata: Mapping[str, str]) -> "DayFacts":
        """Read what S3 user metadata says, counts but those by column."""
        names = [name for name in cls.__dataclass_fields__ if name not in _COUNTS]
        return cls._read(
            {name: metadata.get((_PREFIX + name).replace(".", "-").replace("_", "-"), "") for name in names}
        )

    @classmethod
    def _read(cls, texts: Mapping[str, str]) -> "DayFacts":
        values: dict[str, object] = {}
        for name, text in texts.items():
            if name in _COUNTS:
                values[name] = _parse_counts(text)
            elif name in ("rows", "source_rows"):
                values[name] = int(text) if text.isdecimal() else None
            else:
                values[name] = text
        return cls(**values)  # type: ignore[arg-type]


def _parse_counts(text: str) -> dict[str, int]:
    try:
        return {str(name): int(count) for name, count in dict(json.loads(text or "{}")).items()}
    except (ValueError, TypeError):
        return {}


def hash_schema(schema: "pa.Schema") -> str:
    """Return the SHA-256 of a schema's lines `name: type`, in its order, as hex."""
    return hashlib.sha256("\n".join(f"{one.name}: {one.type}" for one in schema).encode()).hexdigest()
