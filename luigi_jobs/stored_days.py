"""What a lake is: the days of every table, and how one is published."""

import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path

from luigi.target import FileSystemTarget

from luigi_jobs.errors import ChangedError, LakeError
from luigi_jobs.facts import DayFacts
from luigi_jobs.layout import day_key, parse_key, table_prefix
from luigi_jobs.settings import LakeSettings

logger = logging.getLogger("luigi-interface")

MISSING_HOLDS_S = 60.0
RECENT = timedelta(days=62)
NEWEST = 7
PUBLISH_ATTEMPTS = 3


@dataclass(frozen=True)
class StoredDay:
    """A day's object: `etag` is another one for other bytes; what a listing does not tell is None.

    `crc32` is that of all its bytes, if S3 tells.
    """

    size: int
    etag: str
    modified: datetime
    facts: DayFacts | None = None
    crc32: int | None = None


class Lake(ABC):
    """The days of every table, and how one is published.

    A day that a listing did not show counts as missing for a minute without being asked for again: planning a
    backfill of years then costs the listing and not three requests a day. Only the process that listed believes it.
    """

    def __init__(self, settings: LakeSettings):
        self.settings = settings
        self._missing_since: dict[tuple[str, date], float] = {}
        self._newest: dict[tuple[str, date], list[date]] = {}

    def key(self, table: str, day: date) -> str:
        """Return the key, or the path, of a day's one object."""
        return day_key(self.settings.prefix, table, self.settings.partition_key, day)

    def list_days(self, table: str, first: date, last: date) -> dict[date, StoredDay]:
        """Return every day of a table in [first, last] that is in the lake.

        Raises:
            LakeError: the lake refused or was lost; never a short answer.
        """
        found = {}
        for key, stored in self._list(table, first):
            day = parse_key(self.settings.prefix, table, self.settings.partition_key, key)
            if day and first <= day <= last:
                found[day] = stored
            if day and day > last:
                break
        if found:
            self._newest[table, last] = sorted(found, reverse=True)[:NEWEST]
        now = time.monotonic()
        for ordinal in range(first.toordinal(), last.toordinal() + 1):
            if (day := date.fromordinal(ordinal)) not in found:
                self._missing_since[table, day] = now
        return found

    def list_everything(self, table: str) -> tuple[dict[date, StoredDay], dict[str, StoredDay]]:
        """Return all days of a table, and all other objects below its prefix, by key."""
        days, others = {}, {}
        for key, stored in self._list(table, None):
            if day := parse_key(self.settings.prefix, table, self.settings.partition_key, key):
                days[day] = stored
            else:
                others[key] = stored
        return days, others

    def newest_days(self, table: str, first: date, last: date) -> list[date]:
        """Return the newest days of a table in [first, last] that are in the lake; seldom by more than one listing."""
        if (table, last) not in self._newest:
            recent = max(first, last - RECENT)
            if not self.list_days(table, recent, last) and recent > first:
                self.list_days(table, first, last)
        return self._newest.get((table, last), [])

    def read_end(self, table: str, day: date, count: int) -> bytes:
        """Return the last `count` bytes of a day's object, or all it has."""
        return self._read_end(self.key(table, day), count)

    @abstractmethod
    def list_top(self) -> tuple[list[str], list[str]]:
        """Return the names of all folders of the lake, which tables have, and the keys of the objects beside them."""

    @abstractmethod
    def fetch(self, table: str, day: date, path: Path) -> None:
        """Write a day's object to a local file.

        Raises:
            LakeError: the lake refused or was lost.
            OSError: the local disk did.
        """

    def has_day(self, table: str, day: date) -> bool:
        """Say whether a day is in the lake."""
        return self.find_day(table, day) is not None

    def find_day(self, table: str, day: date) -> StoredDay | None:
        """Return a day, or None when it is not in the lake, by one HEAD unless a listing has just shown that."""
        listed = self._missing_since.get((table, day))
        if listed is not None and time.monotonic() - listed < MISSING_HOLDS_S:
            return None
        return self._find(self.key(table, day))

    def find_facts(self, table: str, day: date) -> DayFacts:
        """Return what is cheaply known of a day in the lake; nothing for one that says nothing, or is not there."""
        stored = self._find_with_facts(self.key(table, day))
        return (stored and stored.facts) or DayFacts()

    def forget_listings(self) -> None:
        """Ask for every day again: planning is over, and other runs publish too."""
        self._missing_since.clear()
        self._newest.clear()

    def publish(self, path: Path, table: str, day: date, facts: DayFacts, crc32: int) -> bool:
        """Put a whole local file in a day's place by one atomic step, unless what stands there was extracted later.

        Args:
            crc32: of the file as it was written.

        Returns:
            False when a day that was extracted later stands there: it stays.

        Raises:
            LakeError: the lake refused, was lost, or has other bytes than were sent, which are then removed.
        """
        sent, key = (path.stat().st_size, crc32), self.key(table, day)
        self._prepare(path, key)
        for attempt in range(1, PUBLISH_ATTEMPTS + 1):
            stored = self._find_with_facts(key)
            if stored and stored.facts and stored.facts.extracted_at > facts.extracted_at:
                return False
            self._missing_since.pop((table, day), None)
            try:
                self._put(path, key, facts, crc32, stored)
            except ChangedError as error:  # by another run, or by this one: the answer to its first request was lost
                after = self._find_with_facts(key)
                if after and after.facts == self._short(facts) and self._measure(key, after) == sent:
                    return True
                if attempt == PUBLISH_ATTEMPTS:
                    raise
                logger.info("%s %s: %s; looking again", table, day, error)
                continue
            after = self._find_with_facts(key)
            if after and self._measure(key, after) == sent:
                return True
            if after and after.facts and after.facts.extracted_at and after.facts != self._short(facts):
                continue  # another run has put its own in this one's place
            if after:
                self._remove(key)
            logger.warning("%s %s: the lake has other bytes at %s than were sent", table, day, key)
        raise LakeError(f"{key} has other bytes than were sent, {PUBLISH_ATTEMPTS} times; the next run sends it again")

    def _measure(self, key: str, stored: StoredDay) -> tuple[int, int]:
        """Return an object's size and CRC-32; one that S3 does not tell is computed of its bytes, read back."""
        return stored.size, self._read_crc32(key) if stored.crc32 is None else stored.crc32

    @abstractmethod
    def target(self, table: str, day: date) -> FileSystemTarget:
        """Return the Luigi target of a day."""

    def abort_uploads(self, table: str, day: date) -> None:  # noqa: B027  # a folder has none
        """Abort the uploads of a day that a process which was ended has left."""

    def check(self) -> None:  # noqa: B027  # S3 says it with the first listing
        """Raise LakeError where it is plain, without writing, that no day can be published."""

    def _prefix(self, table: str) -> str:
        return table_prefix(self.settings.prefix, table)

    @abstractmethod
    def _list(self, table: str, first: date | None) -> Iterator[tuple[str, StoredDay]]:
        """Yield the objects below a table's prefix by key, in its order; days before `first` may be left out."""

    @abstractmethod
    def _find(self, key: str) -> StoredDay | None:
        """Return an object, or None when it is not there."""

    def _find_with_facts(self, key: str) -> StoredDay | None:
        return self._find(key)

    @abstractmethod
    def _short(self, facts: DayFacts) -> DayFacts:
        """Return what of a day's facts `find_facts` reads back."""

    @abstractmethod
    def _read_end(self, key: str, count: int) -> bytes: ...

    @abstractmethod
    def _read_crc32(self, key: str) -> int: ...

    @abstractmethod
    def _remove(self, key: str) -> None: ...

    def _prepare(self, path: Path, key: str) -> None:  # noqa: B027  # a folder needs nothing
        """Abort what killed runs left at a key."""

    @abstractmethod
    def _put(self, path: Path, key: str, facts: DayFacts, crc32: int, replaces: StoredDay | None) -> None:
        """Put a file at a key, if what stands there is still `replaces`; raise ChangedError if it is not."""
