"""How this process handles its memory."""

import ctypes
from contextlib import suppress

M_ARENA_MAX = -8


def spare() -> None:
    """Have this process keep little of what its threads free.

    Source: mallopt(3), M_ARENA_MAX.
    """
    with suppress(OSError, AttributeError):  # not the GNU C library
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)
