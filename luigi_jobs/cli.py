"""The operator's command: `luigi-jobs audit`."""

import argparse
import errno
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from datetime import date
from types import FrameType
from typing import TextIO

from luigi_jobs import signals
from luigi_jobs.audit import TableResult, audit_table, choose_tables, find_unknown
from luigi_jobs.compare import EQUAL
from luigi_jobs.errors import LuigiJobsError
from luigi_jobs.logs import printable

DIFFERS, CANNOT_TELL = 1, 2
SETTINGS = "luigi.cfg"
TIDY_S = 4.0

_DESCRIPTION = """Compare MySQL and the lake of luigi.cfg, day by day; nothing is changed.

exit codes: 0 the lake is what MySQL has, 1 something differs, 2 cannot tell
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)
    signals.obey(_stop)
    options = _parse(arguments)
    try:
        return _run(options)
    except _OutputError as error:
        _complain(f"cannot write what was found: {error}")
        return CANNOT_TELL


def _run(options: argparse.Namespace) -> int:
    tables: list[TableResult] = []
    errors: dict[str, str] = {}
    folders: list[str] = []
    objects: list[str] = []
    for table in _audit(options, errors):
        tables.append(table)
        if not options.json:
            _print(_describe(table))
    if not options.table and SETTINGS not in errors:
        with _noting(errors, "lake"):
            folders, objects = find_unknown()
    if options.json:
        _print(_to_json(tables, folders, objects, errors))
    else:
        for folder in folders:
            _print(f"{printable(folder)}/ is no table of luigi.cfg; it was not looked at")
        for key in objects:
            _print(f"{printable(key)} is no table's; nothing removes it but you")
    for name, text in errors.items():
        _complain(f"{printable(name)}: {text}")
    return CANNOT_TELL if errors else DIFFERS if any(table.differs for table in tables) else 0


class _OutputError(Exception):
    """What was found cannot be written."""


def _print(text: str) -> None:
    """Write lines to stdout at once.

    Raises:
        _OutputError: nobody takes them.
    """
    try:
        if sys.stdout is None:  # the command was started with it closed
            raise OSError(errno.EBADF, "stdout is closed")
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except (OSError, UnicodeEncodeError) as error:
        _discard(sys.stdout)
        raise _OutputError(error.strerror if isinstance(error, OSError) else str(error)) from error


def _complain(text: str) -> None:
    """Write an error line to stderr, if it takes one."""
    try:
        sys.stderr.write(f"ERROR: {text}\n")
        sys.stderr.flush()
    except (OSError, AttributeError):
        _discard(sys.stderr)


def _discard(stream: TextIO | None) -> None:
    """Have a stream that cannot be written say no more: Python would, at its end, and exit with a code of its own."""
    if stream is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _stop(number: int, _: FrameType | None) -> None:
    """End, but not without tidying up, and not later than after some seconds."""
    signals.ignore()
    with suppress(OSError):  # the terminal may be gone
        os.write(2, f"ERROR: stopped by {signal.Signals(number).name}; nothing was changed\n".encode())
    timer = threading.Timer(TIDY_S, os._exit, [128 + number])  # S3 may be silent
    timer.daemon = True
    timer.start()
    sys.exit(128 + number)


def _audit(options: argparse.Namespace, errors: dict[str, str]) -> Iterator[TableResult]:
    """Yield what was found of each table; those that cannot be told go into `errors`."""
    chosen: dict[str, date | None] = {}
    with _noting(errors, SETTINGS):
        chosen = choose_tables(options.table, options.start, options.stop)
    for name, start in chosen.items():
        with _noting(errors, name):
            yield audit_table(name, start, options.stop, options.deep)


@contextmanager
def _noting(errors: dict[str, str], name: str) -> Iterator[None]:
    """Go on where one table, or the lake, cannot be told, and take note of it."""
    try:
        yield
    except LuigiJobsError as error:
        errors[name] = f"{type(error).__name__}: {printable(str(error))}"
    except Exception as error:  # a defect of this package: it is not that something differs
        logging.exception("%s: an unexpected error", printable(name))
        errors[name] = type(error).__name__


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="luigi-jobs")
    commands = parser.add_subparsers(dest="command", required=True)
    audit = commands.add_parser(
        "audit",
        description=_DESCRIPTION,
        help="compare MySQL and the lake",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    audit.add_argument("--table", action="append", metavar="NAME", help="a table of luigi.cfg; default: all of them")
    audit.add_argument("--start", type=_parse_day, metavar="DAY", help="first day; default: `since`")
    audit.add_argument("--stop", type=_parse_day, metavar="DAY", help="day to stop before; default: all closed")
    audit.add_argument("--deep", action="store_true", help="compare every value too; reads all of the lake")
    audit.add_argument("--json", action="store_true", help="print JSON")
    return parser.parse_args(arguments)


def _parse_day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: must be a day of the calendar, YYYY-MM-DD") from None


def _to_json(tables: list[TableResult], folders: list[str], objects: list[str], errors: dict[str, str]) -> str:
    """Return all that was found, days that are equal too; `differs` is null where that cannot be told."""
    found = [asdict(table) | {"differs": table.differs} for table in tables]
    differs = any(table.differs for table in tables) or (None if errors else False)
    told = {"differs": differs, "tables": found, "unknown_tables": folders, "others": objects, "errors": errors}
    return json.dumps(told, default=str, indent=2)


def _describe(table: TableResult) -> str:
    """Return the days that differ as a table, other objects, and the commands that repair them."""
    wrong = [day for day in table.days if day.status != EQUAL]
    older = sum(bool(day.detail) for day in table.days if day.status == EQUAL)
    count = sum(table.first <= day.day < table.stop for day in table.days)
    equal = sum(day.status == EQUAL for day in table.days)
    lines = [f"{table.table}: {equal:,} of {count:,} closed days from {table.first} to before {table.stop} are equal"]
    if older:
        lines.append(f"{older:,} of them were loaded before columns were gained or widened, and are as they were")
    if wrong:
        rows = [("day", "status", "MySQL rows", "lake rows", "")]
        rows += [
            (str(day.day), day.status, _number(day.mysql_rows), _number(day.lake_rows), day.detail) for day in wrong
        ]
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        for row in rows:
            day, status, *numbers, detail = row
            left = [day.ljust(widths[0]), status.ljust(widths[1])]
            right = [number.rjust(width) for number, width in zip(numbers, widths[2:], strict=True)]
            lines.append("  ".join([*left, *right, detail]).rstrip())
    lines += [
        f"{key} is no day of this table{', and readers take it for one' if is_data else ''}; nothing removes it but you"
        for key, is_data in table.others.items()
    ]
    if table.commands:
        after = f", with {table.hint}" if table.hint else ""
        lines.append(f"to repair{after} (add --local-scheduler where there is no luigid):")
        lines += [f"  {command}" for command in table.commands]
    return "\n".join(map(printable, lines))


def _number(count: int | None) -> str:
    return "" if count is None else f"{count:,}"


if __name__ == "__main__":
    sys.exit(main())
