"""luigi_jobs with a SIGKILL at the point that CRASH_AT names: `luigi --module crashing …`.

With CRASH_RUN=1 the whole run is killed, not only the process of the task.
"""

import functools
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import luigi_jobs  # noqa: F401  # registers the tasks
from luigi_jobs import files, reader
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


def crash_after(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any, **keywords: Any) -> None:
        function(*arguments, **keywords)
        crash()

    return wrapper


def crash_before_request(operation: str) -> None:
    original = S3Lake.__init__

    @functools.wraps(original)
    def wrapper(self: S3Lake, *arguments: Any) -> None:
        original(self, *arguments)
        self._s3.meta.events.register(f"before-send.s3.{operation}", crash)

    S3Lake.__init__ = wrapper  # type: ignore[method-assign]


if POINT == "extract":
    reader.stream_rows = crash_after_first(reader.stream_rows)
elif POINT == "decode":
    files.row_groups = crash_after_first(files.row_groups)
elif POINT == "published":
    S3Lake.publish = crash_after(S3Lake.publish)  # type: ignore[method-assign]
elif POINT:
    crash_before_request(POINT)
