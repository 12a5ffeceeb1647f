import base64
import binascii
import gzip
import itertools
import json
import random
import re
import zlib
from collections.abc import Callable
from urllib.parse import quote, quote_from_bytes, unquote_to_bytes

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luigi_jobs import decoders, values
from luigi_jobs.decoders import DECODERS, TooLargeError, decode_column

ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "base64": base64.b64encode,
    "base64url": base64.urlsafe_b64encode,
    "hex": binascii.hexlify,
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "url": lambda value: quote(value).encode(),
    "utf8": bytes,
    "json": lambda value: json.dumps(value.decode()).encode(),
}
TEXT_DECODERS = [name for name in DECODERS if DECODERS[name].type == pa.string()]
MEMBER = gzip.compress(b"one", mtime=0)
STREAM = zlib.compress(b"one" * 99)


def column(items: list[object]) -> pa.Array:
    return pa.array(items, pa.binary() if any(isinstance(item, bytes) for item in items) else pa.string())


@pytest.mark.parametrize(
    ("name", "encoded", "expected"),
    [
        *((name, [], []) for name in DECODERS),
        *((name, [None, None], [None, None]) for name in DECODERS),
        ("base64", ["", None, "QQ==", "QUI=", "QUJD"], [b"", None, b"A", b"AB", b"ABC"]),
        ("base64", ["QUJD\nREVG\r\n", " QQ==", "/+8=", "\t"], [b"ABCDEF", b"A", b"\xff\xef", b""]),
        ("base64", [b"QUJD", None], [b"ABC", None]),
        ("base64url", ["", None, "QQ", "QUI", "QUJD", "QQ==", "QUI="], [b"", None, b"A", b"AB", b"ABC", b"A", b"AB"]),
        ("base64url", ["_-8", b"_-8=".decode(), "--__"], [b"\xff\xef", b"\xff\xef", b"\xfb\xef\xff"]),
        ("base64url", [b"QQ"], [b"A"]),
        ("hex", ["", None, "00fF", "41"], [b"", None, b"\x00\xff", b"A"]),
        ("hex", [b"41"], [b"A"]),
        ("gzip", [MEMBER, None, MEMBER + gzip.compress(b""), MEMBER * 3], [b"one", None, b"one", b"oneoneone"]),
        ("gzip", [MEMBER * 2000], [b"one" * 2000]),
        ("zlib", [STREAM, None, zlib.compress(b"")], [b"one" * 99, None, b""]),
        ("url", ["", None, "a+b", "%41%c3%BC", "100%25", "%2541"], ["", None, "a+b", "Aü", "100%", "%41"]),
        ("url", ["ü%20ü", "plain"], ["ü ü", "plain"]),
        ("url", [b"%E2%82%AC"], ["€"]),
        ("utf8", [b"Z\xc3\xbcrich", None, b"", "😀".encode()], ["Zürich", None, "", "😀"]),
        ("utf8", ["Zürich"], ["Zürich"]),
        ("json", ['{"a":1,"a":2}', None], ['{"a":1,"a":2}', None]),
        ("json", [" [1.50, -0e1] ", '"\\ud800"'], [" [1.50, -0e1] ", '"\\ud800"']),
        ("json", [b'"\xc3\xbc"', b"null"], ['"ü"', "null"]),
        ("json", ["1" * 5000], ["1" * 5000]),
    ],
)  # fmt: skip
def test_decoder(name: str, encoded: list[object], expected: list[object]) -> None:
    decoded, refused = decode_column(column(encoded), DECODERS[name])

    decoded.validate(full=True)
    assert decoded.type == DECODERS[name].type
    assert decoded.to_pylist() == expected
    assert refused == {}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        *(("base64", value, "") for value in ("abc", "abc*", "QQ=A", "=QQQ", "====", "Q===", "QQ==QUI=", "ä===", "=")),
        *(("base64", value, "") for value in ("QUJD====", "QUJD=", "-_8=", "QQ", "QUJ\x0bD", b"QUJ\xff")),
        *(("base64url", value, "") for value in ("Q", "QUJDQ", "/+8=", "_+8", "QQ=", "Q==", "Q===", "QQ===", "QUI==")),
        *(("base64url", value, "") for value in ("=", "QUJD=", "QU JD", "QUI\n", "QQ==QQ==", "ä", b"\xff\xff")),
        *(("hex", value, "") for value in ("abc", "zz", "4 1", "0x41", "ä")),
        ("gzip", b"", "it ends in the middle of a stream"),
        ("gzip", MEMBER[:-1], "it ends in the middle of a stream"),
        ("gzip", MEMBER + b"\0", "it ends in the middle of a stream"),
        ("gzip", MEMBER + b"garbage", "incorrect header check"),
        ("gzip", MEMBER + MEMBER[:9], "it ends in the middle of a stream"),
        ("gzip", MEMBER[:-8] + bytes(8), "incorrect data check"),
        ("gzip", STREAM, "incorrect header check"),
        ("gzip", "plain", "incorrect header check"),
        ("zlib", b"", "it ends in the middle of a stream"),
        ("zlib", STREAM[:-4], "it ends in the middle of a stream"),
        ("zlib", STREAM + b"\0", "something follows the end of the stream"),
        ("zlib", STREAM * 2, "something follows the end of the stream"),
        ("zlib", MEMBER, "incorrect header check"),
        *(("url", value, "a % stands before no two hexadecimal digits") for value in ("%", "a%4", "%zz", "%%41")),
        ("url", "%ff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        ("url", b"\xff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        ("utf8", b"\xff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        ("utf8", b"\xed\xa0\x80", "'utf-8' codec can't decode byte 0xed in position 0: invalid continuation byte"),
        ("json", "", "Expecting value at character 0"),
        ("json", '{"a": 1} x', "Extra data at character 9"),
        ("json", "{'a': 1}", "Expecting property name enclosed in double quotes at character 1"),
        ("json", "[1,]", "Expecting value at character 3"),
        ("json", "[01]", "Expecting ',' delimiter at character 2"),
        ("json", '"\n"', "Invalid control character at character 1"),
        ("json", "\u00a01", "Expecting value at character 0"),
        *(("json", value, "NaN is no value of JSON") for value in ("NaN", '{"a": [NaN]}')),
        ("json", "-Infinity", "-Infinity is no value of JSON"),
        ("json", "[" * 100_000, "it is nested too deeply"),
        ("json", b'"\xff"', "'utf-8' codec can't decode byte 0xff in position 1: invalid start byte"),
    ],
)  # fmt: skip
def test_decoder_refuses_what_is_none_and_decodes_the_rest(name: str, value: str | bytes, reason: str) -> None:
    good = ENCODERS[name](b"A")
    array = pa.array([good, value if isinstance(value, bytes) else value.encode(), None, good])
    if isinstance(value, str) and name not in ("gzip", "zlib"):
        array = array.cast(pa.string())

    decoded, refused = decode_column(array, DECODERS[name])

    decoded.validate(full=True)
    expected = decode_column(column([good]), DECODERS[name])[0][0].as_py()
    assert decoded.to_pylist() == [expected, None, None, expected]
    assert list(refused) == [1]
    assert refused[1] == reason


plain_values = st.lists(st.none() | st.binary(max_size=9), max_size=20)
texts = st.lists(st.none() | st.text(max_size=9).map(str.encode), max_size=20)


@given(st.data(), st.sampled_from(list(DECODERS)))
@settings(max_examples=400, deadline=None)
def test_decoder_undoes_its_encoder_in_any_slice(data: st.DataObject, name: str) -> None:
    items = data.draw(texts if name in TEXT_DECODERS else plain_values)
    start = data.draw(st.integers(0, len(items)))
    length = data.draw(st.integers(0, len(items)))
    encoded = [None if item is None else ENCODERS[name](item) for item in items]
    expected = encoded if name == "json" else items
    if name == "base64url" and data.draw(st.booleans()):
        encoded = [item and item.rstrip(b"=") for item in encoded]

    array = pa.array(encoded, pa.binary())
    if name in ("base64", "base64url", "hex", "url", "json") and data.draw(st.booleans()):
        array = array.cast(pa.string())
    decoded, refused = decode_column(array.slice(start, length), DECODERS[name])

    decoded.validate(full=True)
    assert decoded.type == DECODERS[name].type
    assert decoded.cast(pa.binary()).to_pylist() == expected[start : start + length]
    assert refused == {}


def fits(name: str, value: bytes) -> bytes | None:
    try:
        return DECODERS[name].decode_value(value)
    except ValueError:
        return None


def decode_at_once(name: str, items: list[bytes | None]) -> list[bytes | None] | None:
    try:
        return DECODERS[name].decode_array(pa.array(items, pa.binary())).cast(pa.binary()).to_pylist()
    except ValueError:
        return None


@given(
    st.sampled_from(["base64", "base64url", "hex", "url", "utf8"]),
    st.lists(
        st.none()
        | st.binary(max_size=6)
        | st.text("AQz9+/-_= \n*", max_size=9).map(str.encode)
        | st.text("%4aAfFgG0cC3bB", max_size=9).map(str.encode),
        max_size=5,
    ),
)
@settings(max_examples=1500, deadline=None)
def test_decoder_of_an_array_agrees_with_that_of_a_value(name: str, items: list[bytes | None]) -> None:
    expected = [None if item is None else fits(name, item) for item in items]
    all_legal = [item is None for item in items] == [value is None for value in expected]

    assert decode_at_once(name, items) == (expected if all_legal else None)


def python_base64(value: bytes) -> bytes | None:
    try:
        decoded = base64.b64decode(value, validate=True)
    except binascii.Error:
        return None
    padded = base64.b64encode(decoded)
    return decoded if len(value) == len(padded) and value.count(b"=") == padded.count(b"=") else None


def python_base64url(value: bytes) -> bytes | None:
    if set(value) & set(b"+/"):
        return None
    padding = b"" if value.endswith(b"=") else b"=" * (-len(value) % 4)
    return python_base64(value.replace(b"-", b"+").replace(b"_", b"/") + padding)


@pytest.mark.parametrize(("name", "reference"), [("base64", python_base64), ("base64url", python_base64url)])
def test_base64_is_as_strict_as_pythons_on_every_short_value(name: str, reference: Callable[[bytes], object]) -> None:
    every = [bytes(value) for length in range(9) for value in itertools.product(b"A=*", repeat=length)]
    every += [bytes(value) for length in range(5) for value in itertools.product(b"Q+/-_=*\0\xff", repeat=length)]
    expected = [reference(value) for value in every]

    decoded, refused = decode_column(pa.array(every, pa.binary()), DECODERS[name])

    assert decoded.to_pylist() == expected
    assert list(refused) == [row for row, value in enumerate(expected) if value is None]
    legal = [value for value, wanted in zip(every, expected, strict=True) if wanted is not None]
    assert decode_at_once(name, legal) == [value for value in expected if value is not None]
    for value, wanted in zip(every, expected, strict=True):
        assert wanted is not None or decode_at_once(name, [b"QUJD", value, b"QUJD"]) is None


def test_base64_of_lines_and_of_random_rows_is_pythons() -> None:
    source = random.Random(20210131)
    items = [None if source.random() < 0.1 else source.randbytes(source.randrange(200)) for _ in range(5000)]
    encoded = [None if item is None else base64.encodebytes(item) for item in items]

    decoded, refused = decode_column(pa.array(encoded, pa.binary()), DECODERS["base64"])

    assert decoded.to_pylist() == items
    assert refused == {}


@given(st.lists(st.text("%4aAfFgG0cC3bBü+/", max_size=12), max_size=4))
@settings(max_examples=500, deadline=None)
def test_url_is_pythons_where_every_percent_sign_begins_a_code(items: list[str]) -> None:
    expected: list[str | None] = []
    for item in items:
        try:
            whole = not re.search("%(?![0-9a-fA-F]{2})", item)
            expected.append(unquote_to_bytes(item).decode() if whole else None)
        except UnicodeDecodeError:
            expected.append(None)

    assert decode_column(pa.array(items, pa.string()), DECODERS["url"])[0].to_pylist() == expected


@given(st.lists(st.none() | st.binary(max_size=9), max_size=9))
@settings(deadline=None)
def test_url_of_every_byte_quoted(items: list[bytes | None]) -> None:
    quoted = pa.array([None if item is None else quote_from_bytes(item) for item in items], pa.string())
    texts, refused = decode_column(quoted, DECODERS["url"])

    for row, item in enumerate(items):
        assert (row in refused) == (item is not None and item.decode(errors="replace").encode() != item)
        assert row in refused or texts.cast(pa.binary())[row].as_py() == item


@pytest.mark.parametrize("name", ["base64", "base64url", "hex", "url", "utf8"])
def test_a_null_over_bytes_that_are_none_stays_null(name: str) -> None:
    buffers = pa.array([b"QUJD", b"%*\xff", b"41"]).buffers()
    array = pa.Array.from_buffers(pa.binary(), 3, [pa.py_buffer(bytes([0b100])), *buffers[1:]])

    decoded, refused = decode_column(array.slice(1, 1), DECODERS[name])

    decoded.validate(full=True)
    assert decoded.to_pylist() == [None]
    assert refused == {}


@pytest.mark.parametrize(("name", "compress"), [("gzip", gzip.compress), ("zlib", zlib.compress)])
def test_inflating_is_bounded(name: str, compress: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "MAX_BYTES", 1000)
    largest, bomb = compress(bytes(1000)), compress(bytes(1001))

    assert decode_column(pa.array([largest]), DECODERS[name])[0].to_pylist() == [bytes(1000)]
    decoded, refused = decode_column(pa.array([bomb, compress(b"A")]), DECODERS[name])
    assert (decoded.to_pylist(), refused) == ([None, b"A"], {0: "it inflates to more than 256 MB"})
    with pytest.raises(TooLargeError):
        decode_column(pa.array([largest, compress(b"A")]), DECODERS[name])


def test_a_bomb_is_refused_before_it_is_whole() -> None:
    bomb = gzip.compress(bytes(1 << 20)) * 300

    assert decode_column(pa.array([bomb]), DECODERS["gzip"])[1] == {0: "it inflates to more than 256 MB"}


def test_decoders_are_those_that_the_settings_name() -> None:
    assert tuple(DECODERS) == values.DECODERS
