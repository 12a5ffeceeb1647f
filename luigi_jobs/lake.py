"""The lake: list days, publish a file, look at one object. The only importer of boto3 and luigi.contrib.s3.

A lake is an S3 prefix or a local folder; both publish a day by one atomic step, so that a reader sees the old day, the
new day or no day, never a part.
"""

import logging
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from configparser import InterpolationError
from contextlib import contextmanager, suppress
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import luigi
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from luigi.contrib.s3 import DeprecatedBotoClientException, S3Client, S3Target
from luigi.target import FileSystemTarget

from luigi_jobs.days import ONE_DAY
from luigi_jobs.errors import ConfigError, LakeError
from luigi_jobs.layout import day_key, parse_key, table_prefix
from luigi_jobs.settings import LakeSettings

logger = logging.getLogger("luigi-interface")

PART_BYTES = 16 * 1024 * 1024
ATTEMPTS = 5
CONNECT_TIMEOUT_S = 10
READ_TIMEOUT_S = 60
MISSING_HOLDS_S = 60.0

_buckets_seen: set[str | None] = set()  # by this process or the one it was forked from


class Lake(ABC):
    """The days of every table, and how one is published.

    A day that a listing did not show counts as missing for a minute without being asked for again: planning a
    backfill of years then costs the listing and not three requests a day. Only the process that listed believes it.
    """

    def __init__(self, settings: LakeSettings):
        self.settings = settings
        self._missing_since: dict[tuple[str, date], float] = {}

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
        now = time.monotonic()
        for ordinal in range(first.toordinal(), last.toordinal() + 1):
            if (day := date.fromordinal(ordinal)) not in found:
                self._missing_since[table, day] = now
        return found

    def has_day(self, table: str, day: date) -> bool:
        """Say whether a day is in the lake, by one HEAD unless a listing has just shown that it is not."""
        listed = self._missing_since.get((table, day))
        if listed is not None and time.monotonic() - listed < MISSING_HOLDS_S:
            return False
        return self.size(table, day) is not None

    def forget_listings(self) -> None:
        """Ask for every day again: planning is over, and other runs publish too."""
        self._missing_since.clear()

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
    def _put(self, path: Path, key: str) -> None: ...


def open_lake(settings: LakeSettings) -> Lake:
    """Return this process's one lake: a boto3 client that two processes share returns each other's answers."""
    return _open_lake(settings, os.getpid())


@cache
def _open_lake(settings: LakeSettings, pid: int) -> Lake:
    return S3Lake(settings) if settings.bucket else LocalLake(settings)


class S3Lake(Lake):
    """A lake below s3://bucket/prefix, through Luigi's S3Client and its section [s3]."""

    def __init__(self, settings: LakeSettings):
        super().__init__(settings)
        config = Config(
            retries={"mode": "standard", "max_attempts": ATTEMPTS},
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
        )
        try:
            self.client = S3Client(config=config)
            self._s3: Any = self.client.s3.meta.client
        except InterpolationError as error:
            raise ConfigError(f"luigi.cfg: [s3]: {error.message.split('. Section')[0]}") from None
        except (ValueError, TypeError, DeprecatedBotoClientException, BotoCoreError) as error:
            raise ConfigError(f"luigi.cfg: [s3]: {error}") from error
        self._bucket = settings.bucket

    def target(self, table: str, day: date) -> FileSystemTarget:
        """Return an S3Target that asks for the one object only."""
        lake = self

        class DayTarget(S3Target):  # type: ignore[misc]  # luigi has no types
            """A day's object; stock `exists` takes up to four requests and is True for any key below."""

            def exists(self) -> bool:
                return lake.has_day(table, day)

        return DayTarget(f"s3://{self._bucket}/{self.key(table, day)}", format=luigi.format.Nop, client=self.client)

    def _list(self, table: str, first: date) -> Iterator[tuple[str, int]]:
        prefix = table_prefix(self.settings.prefix, table)
        # From the key of the day before on: a short range at the end of a long history is one page.
        start_after = self.key(table, first - ONE_DAY)
        with self._explained(f"list s3://{self._bucket}/{prefix}"):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix, StartAfter=start_after
            )
            for page in pages:
                _buckets_seen.add(self._bucket)
                for entry in page.get("Contents", ()):
                    yield entry["Key"], entry["Size"]

    def _size(self, key: str) -> int | None:
        with self._explained(f"look at s3://{self._bucket}/{key}"):
            try:
                head = self._s3.head_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                    raise
                self._check_bucket()
                return None
        return int(head["ContentLength"])

    def _check_bucket(self) -> None:
        """Raise when the bucket is missing: the HEAD of an object answers 404 for that too."""
        if self._bucket not in _buckets_seen:
            self._s3.list_objects_v2(Bucket=self._bucket, Prefix=self.settings.prefix, MaxKeys=1)
            _buckets_seen.add(self._bucket)

    def _put(self, path: Path, key: str) -> None:
        transfer = TransferConfig(multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES)
        with self._explained(f"write s3://{self._bucket}/{key}"):
            if path.stat().st_size >= PART_BYTES:
                self._abort_uploads(key)
            extra = {"ContentType": "application/vnd.apache.parquet"}
            with open(path, "rb") as file:  # upload_file would wrap what S3 answers in a text
                self._s3.upload_fileobj(file, self._bucket, key, Config=transfer, ExtraArgs=extra)

    def _abort_uploads(self, key: str) -> None:
        """Abort what killed runs left of this key's uploads; nothing else lists them, and they cost storage."""
        try:
            uploads = self._s3.list_multipart_uploads(Bucket=self._bucket, Prefix=key).get("Uploads", ())
            for upload in uploads:
                if upload["Key"] == key:
                    self._s3.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload["UploadId"])
        except ClientError as error:  # tidying needs two more permissions; a load does not fail for want of them
            logger.warning("cannot tidy up old uploads of %s: %s", key, error.response["Error"]["Code"])

    @contextmanager
    def _explained(self, action: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            code = error.response["Error"]["Code"]
            status = error.response["ResponseMetadata"].get("HTTPStatusCode")
            hints = {
                "NoSuchBucket": f"bucket {self._bucket} does not exist: create it, or correct [lake] url",
                "AccessDenied": "the credentials may not do this: grant s3:ListBucket, s3:GetObject and s3:PutObject",
                "InvalidAccessKeyId": "S3 does not know the access key: correct the credentials in [s3]",
                "SignatureDoesNotMatch": "the secret key is wrong: correct the credentials in [s3]",
                "ExpiredToken": "the session token has expired: renew it",
                "RequestTimeTooSkewed": "the clock of this machine is wrong",
            }
            hint = hints.get(code) or (hints["AccessDenied"] if status == 403 else "the next run tries again")
            raise LakeError(f"cannot {action}: S3 answered {status} {code}; {hint}") from error
        except (BotoCoreError, Boto3Error) as error:
            raise LakeError(
                f"cannot {action}: {error}; check [s3] and the network, the next run tries again"
            ) from error


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
