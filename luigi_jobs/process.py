"""The processes of a run: they end with it, and what one that was ended leaves behind is tidied up.

Stock Luigi leaves its workers running, and publishing, when it is killed.
"""

import atexit
import ctypes
import json
import logging
import multiprocessing
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import date
from functools import cache
from types import FrameType

from luigi.cmdline_parser import CmdlineParser
from luigi.rpc import RemoteScheduler, RPCError
from luigi.task_status import FAILED
from luigi.worker import TaskProcess

from luigi_jobs import signals, staging, watch
from luigi_jobs.config import load_settings
from luigi_jobs.errors import TRIES_AGAIN, LuigiJobsError, name_failure
from luigi_jobs.lake import open_lake
from luigi_jobs.results import free_results
from luigi_jobs.watch import Seen

logger = logging.getLogger("luigi-interface")

PR_SET_PDEATHSIG = 1
LOOK_EVERY_S = 1.0
TIDY_S = 3.0

_ended: set[int] = set()  # by this process, because they waited for too long


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends; only in a worker that Luigi forked, only on Linux.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    parent = multiprocessing.parent_process()
    if parent is None or not isinstance(multiprocessing.current_process(), TaskProcess):
        return
    signals.leave_to_parent()
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent.pid:  # it ended before the call
        os.kill(os.getpid(), signal.SIGKILL)


def begin(work: watch.Work) -> None:
    """Write down what this process is at."""
    watch.begin(work)


def end() -> None:
    """Write down that this process is done."""
    watch.end(os.getpid())


def watch_children() -> None:
    """Look after the processes that Luigi forks from this one, and end them when this one is told to end."""
    if multiprocessing.parent_process() is None:
        _watch(os.getpid())


@cache
def _watch(pid: int) -> None:
    threading.Thread(target=_look_again_and_again, name="watch", daemon=True).start()
    atexit.register(_look_at_exit, pid)
    is_command = CmdlineParser.get_instance() is not None  # luigi.build: signals are the caller's
    if is_command and threading.current_thread() is threading.main_thread():
        signals.obey(_stop)


def _look_again_and_again() -> None:
    said = ""
    while True:
        time.sleep(LOOK_EVERY_S)
        try:
            look()
            free_results()
        except Exception as error:  # without this thread a connection that stalls would stall for ever
            if said != (text := name_failure(error)):
                is_debugging = logger.isEnabledFor(logging.DEBUG)
                logger.error("cannot look after the run's processes: %s; trying again", text, exc_info=is_debugging)
            said = text


def _look_at_exit(pid: int) -> None:
    if os.getpid() == pid:
        look()


def look() -> None:
    """End processes that wait for MySQL for too long, and tidy up after those that were ended."""
    for seen in watch.list_work():
        if seen.process == os.getpid():
            continue
        if not _is_alive(seen.process):
            watch.end(seen.process)
            if seen.process not in _ended:
                _say(seen.work, "the process that was at it was killed, maybe for want of memory")
            _end_queries(watch.name_queries(seen.process))
            _tidy([seen])
        elif 0 < seen.work.read_timeout_s < seen.waited_s:
            mysql = load_settings().mysql
            _say(
                seen.work,
                f"MySQL {mysql.host}:{mysql.port} has sent nothing for {seen.work.read_timeout_s} s (read_timeout_s in "
                "[mysql]): the connection is given up",
            )
            _ended.add(seen.process)
            with suppress(ProcessLookupError):
                os.kill(seen.process, signal.SIGKILL)


def _say(work: watch.Work, why: str) -> None:
    text = f"{work.table} {work.day}: {why}"
    watch.note_failure(work.table, text)
    logger.error("%s%s", text, TRIES_AGAIN)


def _is_alive(process: int) -> bool:
    """Say whether a process runs; one that has ended and that nobody has waited for does not."""
    try:
        os.kill(process, 0)
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # it ended just now, or this is no Linux
        return not os.path.isdir("/proc/self")
    except OSError:  # such as too many open files
        return True


def _stop(number: int, _: FrameType | None) -> None:
    """End the run: its processes at once, then what they leave on MySQL, in S3 and in staging."""
    signals.ignore()
    work, children, name = watch.list_work(), multiprocessing.active_children(), signal.Signals(number).name
    for process in children:
        process.kill()
    for process in children:
        process.join(1.0)
    jobs = [
        threading.Thread(target=_end_queries, args=(watch.RUN_MARKER,), daemon=True),
        threading.Thread(target=_tidy, args=(work,), daemon=True),
        threading.Thread(target=_give_back, args=(children, name), daemon=True),
    ]
    for job in jobs:
        job.start()
    until = time.monotonic() + TIDY_S
    for job in jobs:
        job.join(max(0.0, until - time.monotonic()))
    at = ", ".join(sorted({f"{seen.work.table} {seen.work.day}" for seen in work}))
    logger.error(
        "stopped by %s%s; to go on: %s", name, f" at {at}" if at else "",
        shlex.join(["luigi", *sys.argv[1:]]),
    )  # fmt: skip
    logging.shutdown()
    os._exit(128 + number)


def _give_back(children: Iterable[multiprocessing.Process], name: str) -> None:
    """Have luigid know that the steps of processes that have ended do not run any more: the next run may at once."""
    for child in children:
        if isinstance(child, TaskProcess) and isinstance(
            scheduler := child.status_reporter._scheduler, RemoteScheduler
        ):
            with suppress(RPCError):
                scheduler.add_task(
                    worker=child.worker_id,
                    task_id=child.task.task_id,
                    status=FAILED,
                    expl=json.dumps(f"stopped by {name}"),
                )


def _end_queries(marker: str) -> None:
    from luigi_jobs.mysql import end_queries  # noqa: PLC0415  # planning is spared the driver

    with suppress(LuigiJobsError):
        end_queries(load_settings().mysql, marker)


def _tidy(work: Iterable[Seen]) -> None:
    """Remove what processes that have ended left: partial files in staging, uploads to S3."""
    settings = load_settings()
    for seen in work:
        table, day = seen.work.table, date.fromisoformat(seen.work.day)
        with suppress(LuigiJobsError, OSError):
            folder = staging.open_day(settings.lake.staging_dir, table, settings.lake.partition_key, day)
            if folder.path.is_dir():
                folder.sweep(published=False)
        if not seen.work.read_timeout_s:
            with suppress(LuigiJobsError, OSError):
                open_lake(settings.lake).abort_uploads(table, day)
