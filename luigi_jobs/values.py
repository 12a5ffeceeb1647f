"""The texts of luigi.cfg -> values; each function raises ValueError with what is wanted."""

import os
import re
import tempfile
from collections.abc import Callable
from datetime import UTC, date, datetime, tzinfo
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from luigi_jobs.settings import DateRule, DecodeRule, FingerprintRule, TypeRule

FIRST_MYSQL_DAY = date(1000, 1, 1)  # https://dev.mysql.com/doc/refman/8.4/en/datetime.html
DECODERS = ("base64", "base64url", "hex", "gzip", "zlib", "url", "utf8", "json")
TYPES = (
    *("boolean", "int8", "int16", "int32", "int64", "float", "double"),
    *("string", "binary", "date", "timestamp", "timestamp_utc"),
)
# Not %c, %x and %X, which are the locale's, nor %Z, which strptime reads and does not heed.
DATE_DIRECTIVES = set("aAbBdfGHIjmMpSuUVwWyYz%")
_PROBE = datetime(2024, 12, 30, 22, 59, 58, 987654, UTC)


def parse_text(text: str) -> str:
    """Return a text that is not empty."""
    if not text:
        raise ValueError("is empty")
    return text


def parse_anything(text: str) -> str:
    """Return the text."""
    return text


def parse_integer(minimum: int, maximum: int) -> Callable[[str], int]:
    """Return a reader of whole numbers in a range."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not minimum <= int(text) <= maximum:
            raise ValueError(f"must be a whole number from {minimum} to {maximum}")
        return int(text)

    return parse


def parse_hours(text: str) -> float:
    """Read a number of hours."""
    if not re.fullmatch(r"\d{1,4}(\.\d+)?", text, re.ASCII):
        raise ValueError("must be a number of hours, 0 or more")
    return float(text)


def parse_choice(*choices: str) -> Callable[[str], str]:
    """Return a reader of one of a few words."""

    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return text

    return parse


def parse_file(text: str) -> str:
    """Return the path of a file that is there, or nothing."""
    if text and not os.path.isfile(text):
        raise ValueError("is no file")
    return text


def parse_folder(text: str) -> str:
    """Return an absolute path; the default is a folder of the user's in the temporary folder."""
    path = os.path.abspath(os.path.expanduser(text or os.path.join(tempfile.gettempdir(), f"luigi_jobs-{os.getuid()}")))
    if path == "/":
        raise ValueError("must not be the root of the file system")
    return path


def parse_date(text: str) -> date:
    """Read a day that MySQL can hold."""
    try:
        day = date.fromisoformat(text) if re.fullmatch(r"[\d-]{10}", text, re.ASCII) else None
    except ValueError:
        day = None
    if day is None or day < FIRST_MYSQL_DAY:
        raise ValueError(f"must be a date, YYYY-MM-DD, not before {FIRST_MYSQL_DAY}")
    return day


def parse_zone(text: str) -> tzinfo:
    """Read the name of a time zone."""
    if text == "UTC":
        return UTC
    try:
        return ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError("must be a time zone such as Europe/Berlin (and the machine needs tzdata)") from None


def parse_url(text: str) -> tuple[str | None, str]:
    """Return (bucket, prefix) of an s3:// URL or (None, path) of a folder; both end in a slash or are empty."""
    folder = text.removeprefix("file://")
    if folder and "://" not in folder:
        return None, os.path.join(os.path.abspath(os.path.expanduser(folder)), "")
    url = urlsplit(text)
    segments = url.path.strip("/").split("/")
    if url.scheme != "s3" or not url.netloc or url.query or url.fragment or {".", ".."} & set(segments):
        raise ValueError("must be s3://bucket/prefix or a local folder")
    return url.netloc, "".join(f"{segment}/" for segment in segments if segment)


def parse_partition_key(text: str) -> str:
    """Return a word that Hive takes for a partition key."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", text):
        raise ValueError("must be a lower-case word: letters, digits and underscores")
    return text


def parse_decode(text: str) -> tuple[DecodeRule, ...]:
    """Read decode rules, one a line."""
    rules = []
    for line in filter(None, map(str.strip, text.splitlines())):
        match = re.fullmatch(r"(\S.*?)\s*->\s*(\S.*?)\s*:\s*([\w\s|]+)", line)
        if not match:
            raise ValueError(f"{line!r} is not `source -> target: decoder`")
        decoders = tuple(part.strip() for part in match[3].split("|"))
        unknown = [decoder for decoder in decoders if decoder not in DECODERS]
        if unknown:
            raise ValueError(f"no decoder {unknown[0]!r}; known are {', '.join(DECODERS)}")
        rules.append(DecodeRule(match[1], match[2], decoders))
    return tuple(rules)


def parse_dates(text: str) -> tuple[DateRule, ...]:
    """Read dates rules, one a line; a percent sign is written `%` or, as in every key, `%%`."""
    rules = []
    for line in filter(None, map(str.strip, text.replace("%%", "%").splitlines())):
        match = re.fullmatch(r"(\S.*?)\s*:\s*(\S.*)", line)
        if not match:
            raise ValueError(f"{line!r} is not `column: format`")
        if reason := _check_format(match[2]):
            raise ValueError(f"format {match[2]!r} {reason}")
        rules.append(DateRule(match[1], match[2]))
    return tuple(rules)


def _check_format(form: str) -> str | None:
    """Say why a format of strptime does not say which day, or which hour, a text means; None when it does."""
    used = set(re.findall("%(.?)", form, re.DOTALL))
    if unknown := sorted(used - DATE_DIRECTIVES):
        return f"has {f'%{unknown[0]}'!r}, which is none of {' '.join(f'%{one}' for one in sorted(DATE_DIRECTIVES))}"
    if ("I" in used) != ("p" in used):
        return "has one of %I and %p without the other"
    try:
        read = datetime.strptime(_PROBE.strftime(form), form)
    except (ValueError, re.error) as error:
        return f"cannot be read: {error}"
    if read.date() != _PROBE.date():
        return "does not say which year, month and day"
    if used & set("HIMSf") and read.hour != _PROBE.hour:
        return "has no hour"
    return None


def parse_transform(text: str) -> str:
    """Return the name of a function, or nothing."""
    if text and not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", text):
        raise ValueError("must be package.module:function")
    return text


def parse_fingerprint(text: str) -> FingerprintRule:
    """Read what is taken of a day to tell whether it has changed."""
    if text in ("count", "checksum"):
        return FingerprintRule(text)
    match = re.fullmatch(r"max\(\s*(\S.*?)\s*\)", text, re.IGNORECASE)
    if not match:
        raise ValueError("must be count, max(COLUMN) or checksum")
    return FingerprintRule("max", match[1])


def parse_types(text: str) -> tuple[TypeRule, ...]:
    """Read types rules, one a line."""
    rules: list[TypeRule] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        column, colon, name = (part.strip() for part in line.rpartition(":"))
        if not colon or not column:
            raise ValueError(f"{line!r} is not `column: type`")
        if column in [rule.column for rule in rules]:
            raise ValueError(f"column {column!r} stands in two rules")
        if name not in TYPES and not _is_decimal(name):
            raise ValueError(f"no type {name!r}; known are {', '.join(TYPES)} and decimal(p,s) with p up to 38")
        rules.append(TypeRule(column, name))
    return tuple(rules)


def _is_decimal(name: str) -> bool:
    match = re.fullmatch(r"decimal\(\s*(\d{1,2})\s*,\s*(\d{1,2})\s*\)", name, re.ASCII)
    return match is not None and 1 <= int(match[1]) <= 38 and int(match[2]) <= int(match[1])
