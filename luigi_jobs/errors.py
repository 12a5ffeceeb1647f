"""Errors of luigi_jobs, one leaf for each thing an operator can do next.

Every message is one line: what failed, where, the value, what to do. No message holds a password.
"""

from datetime import date

TRIES_AGAIN = "; the next run tries again"


class LuigiJobsError(Exception):
    """Base of all errors of this package; `table`, `day` and `column` say where, where that is known."""

    def __init__(self, message: str, *, table: str | None = None, day: date | None = None, column: str | None = None):
        super().__init__(" ".join(message.split()))
        self.table = table
        self.day = day
        self.column = column


class ConfigError(LuigiJobsError):
    """Settings are wrong: fix luigi.cfg, do not retry."""


class NotClosedError(LuigiJobsError):
    """The day is not closed yet: wait, the next Backfill loads it."""


class SourceError(LuigiJobsError):
    """MySQL refused or was lost: retry."""


class LostConnectionError(SourceError):
    """MySQL was lost, or ended the query, while it answered: worth another try at once."""


class UnreachableError(SourceError):
    """MySQL cannot be reached: worth a few tries where it was there a moment ago."""


class MovedError(SourceError):
    """A day's rows changed while they were read, or some were lost on the way."""


class ZeroDateError(SourceError):
    """The fast driver met a value that is no real date: read again with guarded date columns."""


class LargeSliceError(SourceError):
    """The rows of a slice outgrew the memory they may take: read again in smaller slices."""


class SchemaError(LuigiJobsError):
    """A column has no faithful type in the lake: a person decides."""


class DecodeError(LuigiJobsError):
    """A value cannot be decoded: a person decides."""


class StagingError(LuigiJobsError):
    """The local disk refused or is full: make room, then retry."""


class LakeError(LuigiJobsError):
    """S3, or the lake's folder, refused or was lost: retry."""


class ChangedError(LakeError):
    """A day's object is no longer the one that was to be replaced: look at it again."""


class GapError(LuigiJobsError):
    """Closed days are missing from the lake after a run: load them with the command in the message."""


def name_failure(error: BaseException) -> str:
    """Return an error as a part of a line: its kind, and what it says, without what to do, if it is one of ours."""
    if not isinstance(error, LuigiJobsError):
        return type(error).__name__
    return f"{type(error).__name__}: {str(error).removesuffix(TRIES_AGAIN)}"
