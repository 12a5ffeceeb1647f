"""luigi_jobs with a SIGKILL at the point that CRASH_AT names: `luigi --module crashing …`.

With CRASH_RUN=1 the whole run is killed, not only the process of the task. The points, in the order of
a load, are "query", "extract", "unstamped", "extracted", "decode", "footer", an S3 request such as "PutObject" or
"in UploadPart", and "published". At "result" and "no result" the process of an ExtractDay is killed just after or just
before it hands over its result, with the lock on all results.
"""

import functools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import luigi

import luigi_jobs
from luigi_jobs import files, reader, staging
from luigi_jobs.lake import S3Lake

POINT = os.environ.get("CRASH_AT", "")


def crash(*_: object, **__: object) -> None:
    if os.environ.get("CRASH_RUN"):
        os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


def crash_after_first(function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    @functools.wraps(function)
    def wrapper(*arguments: Any, **keywords: Any) -> Iterator[Any]:
        for batch in function(*arguments, **keywords):
            yield batch
            crash()

    return wrapper


def crash_at_first(function: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    @functools.wraps(function)
    def wrapper(*arguments: Any, **keywords: Any) -> Iterator[Any]:
        for _ in function(*arguments, **keywords):
            crash()
        yield

    return wrapper


def crash_at_footer(path: Any, schema: Any, batches: Any, _: object) -> None:
    write_parquet(path, schema, batches, crash)  # type: ignore[arg-type]


def crash_after(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any, **keywords: Any) -> None:
        function(*arguments, **keywords)
        crash()

    return wrapper


class CrashingBody:
    """The body of a request, of which only the beginning is sent."""

    def __init__(self, body: Any):
        self._body = body
        self._was_read = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)

    def read(self, size: int = -1) -> bytes:
        if self._was_read:
            crash()
        self._was_read = True
        return bytes(self._body.read(size))


def crash_in_body(request: Any, **_: Any) -> None:
    request.body = CrashingBody(request.body)


def crash_at_request(operation: str, how: Callable[..., None]) -> None:
    original = S3Lake.__init__

    @functools.wraps(original)
    def wrapper(self: S3Lake, *arguments: Any) -> None:
        original(self, *arguments)
        self._s3.meta.events.register(f"before-send.s3.{operation}", how)

    S3Lake.__init__ = wrapper  # type: ignore[method-assign]


def crash_at_result(_: luigi.Task) -> None:
    queue = multiprocessing.current_process().result_queue  # type: ignore[attr-defined]
    send = queue._send_bytes

    def send_and_crash(message: bytes) -> None:
        if POINT == "result":
            send(message)
        crash()

    queue._send_bytes = send_and_crash


write_parquet = files.write_parquet

if POINT == "query":
    reader.stream_rows = crash_at_first(reader.stream_rows)  # type: ignore[assignment]
elif POINT == "extract":
    reader.stream_rows = crash_after_first(reader.stream_rows)
elif POINT == "decode":
    files.row_groups = crash_after_first(files.row_groups)
elif POINT == "unstamped":
    staging.DayFolder.write_stamp = crash  # type: ignore[method-assign]
elif POINT == "extracted":
    staging.DayFolder.write_stamp = crash_after(staging.DayFolder.write_stamp)  # type: ignore[method-assign]
elif POINT == "footer":
    files.write_parquet = crash_at_footer
elif POINT == "published":
    S3Lake.publish = crash_after(S3Lake.publish)  # type: ignore[method-assign]
elif POINT in ("result", "no result"):
    luigi_jobs.ExtractDay.event_handler(luigi.Event.START)(crash_at_result)
elif POINT.startswith("in "):
    crash_at_request(POINT.removeprefix("in "), crash_in_body)
elif POINT:
    crash_at_request(POINT, crash)
