"""The decoders: an array of text or bytes -> an array of the same length; NULL stays NULL. Pure.

Each has a function of one value, which says what is legal, and most have one of a whole array, which does the same by a
few calls. The table `DECODERS` at the end maps their names to both.
"""

import binascii
import json
import re
import urllib.parse
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pybase64

from luigi_jobs.buffers import binary_array, buffer_and_offsets, remove_bytes

MAX_MB = 256
MAX_BYTES = MAX_MB << 20
_CHUNK_BYTES = 16384
_GZIP, _ZLIB = 31, 15  # wbits: https://docs.python.org/3/library/zlib.html#zlib.decompressobj
_BLANKS = b" \t\r\n"
_PAD = ord("=")
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_HEX_DIGITS = np.full(256, 16, np.uint8)
_HEX_DIGITS[list(b"0123456789abcdef")] = range(16)
_HEX_DIGITS[list(b"ABCDEF")] = range(10, 16)


class TooLargeError(Exception):
    """The values of an array are too many bytes once decoded: decode the rows in smaller parts."""


@dataclass(frozen=True)
class Decoder:
    """One decoder.

    Attributes:
        type: what the values become.
        decode_value: bytes to bytes; raises ValueError for what is none, with the reason where there is one to tell.
        decode_array: the same for a whole array; raises ValueError when any value is refused.
    """

    type: pa.DataType
    decode_value: Callable[[bytes], bytes]
    decode_array: Callable[[pa.Array], pa.Array] | None = None


def decode_column(array: pa.Array, decoder: Decoder) -> tuple[pa.Array, dict[int, str]]:
    """Decode N values to N values; a value that is refused becomes NULL.

    Returns:
        The values, and the reason for each place that was refused, in order.

    Raises:
        TooLargeError: the values of two rows or more are above MAX_MB once decoded.
    """
    if decoder.decode_array:
        with suppress(ValueError):
            return decoder.decode_array(array), {}
    decoded: list[bytes | None] = []
    refused: dict[int, str] = {}
    size = 0
    for row, value in enumerate(array.cast(pa.binary()).to_pylist()):
        result = None
        if value is not None:
            try:
                result = decoder.decode_value(value)
            except ValueError as error:
                refused[row] = str(error)
            else:
                size += len(result)
                if size > MAX_BYTES and row:
                    raise TooLargeError
        decoded.append(result)
    return pa.array(decoded, pa.binary()).cast(decoder.type), refused


def decode_base64_value(value: bytes) -> bytes:
    """Decode standard base64 (RFC 4648), padded, blanks and line breaks ignored as MIME does."""
    value = value.translate(None, _BLANKS)
    if len(value) % 4 or not re.fullmatch(rb"[A-Za-z0-9+/]*={0,2}", value):
        raise ValueError
    return binascii.a2b_base64(value)


def decode_base64url_value(value: bytes) -> bytes:
    """Decode URL-safe base64 (RFC 4648, section 5), padded or not."""
    digits = value.rstrip(b"=")
    padding = b"=" * (-len(digits) % 4)
    if not re.fullmatch(rb"[A-Za-z0-9_-]*", digits) or len(padding) > 2 or value not in (digits, digits + padding):
        raise ValueError
    return binascii.a2b_base64(digits.translate(_TO_STANDARD) + padding)


def decode_hex_value(value: bytes) -> bytes:
    """Decode pairs of hexadecimal digits, either case."""
    try:
        return binascii.unhexlify(value)
    except binascii.Error:
        raise ValueError from None


def decode_gzip_value(value: bytes) -> bytes:
    """Inflate a gzip file (RFC 1952): one whole member or several."""
    return _inflate(value, _GZIP)


def decode_zlib_value(value: bytes) -> bytes:
    """Inflate one whole zlib stream (RFC 1950)."""
    return _inflate(value, _ZLIB)


def decode_url_value(value: bytes) -> bytes:
    """Decode percent-encoded UTF-8 (RFC 3986); a plus stays a plus."""
    if re.search(rb"%(?![0-9A-Fa-f]{2})", value):
        raise ValueError("a % stands before no two hexadecimal digits")
    return decode_utf8_value(urllib.parse.unquote_to_bytes(value))


def decode_utf8_value(value: bytes) -> bytes:
    """Check that bytes are UTF-8 text."""
    value.decode()
    return value


def decode_json_value(value: bytes) -> bytes:
    """Check that bytes are one JSON document (RFC 8259) in UTF-8, and leave it as it is."""
    try:
        _JSON.decode(value.decode())
    except json.JSONDecodeError as error:
        raise ValueError(f"{error.msg.removesuffix(' at')} at character {error.pos}") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return value


def decode_base64(array: pa.Array) -> pa.Array:
    """Decode standard base64, the whole array by one call."""
    buffer, offsets = buffer_and_offsets(array)
    try:
        return binary_array(array, *_decode_quads(buffer, offsets))
    except ValueError:
        blank = np.flatnonzero(np.isin(buffer, np.frombuffer(_BLANKS, np.uint8), kind="table"))
        if not len(blank):
            raise
        return binary_array(array, *_decode_quads(*remove_bytes(buffer, offsets, blank)))


def decode_base64url(array: pa.Array) -> pa.Array:
    """Decode URL-safe base64, the whole array by one call once missing paddings are put in."""
    buffer, offsets = buffer_and_offsets(array)
    if (buffer == ord("+")).any() or (buffer == ord("/")).any():  # the call would take both alphabets
        raise ValueError("a letter is not of this alphabet")
    missing = -np.diff(offsets) % 4
    if missing.any():
        if (buffer[offsets[1:][missing > 0] - 1] == _PAD).any():
            raise ValueError("a padding is not whole")
        offsets = offsets + np.concatenate(([0], np.cumsum(missing)))
        given = np.ones(offsets[-1], bool)
        for count in (1, 2, 3):
            given[offsets[1:][missing >= count] - count] = False
        padded = np.full(offsets[-1], _PAD, np.uint8)
        padded[given] = buffer
        buffer = padded
    return binary_array(array, *_decode_quads(buffer, offsets, b"-_"))


def decode_hex(array: pa.Array) -> pa.Array:
    """Decode pairs of hexadecimal digits, the whole array by one call."""
    buffer, offsets = buffer_and_offsets(array)
    if (offsets % 2).any():
        raise ValueError("a number of digits is odd")
    return binary_array(array, np.frombuffer(binascii.unhexlify(buffer.data), np.uint8), offsets // 2)


def decode_url(array: pa.Array) -> pa.Array:
    """Decode percent-encoded UTF-8; an array without a percent sign is left as it is."""
    buffer, offsets = buffer_and_offsets(array)
    percents = np.flatnonzero(buffer == ord("%"))
    if not len(percents):
        return decode_utf8(array)
    if (percents + 2 >= offsets[np.searchsorted(offsets, percents, side="right")]).any():
        raise ValueError("a value ends in the middle of a code")
    high, low = _HEX_DIGITS[buffer[percents + 1]], _HEX_DIGITS[buffer[percents + 2]]
    if ((high | low) > 15).any():
        raise ValueError("a code is not hexadecimal")
    buffer = buffer.copy()
    buffer[percents] = high << 4 | low
    digits = (percents[:, np.newaxis] + (1, 2)).ravel()
    return decode_utf8(binary_array(array, *remove_bytes(buffer, offsets, digits)))


def decode_utf8(array: pa.Array) -> pa.Array:
    """Read bytes as UTF-8 text, without a copy."""
    return array.cast(pa.string())


def _inflate(value: bytes, wbits: int) -> bytes:
    parts, size = [], 0
    stream = zlib.decompressobj(wbits)
    for start in range(0, len(value), _CHUNK_BYTES):
        chunk = value[start : start + _CHUNK_BYTES]
        while chunk:
            if stream.eof and wbits == _ZLIB:
                raise ValueError("something follows the end of the stream")
            if stream.eof:
                stream = zlib.decompressobj(wbits)
            try:
                part = stream.decompress(chunk, MAX_BYTES - size + 1)
            except zlib.error as error:
                raise ValueError(str(error).rpartition(": ")[2]) from None
            size += len(part)
            if size > MAX_BYTES:
                raise ValueError(f"it inflates to more than {MAX_MB} MB")
            parts.append(part)
            chunk = stream.unused_data
    if not stream.eof:
        raise ValueError("it ends in the middle of a stream")
    return b"".join(parts)


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no value of JSON")


def _decode_quads(
    buffer: np.ndarray, offsets: np.ndarray, letters: bytes | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Decode values of whole groups of four by one call.

    Paddings become zero bits, and the bytes they made are cut out after; a padding in another place is refused by the
    call, for something follows it in the buffer.
    """
    if (offsets % 4).any():
        raise ValueError("a length is no multiple of 4")
    filled = np.flatnonzero(np.diff(offsets))
    ends = offsets[filled + 1]
    one = buffer[ends - 1] == _PAD
    if not one.any():
        return _decode_full_quads(buffer, letters), offsets // 4 * 3
    two = one & (buffer[ends - 2] == _PAD)
    buffer = buffer.copy()
    buffer[ends[one] - 1] = buffer[ends[two] - 2] = ord("A")
    decoded = _decode_full_quads(buffer, letters)
    kept = np.ones(len(decoded), bool)
    kept[ends[one] // 4 * 3 - 1] = kept[ends[two] // 4 * 3 - 2] = False
    paddings = np.zeros(len(offsets), np.int64)
    paddings[filled + 1] = one.astype(np.int64) + two
    return decoded[kept], offsets // 4 * 3 - np.cumsum(paddings)


def _decode_full_quads(buffer: np.ndarray, letters: bytes | None) -> np.ndarray:
    decoded = np.frombuffer(pybase64.b64decode(buffer.data, letters, validate=True), np.uint8)
    if len(decoded) != len(buffer) // 4 * 3:
        raise ValueError("a padding stands inside a value")
    return decoded


# A number is not made one: Python's have a limit of digits that JSON's have not.
_JSON = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse_constant)

DECODERS: dict[str, Decoder] = {
    "base64": Decoder(pa.binary(), decode_base64_value, decode_base64),
    "base64url": Decoder(pa.binary(), decode_base64url_value, decode_base64url),
    "hex": Decoder(pa.binary(), decode_hex_value, decode_hex),
    "gzip": Decoder(pa.binary(), decode_gzip_value),
    "zlib": Decoder(pa.binary(), decode_zlib_value),
    "url": Decoder(pa.string(), decode_url_value, decode_url),
    "utf8": Decoder(pa.string(), decode_utf8_value, decode_utf8),
    "json": Decoder(pa.string(), decode_json_value),
}
