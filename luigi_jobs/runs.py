"""Which run of Luigi this is: a worker's, from planning to its end, in all of its processes."""

import multiprocessing
import threading
from collections.abc import Iterator
from multiprocessing.queues import Queue
from typing import Any

from luigi.worker import KeepAliveThread, TaskProcess


def list_queues() -> Iterator["Queue[Any]"]:
    """Yield the queues of results of this process's Luigi workers, which keep a thread each while they run."""
    for thread in threading.enumerate():
        if isinstance(thread, KeepAliveThread):
            yield thread._rpc_message_callback.__self__._task_result_queue


def current_run() -> object | None:
    """Return what is the same object throughout a run, in the processes that it forks too; None outside of runs."""
    process = multiprocessing.current_process()
    return process.result_queue if isinstance(process, TaskProcess) else next(list_queues(), None)
