"""Luigi's queue of results, whose lock a process may take along when it is killed.

A task's process hands its result over under a lock that all processes share and that nobody lets go of when the process
is killed just then: all others, and the run, would wait for ever.
"""

import logging

from luigi.task_status import DONE

from luigi_jobs.runs import list_queues

logger = logging.getLogger("luigi-interface")

HELD_S = 3.0  # handing a result over takes less than a millisecond


def free_results() -> None:
    """Let go of the lock where it has been held for too long; only in the process that forks the others."""
    for queue in list_queues():
        lock = queue._wlock  # type: ignore[attr-defined]
        if not lock.acquire(timeout=HELD_S):
            logger.warning("a process was killed while it handed over its result: the others go on without it")
        lock.release()


def hand_over(task_id: str) -> None:
    """Have Luigi know that a task is done whose process cannot say so any more; only in the process that forked it.

    Luigi itself says FAILED next, which it does not believe of a task that it knows to be done.
    """
    for queue in list_queues():
        queue.put((task_id, DONE, "", [], []))
