"""The three steps of one day of ours, one after the other in this process: prints JSON of seconds.

Run in the folder of luigi.cfg: _bench_stages.py TABLE DAY
"""

import json
import logging
import sys
import time
from datetime import date

from luigi_jobs.day_of_table import open_day
from luigi_jobs.pipeline import decode_day, extract_day, load_day


def main(table: str, day: str) -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    one = open_day(table, date.fromisoformat(day))
    seconds = {}
    for name, step in {"extract": extract_day, "decode": decode_day, "load": load_day}.items():
        started = time.perf_counter()
        step(one)
        seconds[name] = time.perf_counter() - started
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
