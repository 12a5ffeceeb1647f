import base64
import random

import pyarrow as pa
import pytest

from luigi_jobs import config
from luigi_jobs.decode import DECODERS, decode_base64, decode_batch, decode_hex, decode_utf8, decoded_schema
from luigi_jobs.errors import DecodeError, SchemaError
from luigi_jobs.settings import DecodeRule


@pytest.mark.parametrize(
    ("decode", "values", "expected"),
    [
        (decode_base64, [], []),
        (decode_base64, [None, None], [None, None]),
        (decode_base64, ["", None, "QQ==", "QUI=", "QUJD"], [b"", None, b"A", b"AB", b"ABC"]),
        (decode_base64, ["QUJD\nREVG\r\n", " QQ==", "/+8="], [b"ABCDEF", b"A", b"\xff\xef"]),
        (decode_base64, [b"QUJD", None], [b"ABC", None]),
        (decode_hex, ["", None, "00fF", "41"], [b"", None, b"\x00\xff", b"A"]),
        (decode_hex, [], []),
        (decode_utf8, [b"Z\xc3\xbcrich", None, b"", "😀".encode()], ["Zürich", None, "", "😀"]),
    ],
)
def test_decoder(decode: object, values: list[object], expected: list[object]) -> None:
    array = pa.array(values, pa.binary() if any(isinstance(value, bytes) for value in values) else pa.string())

    decoded = decode(array)  # type: ignore[operator]

    decoded.validate(full=True)
    assert decoded.to_pylist() == expected


@pytest.mark.parametrize(
    ("decode", "value"),
    [
        (decode_base64, "abc"),
        (decode_base64, "abc*"),
        (decode_base64, "QQ=A"),
        (decode_base64, "=QQQ"),
        (decode_base64, "===="),
        (decode_base64, "Q==="),
        (decode_base64, "QQ==QUI="),
        (decode_base64, "ä==="),
        (decode_hex, "abc"),
        (decode_hex, "zz"),
        (decode_utf8, b"\xff"),
    ],
)
def test_decoder_of_what_is_none_raises(decode: object, value: object) -> None:
    good = ["QUJD", "41", "41"][[decode_base64, decode_hex, decode_utf8].index(decode)]
    array = pa.array([good.encode() if isinstance(value, bytes) else good, value])

    with pytest.raises((ValueError, pa.ArrowException)):
        decode(array)  # type: ignore[operator]


def test_decode_base64_is_pythons_on_random_values_and_slices() -> None:
    source = random.Random(20210131)
    values = [None if source.random() < 0.1 else source.randbytes(source.randrange(9)) for _ in range(5000)]
    array = pa.array([None if value is None else base64.b64encode(value).decode() for value in values])

    assert decode_base64(array).to_pylist() == values
    for start, length in [(0, 0), (1, 1), (17, 900), (4999, 1), (5000, 0)]:
        assert decode_base64(array.slice(start, length)).to_pylist() == values[start : start + length]
        assert decode_hex(pa.array([v and v.hex() for v in values]).slice(start, length)).to_pylist() == [
            values[row] for row in range(start, start + length)
        ]


def test_decode_batch_puts_the_target_in_the_place_of_its_source() -> None:
    batch = pa.record_batch({"id": [1, 2], "encoded": ["QUJD", None], "other": ["x", "y"]})
    rules = [DecodeRule("encoded", "decoded", ("base64", "utf8")), DecodeRule("other", "other", ("hex",))]

    with pytest.raises(DecodeError, match="cannot decode other: row id=1 holds 'x', which is not hex"):
        decode_batch(batch, rules, ("id",))
    decoded = decode_batch(batch, rules[:1], ("id",))

    assert decoded.schema == pa.schema([("id", pa.int64()), ("decoded", pa.string()), ("other", pa.string())])
    assert decoded.to_pylist() == [{"id": 1, "decoded": "ABC", "other": "x"}, {"id": 2, "decoded": None, "other": "y"}]


def test_decode_batch_names_the_row_that_fails() -> None:
    batch = pa.record_batch({"a": [7, 7], "b": [1, 2], "encoded": ["QUJD", "\x1b[31m" + "Q" * 100]})

    with pytest.raises(DecodeError) as caught:
        decode_batch(batch, [DecodeRule("encoded", "decoded", ("base64",))], ("a", "b"))

    assert caught.value.column == "encoded"
    assert str(caught.value).startswith("cannot decode encoded: row a=7, b=2 holds '\\x1b[31mQQQQQQQQQQQQQQQ")
    assert "..." in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_decoded_schema_refuses_what_it_cannot_do() -> None:
    schema = pa.schema([("id", pa.int64()), ("encoded", pa.string())])

    assert decoded_schema(schema, [DecodeRule("encoded", "decoded", ("base64",))]) == pa.schema(
        [("id", pa.int64()), ("decoded", pa.binary())]
    )
    with pytest.raises(SchemaError, match="holds nothing to decode"):
        decoded_schema(schema, [DecodeRule("id", "decoded", ("base64",))])
    with pytest.raises(SchemaError, match="has a column id already"):
        decoded_schema(schema, [DecodeRule("encoded", "id", ("base64",))])


def test_decoders_are_those_that_the_settings_name() -> None:
    assert tuple(DECODERS) == config.DECODERS
