import pytest

from luigi_jobs.slices import MAX_SLICES, Axis, Cut, Slicer, moment_axis

MB = 1024 * 1024


def take_all(slicer: Slicer) -> list[Cut]:
    cuts = []
    while cut := slicer.take():
        cuts.append(cut)
    return cuts


@pytest.mark.parametrize(
    ("axis", "cut", "condition"),
    [
        (Axis("id", 1, 11), Cut(1, 6), "`id` BETWEEN 1 AND 5"),
        (Axis("id", 0, 2**64), Cut(2**63, 2**64), "`id` BETWEEN 9223372036854775808 AND 18446744073709551615"),
        (Axis("id", 1, 11, fixed="`d` = '2021-01-31'"), Cut(1, 2), "`d` = '2021-01-31' AND `id` BETWEEN 1 AND 1"),
        (
            moment_axis("a`t", "2021-01-31 00:00:00", "2021-02-01 00:00:00"),
            Cut(63747648000000001, 63747734400000000),
            "`a``t` >= '2021-01-31 00:00:00.000001' AND `a``t` < '2021-02-01 00:00:00'",
        ),
    ],
)
def test_condition_of_a_cut(axis: Axis, cut: Cut, condition: str) -> None:
    assert axis.condition(cut) == condition


def test_moment_axis_is_the_day_in_microseconds() -> None:
    axis = moment_axis("at", "2021-03-28 00:00:00", "2021-03-28 23:00:00")

    assert axis.high - axis.low == 23 * 3600 * 10**6


@pytest.mark.parametrize(
    ("low", "high", "rows", "row_bytes"),
    [
        (1, 2_000_001, 2_000_000, 160),
        (-7, 3, 10, 100),
        (5, 6, 1, 0),
        (0, 2**64, 3, 0),
        (0, 10**6, 10**6, 0),
        (1, 8, 0, 0),
    ],
)
@pytest.mark.parametrize("is_taken_quickly", [True, False])
def test_slices_cover_the_axis_once_and_in_order(
    low: int, high: int, rows: int, row_bytes: int, is_taken_quickly: bool
) -> None:
    slicer = Slicer(Axis("id", low, high), rows, row_bytes, 64 * MB)
    ends = [low]

    while cut := slicer.take():
        assert cut.low == ends[-1] < cut.high
        ends.append(cut.high)
        slicer.learn(min(rows, cut.high - cut.low), 200 * min(rows, cut.high - cut.low), is_taken_quickly)

    assert ends[-1] == high
    assert slicer.is_used_up


def test_a_day_that_fits_is_one_slice_by_its_own_condition() -> None:
    axis = Axis("id", 1, 400_001, fixed="`d` = '2021-01-31'", rest="`d` > '2021-01-31'")

    slicer = Slicer(axis, 400_000, 160, 64 * MB)

    assert take_all(slicer) == [Cut(1, 400_001)]
    assert (slicer.axis.fixed, slicer.axis.rest) == ("", "")


def test_slices_begin_small_and_grow_while_they_are_taken_quickly() -> None:
    slicer = Slicer(Axis("id", 0, 4_000_000), 4_000_000, 128, 64 * MB)
    widths = []

    while cut := slicer.take():
        widths.append(cut.high - cut.low)
        slicer.learn(cut.high - cut.low, 128 * (cut.high - cut.low), is_taken_quickly=True)

    sizes = [width * 128 / MB for width in widths]
    assert sizes[0] <= 8
    assert sizes[1] <= 16
    assert sizes == sorted(sizes)
    assert 32 < sizes[-1] <= 64


def test_slices_stay_small_while_their_taker_is_slow_and_shrink_when_it_becomes_so() -> None:
    slicer = Slicer(Axis("id", 0, 4_000_000), 4_000_000, 128, 64 * MB)
    sizes = []

    while cut := slicer.take():
        size = 128 * (cut.high - cut.low)
        sizes.append(size / MB)
        slicer.learn(cut.high - cut.low, size, is_taken_quickly=len(sizes) in (4, 5))

    assert max(sizes[:4]) <= 8
    assert 16 < sizes[5] <= 32
    assert max(sizes[7:]) <= 8


def test_rows_that_are_larger_than_the_statistics_say_make_smaller_slices() -> None:
    slicer = Slicer(Axis("id", 0, 1_000_000), 1_000_000, 100, 64 * MB)
    first = slicer.take()
    assert first
    slicer.learn(first.high - first.low, 1000 * (first.high - first.low), is_taken_quickly=True)

    second = slicer.take()

    assert second
    assert (second.high - second.low) * 1000 <= 17 * MB


def test_split_covers_the_cut_and_expects_larger_rows() -> None:
    slicer = Slicer(Axis("id", 0, 10_000), 10_000, 1000, MB)

    parts = slicer.split(Cut(3, 3003))

    assert [(part.low, part.high) for part in parts] == [(low, low + 375) for low in range(3, 3003, 375)]
    assert slicer.row_bytes == 8000
    assert slicer.split(Cut(3, 1027)) == []


def test_a_day_is_never_more_than_so_many_slices() -> None:
    slicer = Slicer(Axis("id", 0, 10**9), 10**9, 100, 64 * MB)
    count = 0

    while cut := slicer.take():
        slicer.learn(cut.high - cut.low, 100 * (cut.high - cut.low), is_taken_quickly=False)
        count += 1

    assert count <= MAX_SLICES
