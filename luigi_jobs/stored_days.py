"""What a lake is: the days of every table, and how one is published."""

import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

from luigi.target import FileSystemTarget

from luigi_jobs.errors import LakeError
from luigi_jobs.layout import day_key, parse_key
from luigi_jobs.settings import LakeSettings

MISSING_HOLDS_S = 60.0
RECENT = timedelta(days=62)


class Lake(ABC):
    """The days of every table, and how one is published.

    A day that a listing did not show counts as missing for a minute without being asked for again: planning a
    backfill of years then costs the listing and not three requests a day. Only the process that listed believes it.
    """

    def __init__(self, settings: LakeSettings):
        self.settings = settings
        self._missing_since: dict[tuple[str, date], float] = {}
        self._newest: dict[tuple[str, date], date] = {}

    def key(self, table: str, day: date) -> str:
        """Return the key, or the path, of a day's one object."""
        return day_key(self.settings.prefix, table, self.settings.partition_key, day)

    def list_days(self, table: str, first: date, last: date) -> dict[date, int]:
        """Return the size in bytes of every day of a table in [first, last] that is in the lake.

        Raises:
            LakeError: the lake refused or was lost; never a short answer.
        """
        found = {}
        for key, size in self._list(table, first):
            day = parse_key(self.settings.prefix, table, self.settings.partition_key, key)
            if day and first <= day <= last:
                found[day] = size
            if day and day > last:
                break
        if found:
            self._newest[table, last] = max(found)
        now = time.monotonic()
        for ordinal in range(first.toordinal(), last.toordinal() + 1):
            if (day := date.fromordinal(ordinal)) not in found:
                self._missing_since[table, day] = now
        return found

    def newest_day(self, table: str, first: date, last: date) -> date | None:
        """Return the newest day of a table in [first, last] that is in the lake; seldom by more than one listing."""
        if (table, last) not in self._newest:
            recent = max(first, last - RECENT)
            if not self.list_days(table, recent, last) and recent > first:
                self.list_days(table, first, last)
        return self._newest.get((table, last))

    def read_end(self, table: str, day: date, count: int) -> bytes:
        """Return the last `count` bytes of a day's object, or all it has."""
        return self._read_end(self.key(table, day), count)

    def has_day(self, table: str, day: date) -> bool:
        """Say whether a day is in the lake, by one HEAD unless a listing has just shown that it is not."""
        listed = self._missing_since.get((table, day))
        if listed is not None and time.monotonic() - listed < MISSING_HOLDS_S:
            return False
        return self.size(table, day) is not None

    def forget_listings(self) -> None:
        """Ask for every day again: planning is over, and other runs publish too."""
        self._missing_since.clear()
        self._newest.clear()

    def size(self, table: str, day: date) -> int | None:
        """Return a day's size in bytes, or None when it is not in the lake, by one HEAD."""
        return self._size(self.key(table, day))

    def publish(self, path: Path, table: str, day: date) -> int:
        """Put a whole local file in a day's place, by one atomic step, and return its size in bytes.

        Raises:
            LakeError: the lake refused, was lost, or has another size than was sent.
        """
        sent = path.stat().st_size
        self._put(path, self.key(table, day))
        self._missing_since.pop((table, day), None)
        stored = self.size(table, day)
        if stored != sent:
            raise LakeError(
                f"{self.key(table, day)} has {stored} bytes after {sent} were sent; the next run sends it again"
            )
        return sent

    @abstractmethod
    def target(self, table: str, day: date) -> FileSystemTarget:
        """Return the Luigi target of a day."""

    def check(self) -> None:  # noqa: B027  # S3 says it with the first listing
        """Raise LakeError where it is plain, without writing, that no day can be published."""

    @abstractmethod
    def _list(self, table: str, first: date) -> Iterator[tuple[str, int]]:
        """Yield (key, size) of a table's objects in the order of keys; days before `first` may be left out."""

    @abstractmethod
    def _size(self, key: str) -> int | None: ...

    @abstractmethod
    def _read_end(self, key: str, count: int) -> bytes: ...

    @abstractmethod
    def _put(self, path: Path, key: str) -> None: ...
