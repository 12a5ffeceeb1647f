"""What is tried once more: a connection that was lost, a day that moved. Anything longer is for cron."""

import logging

from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, wait_random

from luigi_jobs.errors import SourceError

logger = logging.getLogger("luigi-interface")

ATTEMPTS = 2
WAIT_S = (1.0, 3.0)


def once_more(label: str, failure: type[SourceError]) -> Retrying:
    """Return a caller of functions that calls a second time after such a failure; `label` goes into the log."""

    def say(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        logger.warning("%s: %s; trying once more", label, str(error).removesuffix("; the next run tries again"))

    return Retrying(
        retry=retry_if_exception_type(failure),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random(*WAIT_S),
        before_sleep=say,
        reraise=True,
    )
