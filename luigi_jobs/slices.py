"""A day in slices: ranges of a key, each about as many bytes as memory should hold. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import ceil

from luigi_jobs.schema import quote_name

UNKNOWN_ROW_BYTES = 16 * 1024
PARTS_OF_A_FULL_SLICE = 8
FEW_POINTS = 1024
# Every query of connectorx leaves three sleeping threads behind, until the process ends.
MAX_SLICES = 128
FIRST_SLICE_BYTES = 8 * 1024 * 1024

_EPOCH = datetime(1, 1, 1)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Cut:
    """The points [low, high) of an axis."""

    low: int
    high: int


@dataclass(frozen=True)
class Axis:
    """The column along which a day is cut, and the points [low, high) between which the day lies.

    Attributes:
        is_moment: points are microseconds since the year 1, not values of an integer key.
        fixed: a condition that holds for every row on the axis, so that an index on it and then the column serves.
        rest: the condition of those rows of the day for which `fixed` does not hold.
    """

    column: str
    low: int
    high: int
    is_moment: bool = False
    fixed: str = ""
    rest: str = ""

    def condition(self, cut: Cut) -> str:
        """Return the condition of the rows in a cut."""
        name = quote_name(self.column)
        if self.is_moment:
            low, high = (f"'{_EPOCH + point * _MICROSECOND}'" for point in (cut.low, cut.high))
            return f"{name} >= {low} AND {name} < {high}"
        between = f"{name} BETWEEN {cut.low} AND {cut.high - 1}"
        return f"{self.fixed} AND {between}" if self.fixed else between


def moment_axis(column: str, first: str, stop: str) -> Axis:
    """Return the axis of a day along its own DATETIME or TIMESTAMP column, from `first` to before `stop`."""
    low, high = ((datetime.fromisoformat(text) - _EPOCH) // _MICROSECOND for text in (first, stop))
    return Axis(column, low, high, is_moment=True)


class Slicer:
    """Cuts an axis into slices of `slice_bytes` at most, by what those before turned out to hold.

    A day that fits is one slice. Else the first is small, and slices grow only while whoever takes the rows is quicker
    than MySQL: the fast driver does not wait for a slow disk, so what piles up there is a slice.

    Args:
        rows: how many rows lie on the axis.
        row_bytes: bytes of a row as the server's statistics have it; 0 when they do not say.
        slice_bytes: how large a slice may be.
    """

    def __init__(self, axis: Axis, rows: int, row_bytes: int, slice_bytes: int):
        self.row_bytes: float = row_bytes or UNKNOWN_ROW_BYTES
        fits = rows * self.row_bytes <= slice_bytes
        # The day's own condition is enough for one slice, with all that is on the axis or beside it.
        self.axis = replace(axis, fixed="", rest="") if fits else axis
        self._rows_left = rows
        self._slice_bytes = slice_bytes
        self._target = slice_bytes if fits else min(slice_bytes, FIRST_SLICE_BYTES)
        self._next = axis.low
        self._slices_left = MAX_SLICES

    @property
    def is_used_up(self) -> bool:
        """Say whether every slice was taken."""
        return self._next >= self.axis.high

    def take(self) -> Cut | None:
        """Return the next slice, or None when the axis is used up."""
        left = self.axis.high - self._next
        if left <= 0:
            return None
        bytes_left = self._rows_left * self.row_bytes
        self._slices_left = max(1, self._slices_left - 1)
        slices = max(1, min(left, ceil(bytes_left / max(self._target, bytes_left / self._slices_left))))
        cut = Cut(self._next, min(self._next - (-left // slices), self.axis.high))
        self._rows_left -= self._rows_left * (cut.high - cut.low) // left
        self._next = cut.high
        return cut

    def learn(self, rows: int, size: int, is_taken_quickly: bool) -> None:
        """Take note that a slice held `rows` rows of `size` bytes in all, and whether MySQL was what took the time."""
        if rows:
            self.row_bytes = max(1.0, size / rows)
        self._target = self._target * 2 if is_taken_quickly else self._target // 2
        self._target = min(max(self._target, FIRST_SLICE_BYTES), self._slice_bytes)

    def split(self, cut: Cut) -> list[Cut]:
        """Return the parts of a slice that proved too full, in order; none when it is small enough as it is."""
        self.row_bytes *= PARTS_OF_A_FULL_SLICE
        points = cut.high - cut.low
        if points <= FEW_POINTS:
            return []
        width = -(-points // PARTS_OF_A_FULL_SLICE)
        return [Cut(low, min(low + width, cut.high)) for low in range(cut.low, cut.high, width)]
