import re
from datetime import UTC, date, datetime

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from project import Project, days_ago

from luigi_jobs.dates import date_batch, dated_type, read_dates
from luigi_jobs.day_of_table import open_day
from luigi_jobs.errors import DecodeError
from luigi_jobs.pipeline import decode_day, extract_day, load_day
from luigi_jobs.refused import Refused
from luigi_jobs.settings import DateRule

FORMATS = [
    *("%d/%m/%Y", "%Y-%m-%d", "%Y%m%d", "%d.%m.%y", "%d %B %Y", "%b %d %Y", "%Y-%j", "%G-W%V-%u", "%d/%m/%Y %%"),
    *("%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f", "%Y-%m-%d %I:%M %p", "%Y%m%d%H%M%S", "%H:%M %d/%m/%Y"),
    *("%Y-%m-%d %H:%M:%S%z", "%Y-%m-%d%z"),
]


def python_date(text: str, form: str) -> date | None:
    """What datetime.strptime says, as the lake has it."""
    try:
        moment = datetime.strptime(text, form)
        if moment.tzinfo:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment if re.search("%[HIMSfp]", form) else moment.date()


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        ("%d/%m/%Y", "31/01/2021", date(2021, 1, 31)),
        ("%d/%m/%Y", "1/2/2021", date(2021, 2, 1)),
        ("%d/%m/%Y", "29/02/2020", date(2020, 2, 29)),
        ("%d/%m/%Y", "01/01/0001", date(1, 1, 1)),
        ("%d/%m/%Y", "31/12/9999", date(9999, 12, 31)),
        ("%d/%m/%Y", None, None),
        ("%d/%m/%y", "31/01/69", date(1969, 1, 31)),
        ("%d %B %Y", "3 March 2021", date(2021, 3, 3)),
        ("%Y-%m-%d %H:%M", "2021-01-31 23:59", datetime(2021, 1, 31, 23, 59)),
        ("%Y-%m-%d %H:%M:%S.%f", "2021-01-31 23:59:58.000001", datetime(2021, 1, 31, 23, 59, 58, 1)),
        ("%Y-%m-%d %H:%M:%S%z", "2021-01-31 23:30:00-0100", datetime(2021, 2, 1, 0, 30, tzinfo=UTC)),
    ],
)
def test_read_dates(form: str, text: str | None, expected: date | None) -> None:
    assert read_dates(pa.array([text], pa.string()), form).to_pylist() == [expected]


@pytest.mark.parametrize(
    ("form", "text"),
    [
        *(("%d/%m/%Y", text) for text in ("", "31/02/2021", "29/02/2021", "00/01/2021", "01/13/2021", "31/01/2021 ")),
        *(("%d/%m/%Y", text) for text in ("31/01/2021x", " 31/01/2021", "31-01-2021", "31/01/21", "31/01/0000")),
        *(("%d/%m/%Y", text) for text in ("31/01/20210", "01/01/999", "01/01/10000", "01/01/-001", "ü")),
        *(("%Y-%m-%d %H:%M:%S", text) for text in ("2021-01-31 24:00:00", "2021-01-31 23:59:60", "2021-01-31")),
        ("%Y-%m-%d%z", "0001-01-01+0100"),
        ("%Y-%m-%d %H%z", "9999-12-31 23-0200"),
    ],
)
def test_read_dates_of_what_is_none_is_null(form: str, text: str) -> None:
    assert read_dates(pa.array([text]), form).to_pylist() == [None]


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        ("%d/%m/%Y", pa.date32()),
        ("%d/%m/%Y %%H", pa.date32()),
        *((f"%d/%m/%Y {time}", pa.timestamp("us")) for time in ("%H", "%I %p", "%H%M", "%H:%M:%S", "%H.%f")),
        ("%d/%m/%Y%z", pa.timestamp("us", "UTC")),
    ],
)
def test_dated_type(form: str, kind: pa.DataType) -> None:
    assert dated_type(form) == kind
    assert read_dates(pa.array([], pa.string()), form).type == kind
    assert read_dates(pa.array([None, "x"]), form).type == kind


@given(
    st.sampled_from(FORMATS),
    st.lists(st.datetimes() | st.datetimes(datetime(1990, 1, 1), datetime(2030, 1, 1)) | st.none(), max_size=8),
    st.integers(0, 3),
    st.text("0123456789/-: xTZ+.", max_size=2),
)
@settings(max_examples=600, deadline=None)
@example("%d/%m/%Y", [datetime(999, 1, 1)], 0, "")
def test_read_dates_is_pythons(form: str, moments: list[datetime | None], start: int, noise: str) -> None:
    printed = [moment and moment.replace(tzinfo=UTC).strftime(form) for moment in moments]
    texts = [text and text[: len(text) - at % 2] + noise * (at % 3 == 2) for at, text in enumerate(printed)] + printed

    read = read_dates(pa.array(texts, pa.string()).slice(start), form)

    assert read.to_pylist() == [None if text is None else python_date(text, form) for text in texts][start:]


@given(st.sampled_from(FORMATS), st.lists(st.text("0123459/-: TZ+.", max_size=12), max_size=8))
@settings(max_examples=600, deadline=None)
def test_read_dates_of_garbage_is_pythons(form: str, texts: list[str]) -> None:
    assert read_dates(pa.array(texts, pa.string()), form).to_pylist() == [python_date(text, form) for text in texts]


def test_read_dates_of_every_day_that_may_be_written() -> None:
    texts = [
        f"{day:02}/{month:02}/{year}" for year in (1900, 2000, 2021, 2024) for month in range(15) for day in range(34)
    ]

    read = read_dates(pa.array(texts), "%d/%m/%Y").to_pylist()

    assert read == [python_date(text, "%d/%m/%Y") for text in texts]
    assert len([day for day in read if day]) == 365 + 366 + 365 + 366


def test_date_batch_keeps_places_and_says_what_it_refused() -> None:
    batch = pa.record_batch({"day": ["31/01/2021", None, "", "31/02/2021", ""], "id": [1, 2, 3, 4, 5]})

    dated, refused = date_batch(batch, [DateRule("day", "%d/%m/%Y")])

    assert dated.schema == pa.schema([("day", pa.date32()), ("id", pa.int64())])
    assert dated["day"].to_pylist() == [date(2021, 1, 31), None, None, None, None]
    assert refused == [Refused("day", "%d/%m/%Y", 2, "", 3)]


@pytest.mark.parametrize("on_decode_error", ["fail", "null"])
def test_days_in_text_come_to_the_lake_as_dates(project: Project, on_decode_error: str) -> None:
    day = days_ago(1)
    project.add_reports([day], rows=3)
    project.configure("table.reports", decode=None, dates="encoded: %d/%m/%Y", on_decode_error=on_decode_error)
    for number, text in enumerate([f"{day:%d/%m/%Y}", None, "31/02/2021"], 1):
        project.cursor.execute("UPDATE reports SET encoded = %s WHERE id = %s", (text, number))
    project.load()
    one = open_day("reports", day)
    extract_day(one)

    if on_decode_error == "fail":
        with pytest.raises(
            DecodeError, match="cannot decode encoded: row id=3 holds '31/02/2021', which is not %d/%m/%Y"
        ):
            decode_day(one)
        project.cursor.execute("UPDATE reports SET encoded = NULL WHERE id = 3")
        extract_day(one)
    decode_day(one)
    load_day(one)

    loaded = project.read(day)
    assert loaded.schema.field("encoded").type == pa.date32()
    assert loaded["encoded"].to_pylist() == [day, None, None]
