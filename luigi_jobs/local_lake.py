"""A lake in a local folder."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path

import luigi
from luigi.target import FileSystemTarget

from luigi_jobs.errors import LakeError
from luigi_jobs.layout import table_prefix
from luigi_jobs.stored_days import Lake


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

    def _list(self, table: str, first: date) -> Iterator[tuple[str, int]]:
        prefix = table_prefix(self.settings.prefix, table)
        with self._explained(f"list {prefix}"):
            folders = sorted(Path(prefix).iterdir()) if Path(prefix).is_dir() else []
            for folder in folders:
                key = f"{folder}/{Path(prefix).name}.parquet"
                size = self._size(key)
                if size is not None:
                    yield key, size

    def _size(self, key: str) -> int | None:
        with self._explained(f"look at {key}"), suppress(FileNotFoundError, NotADirectoryError):
            return os.stat(key).st_size
        return None

    def _read_end(self, key: str, count: int) -> bytes:
        with self._explained(f"read {key}"), open(key, "rb") as file:
            file.seek(max(0, os.path.getsize(key) - count))
            return file.read()

    def _put(self, path: Path, key: str) -> None:
        partial = Path(key).with_name(f".{Path(key).name}.partial")
        with self._explained(f"write {key}"):
            try:
                partial.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, partial)
                with open(partial, "rb+") as file:
                    os.fsync(file.fileno())
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
