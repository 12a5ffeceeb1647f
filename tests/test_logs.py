import logging
import traceback

import pytest

from luigi_jobs import logs
from luigi_jobs.errors import DecodeError

logger = logging.getLogger("luigi-interface")


@pytest.fixture(autouse=True)
def level() -> None:
    logger.setLevel(logging.INFO)
    logs.install()


def raise_error() -> None:
    raise DecodeError("reports 2021-01-31: row id=1 holds '\x1b[31m'")


def test_error_of_ours_is_one_line_without_a_traceback(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise_error()
    except DecodeError:
        logger.exception("[pid %s] Worker failed", 7)

    (record,) = caplog.records
    assert record.getMessage() == "[pid 7] Worker failed: DecodeError: reports 2021-01-31: row id=1 holds '\\x1b[31m'"
    assert record.exc_info is None


def test_error_of_ours_keeps_its_traceback_when_debugging(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "luigi-interface"):
        try:
            raise_error()
        except DecodeError:
            logger.exception("failed")

    assert caplog.records[0].exc_info is not None


def test_traceback_in_the_text_of_a_message_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise_error()
    except DecodeError:
        logger.warning(f"Will not run Backfill due to error in complete() method:\n{traceback.format_exc()}")

    assert caplog.records[0].getMessage() == (
        "Will not run Backfill due to error in complete() method: "
        "DecodeError: reports 2021-01-31: row id=1 holds '\\x1b[31m'"
    )


def test_error_of_others_keeps_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    try:
        raise KeyError("x")
    except KeyError:
        logger.exception("failed")

    assert caplog.records[0].exc_info is not None


def test_filter_is_installed_once() -> None:
    logs.install()
    logs.install()

    assert sum(isinstance(present, logs.OneLineErrors) for present in logger.filters) == 1
