"""luigi_jobs that notes every S3 request in the file COUNT_REQUESTS: `luigi --module counting …`.

Python's connections to MySQL it notes in the file COUNT_CONNECTIONS, if that is set.
"""

import functools
import os
import sys
from typing import Any

import luigi_jobs  # noqa: F401  # registers the tasks
from luigi_jobs.lake import S3Lake

original = S3Lake.__init__


def note(event_name: str, **_: Any) -> None:
    with open(os.environ["COUNT_REQUESTS"], "a") as file:
        file.write(event_name.rsplit(".", 1)[1] + "\n")


@functools.wraps(original)
def init(self: S3Lake, *arguments: Any) -> None:
    original(self, *arguments)
    self._s3.meta.events.register("before-send.s3", note)


S3Lake.__init__ = init  # type: ignore[method-assign]


def note_connection(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and str(arguments[1][1]) == os.environ["MYSQL_PORT"]:
        with open(os.environ["COUNT_CONNECTIONS"], "a") as file:
            file.write("MySQL\n")


if "COUNT_CONNECTIONS" in os.environ:
    sys.addaudithook(note_connection)
