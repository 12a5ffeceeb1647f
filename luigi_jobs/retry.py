"""What is tried once more: a connection that was lost, a day that moved. Anything longer is for cron."""

import logging

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_random,
    wait_random_exponential,
)

from luigi_jobs.errors import TRIES_AGAIN, SourceError, UnreachableError

logger = logging.getLogger("luigi-interface")

ATTEMPTS = 2
WAIT_S = (1.0, 3.0)
COMING_BACK_S = 10.0


def until_it_is_back() -> Retrying:
    """Return a caller of functions that calls again, for a few seconds, while a server that was there is not."""
    return Retrying(
        retry=retry_if_exception_type(UnreachableError),
        stop=stop_after_delay(COMING_BACK_S),
        wait=wait_random_exponential(multiplier=0.5, max=3.0),
        reraise=True,
    )


def once_more(label: str, failure: type[SourceError]) -> Retrying:
    """Return a caller of functions that calls a second time after such a failure; `label` goes into the log."""

    def say(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        logger.warning("%s: %s; trying once more", label, str(error).removesuffix(TRIES_AGAIN))

    return Retrying(
        retry=retry_if_exception_type(failure),
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_random(*WAIT_S),
        before_sleep=say,
        reraise=True,
    )
