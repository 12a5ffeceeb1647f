"""A lake in S3. The only importer of boto3 and luigi.contrib.s3."""

import base64
import binascii
import logging
import zlib
from collections.abc import Iterator, Mapping
from configparser import InterpolationError
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import luigi
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError
from luigi.contrib.s3 import DeprecatedBotoClientException, S3Client, S3Target
from luigi.target import FileSystemTarget

from luigi_jobs.days import ONE_DAY
from luigi_jobs.errors import ChangedError, ConfigError, LakeError
from luigi_jobs.facts import DayFacts
from luigi_jobs.settings import LakeSettings
from luigi_jobs.stored_days import Lake, StoredDay

logger = logging.getLogger("luigi-interface")

PART_BYTES = 16 * 1024 * 1024
UPLOAD_THREADS = 4
ATTEMPTS = 5
# What stands at the key is not what was to be replaced, or another write was under way, which may end this upload.
_CHANGED = ("PreconditionFailed", "ConditionalRequestConflict", "NoSuchUpload")

CHUNK_BYTES = 1024 * 1024

_buckets_seen: set[str | None] = set()  # by this process or the one it was forked from


class S3Lake(Lake):
    """A lake below s3://bucket/prefix, through Luigi's S3Client and its section [s3]."""

    def __init__(self, settings: LakeSettings):
        super().__init__(settings)
        config = Config(
            retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
            connect_timeout=settings.connect_timeout_s,
            read_timeout=settings.read_timeout_s,
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

    def _list(self, table: str, first: date | None) -> Iterator[tuple[str, StoredDay]]:
        prefix = self._prefix(table)
        # From the key of the day before on: a short range at the end of a long history is one page.
        start_after = self.key(table, first - ONE_DAY) if first else ""
        with self._explained(f"list s3://{self._bucket}/{prefix}"):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix, StartAfter=start_after
            )
            for page in pages:
                _check_answer(page, "Name")
                _buckets_seen.add(self._bucket)
                for entry in page.get("Contents", ()):
                    yield entry["Key"], StoredDay(entry["Size"], entry["ETag"], entry["LastModified"])

    def _find(self, key: str) -> StoredDay | None:
        with self._explained(f"look at s3://{self._bucket}/{key}"):
            try:
                head = self._s3.head_object(Bucket=self._bucket, Key=key, ChecksumMode="ENABLED")
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] != 404:
                    raise
                self._check_bucket()
                return None
            _check_answer(head, "ETag")
        facts = DayFacts.from_s3(head["Metadata"])
        crc32 = _parse_crc32(head.get("ChecksumCRC32", ""))
        return StoredDay(head["ContentLength"], head["ETag"], head["LastModified"], facts, crc32)

    def _short(self, facts: DayFacts) -> DayFacts:
        return DayFacts.from_s3(facts.to_s3())

    def list_top(self) -> tuple[list[str], list[str]]:
        """Return the names of all folders of the lake, which tables have, and the keys of the objects beside them."""
        prefix = self.settings.prefix
        folders, objects = [], []
        with self._explained(f"list s3://{self._bucket}/{prefix}"):
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix, Delimiter="/"
            )
            for page in pages:
                _check_answer(page, "Name")
                folders += [one["Prefix"].removeprefix(prefix).rstrip("/") for one in page.get("CommonPrefixes", ())]
                objects += [entry["Key"] for entry in page.get("Contents", ()) if entry["Key"] != prefix]
        return folders, objects

    def fetch(self, table: str, day: date, path: Path) -> None:
        """Write a day's object to a local file."""
        key = self.key(table, day)
        with self._explained(f"read s3://{self._bucket}/{key}"):
            self._s3.download_file(self._bucket, key, str(path))

    def _read_end(self, key: str, count: int) -> bytes:
        with self._explained(f"read s3://{self._bucket}/{key}"):
            try:
                answer = self._s3.get_object(Bucket=self._bucket, Key=key, Range=f"bytes=-{count}")
            except ClientError as error:
                if error.response["Error"]["Code"] != "InvalidRange":
                    raise
                return b""  # the object is empty
            return bytes(answer["Body"].read())

    def _check_bucket(self) -> None:
        """Raise when the bucket is missing: the HEAD of an object answers 404 for that too."""
        if self._bucket not in _buckets_seen:
            page = self._s3.list_objects_v2(Bucket=self._bucket, Prefix=self.settings.prefix, MaxKeys=1)
            _check_answer(page, "Name")
            _buckets_seen.add(self._bucket)

    def _read_crc32(self, key: str) -> int:
        crc32 = 0
        with self._explained(f"read s3://{self._bucket}/{key}"):
            for chunk in self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].iter_chunks(CHUNK_BYTES):
                crc32 = zlib.crc32(chunk, crc32)
        return crc32

    def _remove(self, key: str) -> None:
        with self._explained(f"remove s3://{self._bucket}/{key}"):
            self._s3.delete_object(Bucket=self._bucket, Key=key)

    def _put(self, path: Path, key: str, facts: DayFacts, crc32: int, replaces: StoredDay | None) -> None:
        transfer = TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=UPLOAD_THREADS
        )
        with self._explained(f"write s3://{self._bucket}/{key}"):
            extra = {
                "ContentType": "application/vnd.apache.parquet",
                "Metadata": facts.to_s3(),
                "ChecksumCRC32": base64.b64encode(crc32.to_bytes(4, "big")).decode(),
            }
            if path.stat().st_size >= PART_BYTES:
                extra["ChecksumType"] = "FULL_OBJECT"
            # upload_file would wrap what S3 answers in a text, upload_fileobj hold every part in memory
            with self._only_if(replaces), self._tidied(key), create_transfer_manager(self._s3, transfer) as manager:
                manager.upload(str(path), self._bucket, key, extra_args=extra).result()

    def _prepare(self, path: Path, key: str) -> None:
        if path.stat().st_size >= PART_BYTES:
            with self._explained(f"tidy up s3://{self._bucket}/{key}"):
                self._abort_uploads(key)

    @contextmanager
    def _tidied(self, key: str) -> Iterator[None]:
        """Abort, in the end, an upload that S3 may have begun without its answer having come; boto3 aborts others."""
        begun: list[int] = []  # how often S3 was asked again before it answered

        def ask(**_: Any) -> None:
            begun.append(1)

        def note(parsed: Any, **_: Any) -> None:
            begun[-1] = parsed["ResponseMetadata"].get("RetryAttempts", 0)

        create = "s3.CreateMultipartUpload"
        self._s3.meta.events.register(f"before-call.{create}", ask)
        self._s3.meta.events.register(f"after-call.{create}", note)
        try:
            yield
        finally:
            self._s3.meta.events.unregister(f"before-call.{create}", ask)
            self._s3.meta.events.unregister(f"after-call.{create}", note)
            if any(begun):
                self._abort_uploads(key)

    @contextmanager
    def _only_if(self, replaces: StoredDay | None) -> Iterator[None]:
        """Have S3 refuse a publishing request unless `replaces` still stands at the key; boto3 cannot say so in parts.

        Source: https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """
        condition = {"IfMatch": replaces.etag} if replaces else {"IfNoneMatch": "*"}

        def add(params: dict[str, Any], **_: Any) -> None:
            params.update(condition)

        events = [f"before-parameter-build.s3.{name}" for name in ("PutObject", "CompleteMultipartUpload")]
        for event in events:
            self._s3.meta.events.register(event, add)
        try:
            yield
        finally:
            for event in events:
                self._s3.meta.events.unregister(event, add)

    def abort_uploads(self, table: str, day: date) -> None:
        """Abort the uploads of a day that a process which was ended has left."""
        key = self.key(table, day)
        with self._explained(f"tidy up s3://{self._bucket}/{key}"):
            self._abort_uploads(key)

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
                "BadDigest": "other bytes arrived than were staged; the next run reads the day again",
                "RequestTimeTooSkewed": "the clock of this machine is wrong",
            }
            if code in _CHANGED:
                raise ChangedError(f"cannot {action}: it has changed meanwhile; the next run looks again") from error
            hint = hints.get(code) or (hints["AccessDenied"] if status == 403 else "the next run tries again")
            raise LakeError(f"cannot {action}: S3 answered {status} {code}; {hint}") from error
        except (_NoS3Error, ResponseParserError) as error:
            raise LakeError(
                f"cannot {action}: what answers at {self._s3.meta.endpoint_url} is no S3: check [s3] endpoint_url and "
                "the network, the next run tries again"
            ) from error
        except (BotoCoreError, Boto3Error) as error:
            raise LakeError(
                f"cannot {action}: {error}; check [s3] and the network, the next run tries again"
            ) from error


class _NoS3Error(Exception):
    """An answer of status 200 is none of S3's."""


def _check_answer(answer: Mapping[str, Any], name: str) -> None:
    """Refuse an answer without what S3 never leaves out: another server's page would pass for an empty listing."""
    if name not in answer:
        raise _NoS3Error(name)


def _parse_crc32(text: str) -> int | None:
    """Read a checksum of a whole object; None for none, or for one of parts."""
    try:
        return int.from_bytes(base64.b64decode(text, validate=True), "big") if text else None
    except binascii.Error:
        return None
