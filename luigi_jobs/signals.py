"""The signals that tell a process to end, and who obeys them."""

import signal
from collections.abc import Callable
from types import FrameType

_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def obey(stop: Callable[[int, FrameType | None], None]) -> None:
    """Have `stop` called when this process is told to end; by SIGHUP not where it was started to outlive it (nohup)."""
    for number in _ENDING:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, stop)


def ignore() -> None:
    """Be told no more: this process is ending."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)


def leave_to_parent() -> None:
    """Undo in a forked process what its parent obeys: SIGTERM ends it, what a terminal sends to all is its parent's."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
