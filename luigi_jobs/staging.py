"""One day's files on the local disk, between MySQL and the lake.

`{staging_dir}/{table}/date=YYYYMMDD/` holds `extract.arrow`, then `decoded.parquet`, and beside them `made_by.json`,
without which they are not used again. The names are fixed: a file under its own name is whole, one that ends in
`.partial` never is. A folder is locked by the process that works in it, so that runs side by side share a day's work
instead of spoiling it.
"""

import fcntl
import json
import os
import shutil
import stat
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from luigi_jobs.errors import ConfigError, StagingError
from luigi_jobs.layout import day_folder, parse_day

EXTRACT = "extract.arrow"
DECODED = "decoded.parquet"
_STAMP = "made_by.json"
_PARTIAL = ".partial"
_LOCK_POLL_S = 0.2
_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Stamp:
    """What a day's files were made by: hashes of settings and of query and schema, the run, rows, when, how long.

    `crc32` has those of the files, by name, as they were written; `fingerprint` is MySQL's of the day, `as_of` when
    that was by its clock; `extracted_at` by this machine's.
    `boot` names the system's uptime: what was staged before it is not used again, so that nothing has to be flushed.
    """

    settings: str
    query: str
    run: str
    boot: str
    rows: int
    crc32: dict[str, int]
    zero_dates: dict[str, int]
    fingerprint: str
    as_of: str
    extracted_at: float
    seconds: float


@dataclass(frozen=True)
class DayFolder:
    """The staging folder of one day of one table."""

    path: Path

    @property
    def extract(self) -> Path:
        """Return the path of the day as MySQL had it, an Arrow IPC file."""
        return self.path / EXTRACT

    @property
    def decoded(self) -> Path:
        """Return the path of the day as the lake will have it, a Parquet file."""
        return self.path / DECODED

    def read_stamp(self) -> Stamp | None:
        """Return what the files were made by, or None when nothing whole says so."""
        with self.reading(), suppress(FileNotFoundError, ValueError, TypeError):
            return Stamp(**json.loads((self.path / _STAMP).read_text()))
        return None

    def write_stamp(self, stamp: Stamp) -> None:
        """Say what the files were made by."""
        with self.writing(self.path / _STAMP) as partial:
            partial.write_text(json.dumps(asdict(stamp)))

    @contextmanager
    def writing(self, path: Path) -> Iterator[Path]:
        """Give a partial file to write; it takes its own name only when the block ends well.

        Raises:
            StagingError: the disk refused or is full; the partial file is gone.
        """
        partial = path.with_name(path.name + _PARTIAL)
        try:
            yield partial
            os.replace(partial, path)
        except OSError as error:
            room = f"{shutil.disk_usage(self.path).free:,} bytes are free there" if self.path.exists() else "it is gone"
            partial.unlink(missing_ok=True)
            raise StagingError(f"cannot write {path}: {error.strerror or error}; {room}") from error
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Explain what becomes of files that were written.

        Raises:
            StagingError: they are gone, or the disk refuses.
        """
        try:
            yield
        except OSError as error:
            raise StagingError(
                f"cannot use what is staged in {self.path}: {error.strerror or error}; the next run reads the day again"
            ) from error

    def empty(self) -> None:
        """Remove every file of the folder, if it is there; the lock on it must be held."""
        with self.reading(), suppress(FileNotFoundError):
            for path in self.path.iterdir():
                path.unlink(missing_ok=True)

    def sweep(self, published: bool) -> None:
        """Remove what is not whole, or, of a published day, everything, unless a living process holds the folder."""
        if (descriptor := self.try_lock()) is None:
            return
        try:
            whole = self.extract.exists() or self.decoded.exists()
            for leftover in self.path.iterdir():
                if published or not whole or leftover.name.endswith(_PARTIAL):
                    leftover.unlink()
            with suppress(OSError):
                self.path.rmdir()
        finally:
            os.close(descriptor)

    @contextmanager
    def locked(self, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the folder for this process alone, made if it is missing; `waiting` is called once if another has it.

        The kernel lets go of the lock when the process ends, however it ends. An empty folder is removed on leaving.
        """
        while (descriptor := self.try_lock()) is None:
            if waiting:
                waiting()
                waiting = None
            time.sleep(_LOCK_POLL_S)
        try:
            yield
        finally:
            with suppress(OSError):
                self.path.rmdir()
            os.close(descriptor)

    def try_lock(self) -> int | None:
        """Return a descriptor that holds the folder until it is closed, or None while another process has it."""
        make_root(self.path.parent.parent)
        _make_folders(self.path)
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:  # its last holder removed it just now
            return None
        with suppress(BlockingIOError, FileNotFoundError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.stat(self.path).st_ino == os.fstat(descriptor).st_ino:  # not one that was removed meanwhile
                return descriptor
        os.close(descriptor)
        return None


def open_day(staging_dir: str, table: str, partition_key: str, day: date) -> DayFolder:
    """Return the folder of one day; nothing is made until it is locked."""
    return DayFolder(Path(staging_dir) / table / day_folder(partition_key, day))


@contextmanager
def lend_folder(staging_dir: str) -> Iterator[DayFolder]:
    """Give a folder below `staging_dir` that is removed, with what is in it, when the block ends.

    Raises:
        StagingError: it cannot be made.
    """
    make_root(Path(staging_dir))
    try:
        folder = tempfile.TemporaryDirectory(prefix=".audit-", dir=staging_dir, ignore_cleanup_errors=True)
    except OSError as error:
        raise StagingError(
            f"cannot make a folder in {staging_dir}: {error.strerror}; check [lake] staging_dir"
        ) from error
    with folder as path:
        yield DayFolder(Path(path))


def sweep(staging_dir: str, table: str, partition_key: str, published: Iterable[date]) -> None:
    """Remove what killed runs left of a table: partial files, and the files of days that are in the lake.

    Folders that a living process holds are left alone. Whole files of missing days stay, to be used again.
    """
    root, done = Path(staging_dir) / table, set(published)
    try:
        for path in root.iterdir() if root.is_dir() else ():
            if day := parse_day(path.name, partition_key):
                DayFolder(path).sweep(published=day in done)
    except OSError as error:
        raise StagingError(f"cannot sweep {root}: {error.strerror}; check [lake] staging_dir") from error


def read_crc32(path: Path) -> int:
    """Return the CRC-32 of a file's bytes."""
    crc32 = 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            crc32 = zlib.crc32(chunk, crc32)
    return crc32


def name_boot() -> str:
    """Return a name for the time since the machine was started."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # not Linux: nothing staged is used again by another run
        return str(time.time())


def check_room(staging_dir: str, needed_bytes: int) -> None:
    """Raise StagingError when the disk below `staging_dir` has less than `needed_bytes` free."""
    free = shutil.disk_usage(staging_dir).free
    if free < needed_bytes:
        raise StagingError(
            f"{staging_dir} has {free:,} bytes free and the day needs about {needed_bytes:,}: "
            "make room, or name another [lake] staging_dir"
        )


def make_root(root: Path) -> None:
    """Make `staging_dir` and what is missing above it, 0700.

    Raises:
        ConfigError: it is a link, another user's, or others may write to it.
        StagingError: it cannot be made.
    """
    _make_folders(root)
    facts = root.lstat()
    if stat.S_ISLNK(facts.st_mode) or facts.st_uid != os.geteuid() or facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(
            f"[lake] staging_dir = {root}: must be a folder of this user's own, no link, that no other may write to"
        )


def _make_folders(path: Path) -> None:
    try:
        for folder in (*reversed(path.parents), path):
            if not folder.is_dir():
                folder.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise StagingError(f"cannot make {path}: {error.strerror}; check [lake] staging_dir") from error
