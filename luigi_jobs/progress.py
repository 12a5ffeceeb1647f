"""How far a day has come, for the visualiser and the terminal."""

import logging
import time
from collections.abc import Callable

from luigi.rpc import RPCError

logger = logging.getLogger("luigi-interface")

REPORT_EVERY_S = 2.0
LOG_EVERY_S = 10.0


class Progress:
    """Counts a day's rows and says so: to the scheduler every 2 s, in the log every 10 s.

    A scheduler that cannot be reached costs one warning and no more reports; it never fails or delays a load.
    """

    def __init__(
        self,
        label: str,
        total_rows: int,
        set_message: Callable[[str], None] | None,
        set_percentage: Callable[[int], None] | None,
    ):
        """`label` names table and day; the two setters are the task's, None where no scheduler listens."""
        self._label = label
        self._total = total_rows
        self._set_message = set_message
        self._set_percentage = set_percentage
        self._started = self._reported = self._logged = time.monotonic()

    def __call__(self, rows: int) -> None:
        """Take note that `rows` rows of the day are done."""
        now = time.monotonic()
        if now - self._reported >= REPORT_EVERY_S:
            self._reported = now
            self._report(rows)
        if now - self._logged >= LOG_EVERY_S:
            self._logged = now
            logger.info("%s: %s", self._label, self._text(rows))

    def expect(self, rows: int) -> None:
        """Take note that the day has `rows` rows."""
        self._total = rows

    def finish(self, rows: int) -> None:
        """Report the final count."""
        self._report(rows)

    def _text(self, rows: int) -> str:
        rate = rows / max(time.monotonic() - self._started, 1e-9)
        return f"{rows:,} of {self._total:,} rows ({self._percent(rows)} %), {rate:,.0f} rows/s"

    def _percent(self, rows: int) -> int:
        return min(100, 100 * rows // self._total) if self._total else 100

    def _report(self, rows: int) -> None:
        try:
            if self._set_message:
                self._set_message(self._text(rows))
            if self._set_percentage:
                self._set_percentage(self._percent(rows))
        except RPCError as error:
            self._set_message = self._set_percentage = None
            logger.warning("%s: the scheduler takes no progress: %s", self._label, error)
