"""A lake in a local folder."""

import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import luigi
from luigi.target import FileSystemTarget

from luigi_jobs.errors import ChangedError, LakeError
from luigi_jobs.facts import DayFacts
from luigi_jobs.staging import read_crc32
from luigi_jobs.stored_days import Lake, StoredDay

CHUNK_BYTES = 1024 * 1024


class LocalLake(Lake):
    """A lake below a local folder, for trying out and for lakes on a mounted file system."""

    def target(self, table: str, day: date) -> FileSystemTarget:
        """Return the LocalTarget of a day's file."""
        return luigi.LocalTarget(self.key(table, day), format=luigi.format.Nop)

    def check(self) -> None:
        """Raise LakeError when the folder cannot be made or written to."""
        folder = Path(self.settings.prefix)
        there = next(path for path in (folder, *folder.parents) if path.exists())
        if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
            raise LakeError(f"cannot write below {there}: it is no folder this user may write to; check [lake] url")

    def _list(self, table: str, first: date | None) -> Iterator[tuple[str, StoredDay]]:
        root = Path(self._prefix(table))
        with self._explained(f"list {root}"):
            if first is None:
                walk = os.walk(root, followlinks=True)  # a day may have been moved to another disk
                keys = sorted(f"{folder}/{name}" for folder, _, names in walk for name in names)
            else:
                keys = [f"{folder}/{root.name}.parquet" for folder in sorted(root.iterdir())] if root.is_dir() else []
            for key in keys:
                if stored := self._find(key):
                    yield key, stored

    def _find(self, key: str) -> StoredDay | None:
        with self._explained(f"look at {key}"), suppress(FileNotFoundError, NotADirectoryError):
            facts = os.stat(key)
            if not stat.S_ISREG(facts.st_mode):
                return None
            modified = datetime.fromtimestamp(facts.st_mtime, UTC)
            return StoredDay(facts.st_size, f"{facts.st_ino}-{facts.st_mtime_ns}-{facts.st_size}", modified)
        return None

    def _find_with_facts(self, key: str) -> StoredDay | None:
        import pyarrow as pa  # noqa: PLC0415  # a third of a second, which planning is spared
        import pyarrow.parquet as pq  # noqa: PLC0415

        stored = self._find(key)
        with suppress(pa.ArrowException, OSError):
            return stored and replace(stored, facts=DayFacts.from_footer(pq.read_metadata(key).metadata or {}))
        return stored

    def _short(self, facts: DayFacts) -> DayFacts:
        return facts

    def list_top(self) -> tuple[list[str], list[str]]:
        """Return the names of all folders of the lake, which tables have, and the paths of the files beside them."""
        root = Path(self.settings.prefix)
        with self._explained(f"list {root}"):
            there = list(root.iterdir()) if root.is_dir() else []
        return [path.name for path in there if path.is_dir()], [str(path) for path in there if not path.is_dir()]

    def fetch(self, table: str, day: date, path: Path) -> None:
        """Write a day's file to another local file."""
        with open(path, "wb") as copy:
            copy.writelines(self._read_chunks(self.key(table, day)))

    def _read_chunks(self, key: str) -> Iterator[bytes]:
        with self._explained(f"read {key}"), open(key, "rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk

    def _read_end(self, key: str, count: int) -> bytes:
        with self._explained(f"read {key}"), open(key, "rb") as file:
            file.seek(max(0, os.path.getsize(key) - count))
            return file.read()

    def _read_crc32(self, key: str) -> int:
        with self._explained(f"read {key}"):
            return read_crc32(Path(key))

    def _remove(self, key: str) -> None:
        with self._explained(f"remove {key}"):
            os.unlink(key)

    def _put(self, path: Path, key: str, facts: DayFacts, crc32: int, replaces: StoredDay | None) -> None:
        partial = Path(key).with_name(f".{Path(key).name}.partial")
        with self._explained(f"write {key}"):
            try:
                partial.parent.mkdir(parents=True, exist_ok=True)
                with _locked(partial.parent):
                    shutil.copyfile(path, partial)
                    with open(partial, "rb+") as file:
                        os.fsync(file.fileno())
                    if read_crc32(partial) != crc32:
                        raise LakeError(
                            f"cannot write {key}: other bytes arrived than were staged; the next run tries again"
                        )
                    if self._find(key) != (replaces and replace(replaces, facts=None)):
                        raise ChangedError(f"cannot write {key}: it has changed meanwhile; the next run looks again")
                    os.replace(partial, key)
            except BaseException:
                partial.unlink(missing_ok=True)
                raise

    @contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LakeError(f"cannot {action}: {error.strerror or error}; check [lake] url") from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a day's folder in the lake, so that one process at a time looks at what it replaces."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
