import gzip
import time
from datetime import date

import pyarrow as pa
import pytest
from project import table_settings

from luigi_jobs import decoders
from luigi_jobs.convert import Converter
from luigi_jobs.errors import ConfigError, DecodeError, SchemaError
from luigi_jobs.settings import DateRule, DecodeRule

SOURCE = pa.schema([("id", pa.int64()), ("encoded", pa.string()), ("raw", pa.binary())])
RULES = (DecodeRule("encoded", "decoded", ("base64", "utf8")),)


def convert_by(source: pa.Schema = SOURCE, **keys: object) -> Converter:
    return Converter(source, ("id",), table_settings(**keys), "date")


def rows(*encoded: str | None, raw: bytes | None = None) -> pa.RecordBatch:
    items = [{"id": number, "encoded": text, "raw": raw} for number, text in enumerate(encoded)]
    return pa.RecordBatch.from_pylist(items, SOURCE)


def test_convert_fails_at_a_value_that_cannot_be_decoded() -> None:
    converter = convert_by(decode=RULES)

    with pytest.raises(DecodeError, match=r"cannot decode encoded: row id=1 holds '\*', which is not base64; repair"):
        list(converter.convert([rows("QUJD", "*")]))


def test_convert_with_null_keeps_the_other_values_and_counts() -> None:
    converter = convert_by(decode=RULES, on_decode_error="null", dates=(DateRule("decoded", "%Y%m%d"),))

    converted = list(converter.convert([rows("MjAyMTAxMzE=", "*", None), rows("/w=="), rows("MjAyMTAyMzE=", "QUJD")]))

    assert [batch.schema for batch in converted] == [converter.schema] * 3
    assert pa.Table.from_batches(converted)["decoded"].to_pylist() == [date(2021, 1, 31), *[None] * 5]
    assert converter.undecodable == {"encoded": 2, "decoded": 2}


def test_convert_with_null_of_many_wrong_values_is_quick() -> None:
    converter = convert_by(decode=RULES, on_decode_error="null")
    batch = rows(*["*" if row % 10 == 0 else "QUJD" * 16 for row in range(65536)])

    started = time.monotonic()
    (converted,) = converter.convert([batch])

    assert time.monotonic() - started < 2
    assert converter.undecodable == {"encoded": 6554}
    assert converted["decoded"].null_count == 6554


def test_convert_halves_a_batch_that_inflates_too_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "MAX_BYTES", 1000)
    converter = convert_by(decode=(*RULES, DecodeRule("raw", "raw", ("gzip",))), on_decode_error="null")

    converted = list(converter.convert([rows("QUJD", "*", "QUJE", None, raw=gzip.compress(bytes(400)))]))

    assert [batch.num_rows for batch in converted] == [2, 2]
    table = pa.Table.from_batches(converted)
    assert table["id"].to_pylist() == [0, 1, 2, 3]
    assert table["raw"].to_pylist() == [bytes(400)] * 4
    assert converter.undecodable == {"encoded": 1}


def test_convert_reads_dates_before_the_transform_in_the_columns_place() -> None:
    converter = convert_by(decode=RULES, dates=(DateRule("decoded", "%d/%m/%Y"),))

    (converted,) = converter.convert([rows("MzEvMDEvMjAyMQ==")])

    assert converter.schema == pa.schema([("id", pa.int64()), ("decoded", pa.date32()), ("raw", pa.binary())])
    assert converted.to_pylist() == [{"id": 0, "decoded": date(2021, 1, 31), "raw": None}]


@pytest.mark.parametrize(
    ("column", "error", "message"),
    [
        ("encoded", ConfigError, r"dates: there is no column 'encoded' after decoding"),
        ("nope", ConfigError, r"dates: there is no column 'nope' after decoding"),
        ("id", SchemaError, r"column id is int64, and dates are read from text: remove its dates rule"),
        ("raw", SchemaError, r"column raw is binary, and dates are read from text: add `\| utf8` to its decode rule"),
    ],
)
def test_converter_refuses_dates_of_what_is_no_text(column: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        convert_by(decode=RULES, dates=(DateRule(column, "%Y%m%d"),))
