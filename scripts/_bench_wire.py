"""The least that reading a day can cost: the binary protocol's rows, received and thrown away unparsed.

_bench_wire.py TABLE DAY best|plain     prints JSON: seconds from sending the query to its last byte, and bytes
_bench_wire.py TABLE DAY check          holds both against a reading that parses every packet and counts the rows
"""

from __future__ import annotations

import json
import select
import struct
import sys
import time
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from typing import Any

from _bench_data import connect

COM_STMT_PREPARE, COM_STMT_EXECUTE = 0x16, 0x17
BUFFER_BYTES = 1 << 20
QUIET_S = 0.02


@dataclass(frozen=True)
class Reading:
    seconds: float
    bytes: int


def write_query(connection: Any, table: str, day: date, plan: str) -> str:
    """Return the SELECT of a day, as anybody would write it or along the primary key."""
    condition = f"date_start >= '{day}' AND date_start < '{day + timedelta(days=1)}'"
    if plan == "plain":
        return f"SELECT * FROM {table} WHERE {condition}"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT MIN(id), MAX(id) FROM {table} WHERE {condition}")
        first, last = cursor.fetchone()
    return f"SELECT * FROM {table} FORCE INDEX (PRIMARY) WHERE id BETWEEN {first} AND {last} AND {condition}"


def prepare(connection: Any, query: str) -> int:
    """Prepare a statement and return its number."""
    connection._execute_command(COM_STMT_PREPARE, query)
    statement, columns, parameters = struct.unpack("<IHH", connection._read_packet().get_all_data()[1:9])
    # Definitions of parameters and of columns follow, each list with an EOF packet behind it.
    for count in filter(None, (parameters, columns)):
        for _ in range(count + 1):
            connection._read_packet()
    return int(statement)


def execute(connection: Any, statement: int) -> None:
    connection._execute_command(COM_STMT_EXECUTE, struct.pack("<IBI", statement, 0, 1))


def discard_rows(connection: Any, query: str) -> Reading:
    """Run a query and throw its answer away; the time is that until the last byte has come."""
    statement = prepare(connection, query)
    socket, buffer = connection._sock, memoryview(bytearray(BUFFER_BYTES))
    total, tail = 0, b""
    started = time.perf_counter()
    execute(connection, statement)
    while True:
        count = socket.recv_into(buffer)
        ended = time.perf_counter()
        if not count:
            raise SystemExit("the server closed the connection before the last row")
        if total == 0 and buffer[4] == 0xFF:
            raise SystemExit(f"the server refused: {bytes(buffer[:count])!r}")
        total += count
        tail = (tail + bytes(buffer[max(0, count - 9) : count]))[-9:]
        # An EOF packet: length 5, sequence number, 0xfe, warnings, status. A row may end like one, so look for silence.
        if tail[:3] == b"\x05\0\0" and tail[4] == 0xFE and not select.select([socket], [], [], QUIET_S)[0]:
            return Reading(ended - started, total)


def parse_rows(connection: Any, query: str) -> tuple[int, int]:
    """Run a query and return (rows, bytes), by reading one packet after the other."""
    statement = prepare(connection, query)
    execute(connection, statement)
    stream, total, rows, ends = connection._rfile, 0, 0, 0
    while ends < 2:
        header = stream.read(4)
        size = int.from_bytes(header[:3], "little")
        body = stream.read(size)
        total += 4 + size
        if body[0] == 0xFE and size == 5:
            ends += 1
        elif ends == 1:
            rows += 1
    return rows, total


def check(table: str, day: date) -> None:
    """Fail unless both ways of reading agree on every byte, and the rows are as many as MySQL counts."""
    for plan in ("best", "plain"):
        with connect() as connection, connection.cursor() as cursor:
            query = write_query(connection, table, day, plan)
            rows, parsed = parse_rows(connection, query)
            discarded = discard_rows(connection, query).bytes
            cursor.execute(f"SELECT COUNT(*) FROM {table} WHERE date_start = %s", (day,))
            (expected,) = cursor.fetchone()
        print(f"{plan}: {rows:,} rows of {expected:,}, {parsed:,} bytes parsed, {discarded:,} discarded")
        if rows != expected or parsed != discarded:
            raise SystemExit("these are not the same")


def main(table: str, day: str, plan: str) -> None:
    if plan == "check":
        check(table, date.fromisoformat(day))
        return
    with connect() as connection:
        reading = discard_rows(connection, write_query(connection, table, date.fromisoformat(day), plan))
    print(json.dumps(asdict(reading)))


if __name__ == "__main__":
    main(*sys.argv[1:])
