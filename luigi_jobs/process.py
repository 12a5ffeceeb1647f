"""Worker processes end with their parent: Luigi leaves them running, and publishing, when it is killed."""

import ctypes
import multiprocessing
import os
import signal
import sys

from luigi.worker import TaskProcess

PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends; only in a worker that Luigi forked, only on Linux.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    parent = multiprocessing.parent_process()
    ours = isinstance(multiprocessing.current_process(), TaskProcess)
    if parent is None or not ours or not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent.pid:  # it ended before the call
        os.kill(os.getpid(), signal.SIGKILL)
