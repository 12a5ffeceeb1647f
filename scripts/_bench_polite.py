"""What another client of the server notices of a load: how long its queries for one row take, beside it and alone.

_bench_polite.py TABLE ROWS     asks until its standard input ends, and prints JSON: milliseconds, number of queries
"""

from __future__ import annotations

import json
import random
import select
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from _bench_data import connect

PAUSE_S = 0.002
IDLE_S = 5.0


def ask_again_and_again(table: str, rows: int) -> dict[str, float]:
    """Ask for a row by its key, pause, ask for another one."""
    chance, took = random.Random(1), []
    with connect() as connection, connection.cursor() as cursor:
        while not select.select([sys.stdin], [], [], PAUSE_S)[0]:
            started = time.perf_counter()
            cursor.execute(f"SELECT * FROM {table} WHERE id = %s", (chance.randrange(rows) + 1,))
            cursor.fetchall()
            took.append((time.perf_counter() - started) * 1000)
    percentiles = statistics.quantiles(took, n=100)
    return {"p50_ms": percentiles[49], "p99_ms": percentiles[98], "queries": len(took)}


def beside(table: str, rows: int, load: Callable[[], object] | None) -> dict[str, float]:
    """Return what another client met while `load` ran, or nothing did."""
    command = [sys.executable, __file__, table, str(rows)]
    client = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        if load:
            load()
        else:
            time.sleep(IDLE_S)
    except BaseException:
        client.kill()
        raise
    answer, _ = client.communicate()
    return dict(json.loads(answer))


if __name__ == "__main__":
    print(json.dumps(ask_again_and_again(sys.argv[1], int(sys.argv[2]))))
