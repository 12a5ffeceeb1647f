"""What the processes of a run are at, in memory that all of them share; process.py looks at it.

connectorx holds the interpreter's lock while it waits for MySQL, and has no timeout for reading: no thread of the
process that waits can end it. So it writes down since when it waits, and the process that it was forked from looks.
"""

import fcntl
import json
import mmap
import os
import struct
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

_SLOTS, _SLOT_BYTES = 256, 1024
_HEAD = struct.Struct("<qdi")  # process, waiting since by time.monotonic() or 0, length of the JSON that follows


def _open_shared(size: int) -> int:
    """Return a nameless file of so many bytes, in memory where there are such files, else in the temporary folder.

    Its bytes are written at once: those of a sparse file would end the process by SIGBUS where the disk is full.
    """
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("luigi_jobs")
    else:
        file, path = tempfile.mkstemp(prefix="luigi_jobs-")
        os.unlink(path)
    with open(file, "wb", closefd=False) as writer:
        writer.write(bytes(size))
    return file


_file = _open_shared(_SLOTS * _SLOT_BYTES)
_memory = mmap.mmap(_file, _SLOTS * _SLOT_BYTES)
_failures = _open_shared(0)  # lines of [table, why its days are not loaded]
_waits: dict[int, float] = {}  # of this process, by thread
# In the text of every query of the run: the processes that Luigi forks inherit it.
RUN_MARKER = f"luigi_jobs {uuid.uuid4().hex}"


@dataclass(frozen=True)
class Work:
    """What a process is at: a day of a table; if it reads rows, how many seconds it waits for them."""

    table: str
    day: str
    read_timeout_s: int = 0


@dataclass(frozen=True)
class Seen:
    """The work of a process, and for how many seconds it has waited for MySQL; 0: it does not wait."""

    slot: int
    process: int
    waited_s: float
    work: Work


def name_queries(process: int) -> str:
    """Return what stands in the text of the queries of one process of the run."""
    return f"{RUN_MARKER} of {process};"


@contextmanager
def _locked() -> Iterator[None]:
    """Keep other processes out; the kernel lets go when a process ends, however it ends."""
    fcntl.lockf(_file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.lockf(_file, fcntl.LOCK_UN)


def begin(work: Work) -> None:
    """Write down what this process is at, in the place of what it was at before."""
    mine = os.getpid()
    with _locked():
        slots = {_HEAD.unpack_from(_memory, slot * _SLOT_BYTES)[0]: slot for slot in reversed(range(_SLOTS))}
        slot = slots.get(mine, slots.get(0))
        text = json.dumps(asdict(work)).encode()
        if slot is None or len(text) > _SLOT_BYTES - _HEAD.size:
            return
        _HEAD.pack_into(_memory, slot * _SLOT_BYTES, mine, 0.0, len(text))
        offset = slot * _SLOT_BYTES + _HEAD.size
        _memory[offset : offset + len(text)] = text
    _waits.clear()


def end(process: int) -> None:
    """Strike out what a process was at."""
    with _locked():
        for slot in range(_SLOTS):
            if _HEAD.unpack_from(_memory, slot * _SLOT_BYTES)[0] == process:
                _HEAD.pack_into(_memory, slot * _SLOT_BYTES, 0, 0.0, 0)


def list_work() -> list[Seen]:
    """Return what all processes are at."""
    seen, now = [], time.monotonic()
    with _locked():
        for slot in range(_SLOTS):
            process, since, length = _HEAD.unpack_from(_memory, slot * _SLOT_BYTES)
            if process:
                offset = slot * _SLOT_BYTES + _HEAD.size
                work = Work(**json.loads(_memory[offset : offset + length]))
                seen.append(Seen(slot, process, now - since if since else 0.0, work))
    return seen


@contextmanager
def waiting() -> Iterator[None]:
    """Say that this thread waits for MySQL, as long as the block lasts."""
    thread = threading.get_ident()
    _waits[thread] = time.monotonic()
    _write_waits()
    try:
        yield
    finally:
        _waits.pop(thread, None)
        _write_waits()


def _write_waits() -> None:
    mine = os.getpid()
    since = min(_waits.values(), default=0.0)
    for slot in range(_SLOTS):
        process, _, length = _HEAD.unpack_from(_memory, slot * _SLOT_BYTES)
        if process == mine:
            _HEAD.pack_into(_memory, slot * _SLOT_BYTES, mine, since, length)
            return


def note_failure(table: str, why: str) -> None:
    """Write down why days of a table are not loaded, for the last words of the run; nothing when a run begins."""
    with _locked():
        os.lseek(_failures, 0, os.SEEK_END)
        os.write(_failures, json.dumps([table, why]).encode() + b"\n")


def last_failure(table: str) -> str:
    """Return what was last written down of a table."""
    with _locked():
        lines = os.pread(_failures, os.fstat(_failures).st_size, 0).splitlines()
    found = [why for name, why in map(json.loads, lines) if name == table]
    return found[-1] if found else ""
