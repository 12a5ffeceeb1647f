"""Log lines an operator can read: an error of this package is one line, without a traceback unless debugging."""

import logging
import re
import warnings

from luigi.parameter import ParameterException
from luigi.rpc import RPCError

from luigi_jobs.errors import LuigiJobsError

_logger = logging.getLogger("luigi-interface")

_TRACEBACK = re.compile(
    r":\s*\nTraceback \(most recent call last\):\n.*^luigi_jobs\.errors\.(?P<kind>\w+): (?P<message>.*?)\n*\Z",
    re.DOTALL | re.MULTILINE,
)


class OneLineErrors(logging.Filter):
    """Puts the message of an error that explains itself in the place of its traceback, unless at level DEBUG.

    Luigi logs a failed task with `logger.exception`, and a failed complete() or requires() with the traceback as text.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite the record and let it pass."""
        if _logger.getEffectiveLevel() <= logging.DEBUG:  # takes no lock: a filter may run just after a fork
            return True
        error = record.exc_info[1] if record.exc_info else None
        is_bad_parameter = isinstance(error, ValueError) and record.msg == "Uncaught exception in luigi"
        if isinstance(error, LuigiJobsError | ParameterException) or is_bad_parameter:
            _put_in_a_line(record, f"{type(error).__name__}: {error}")
        elif isinstance(error, RPCError):
            _put_in_a_line(record, f"{error}; start luigid there, or add --local-scheduler")
        elif str(record.msg).startswith("Failed connecting to remote scheduler"):
            record.exc_info = record.exc_text = None
        elif match := _TRACEBACK.search(str(record.msg)):
            record.msg = str(record.msg)[: match.start()]
            _put_in_a_line(record, f"{match['kind']}: {match['message']}")
        return True


def _put_in_a_line(record: logging.LogRecord, error: str) -> None:
    record.msg, record.args = f"{record.getMessage()}: {printable(error)}", ()
    record.exc_info = record.exc_text = None
    record.levelno, record.levelname = logging.ERROR, "ERROR"


def printable(text: str) -> str:
    """Replace control characters: a value from a table must not steer a terminal."""
    return "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)


def install() -> None:
    """Add the filter to Luigi's logger, once, and silence what Luigi warns of its own settings and defaults."""
    if not any(isinstance(present, OneLineErrors) for present in _logger.filters):
        _logger.addFilter(OneLineErrors())
        for message in (
            r".*'rpc_\w+' with value .* not consumed by the task 'core'",
            r'Parameter "param_name" with value "None"',
        ):
            warnings.filterwarnings("ignore", message)
