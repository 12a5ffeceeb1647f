"""Ours as a user runs it: a folder with a luigi.cfg, and the luigi command."""

from __future__ import annotations

import configparser
import json
import os
import shutil
import sys
from datetime import date
from pathlib import Path

from _bench_data import BUCKET, DAYS, Tables, empty_prefix, first_of_years
from _bench_measure import CommandError, Run, run

ROOT = Path(__file__).parent.parent
WORK = ROOT / "var/bench"
SLOW_DISK_BYTES_PER_S = 20_000_000  # that of tests/slow_disk.py
LUIGI = Path(sys.executable).with_name("luigi")


def write_config(tables: Tables) -> None:
    """Write luigi.cfg: the shipped one, with the bench's tables in the place of its own."""
    config = configparser.ConfigParser(interpolation=None)
    config.optionxform = str  # type: ignore[assignment,method-assign]
    config.read(ROOT / "luigi.cfg")
    del config["table.reports"]
    config["mysql"]["port"] = "${MYSQL_PORT}"
    lake = {
        "url": f"s3://{BUCKET}/lake",
        "staging_dir": escape(WORK / "staging"),
        "settle_hours": "0",
    }
    config["lake"].update(lake)
    config["s3"] = {"endpoint_url": "${S3_ENDPOINT_URL}", "region_name": "${AWS_DEFAULT_REGION}"}
    config["core"]["lock_pid_dir"] = escape(WORK / "lock")
    decode = {"decode": "encoded -> decoded: base64"}
    sources = {"reports": tables.large, "small": tables.small, "tiny": tables.tiny, "wide": tables.wide}
    for name, source in sources.items():
        config[f"table.{name}"] = {"source": source, "date_column": "date_start", "since": str(DAYS[0])}
        config[f"table.{name}"].update({} if name == "wide" else decode)
    config["table.years"] = {"source": tables.tiny, "date_column": "date_start", "since": str(first_of_years())}
    WORK.mkdir(parents=True, exist_ok=True)
    with open(WORK / "luigi.cfg", "w") as file:
        config.write(file)


def escape(path: Path) -> str:
    return str(path).replace("%", "%%")


def run_luigi(name: str, *arguments: str, module: str = "luigi_jobs", **variables: str) -> Run:
    """Run the luigi command to its end; its output is in log/NAME.log."""
    command = [LUIGI, "--module", module, *arguments, "--local-scheduler"]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")} | variables
    return run(command, WORK / f"log/{name}.log", WORK, environment)


def load_day(name: str, table: str, day: date, module: str = "luigi_jobs", **variables: str) -> Run:
    """Load a day anew."""
    forget_days(table)
    return run_luigi(name, "LoadDay", "--date", str(day), "--table", table, module=module, **variables)


def load_day_slowly(table: str, day: date) -> dict[str, float]:
    """Load a day anew with a staging disk of 20 MB/s; fail unless it was one."""
    written = WORK / "written.txt"
    written.unlink(missing_ok=True)
    result = load_day("slow", table, day, module="slow_disk", SLOW_DISK_BYTES=str(written))
    staged = sum(map(int, written.read_text().split()))
    if not 0 < staged <= result.seconds * SLOW_DISK_BYTES_PER_S:
        raise CommandError(f"{staged:,} bytes were staged in {result.seconds:.1f} s: that was no slow disk")
    return result.to_json() | {"staged_bytes": staged}


def backfill(name: str, table: str, workers: int) -> Run:
    """Load all the bench's days anew."""
    forget_days(table)
    stop = date.fromordinal(DAYS[-1].toordinal() + 1)
    return run_luigi(
        name, "Backfill", "--table", table, "--start", str(DAYS[0]), "--stop", str(stop), "--workers", str(workers)
    )  # fmt: skip


def time_stages(table: str, day: date) -> dict[str, float]:
    """Load a day anew and return the seconds of each stage."""
    forget_days(table)
    log = WORK / "log/stages.log"
    run([sys.executable, ROOT / "scripts/_bench_stages.py", table, str(day)], log, WORK, dict(os.environ))
    return dict(json.loads(log.read_text().splitlines()[-1]))


def count_lists() -> int:
    """Return the number of LIST requests of a Backfill that has nothing to do."""
    requests = WORK / "requests.txt"
    requests.unlink(missing_ok=True)
    run_luigi("lists", "Backfill", "--table", "years", module="counting", COUNT_REQUESTS=str(requests))
    return sum(line.startswith("List") for line in requests.read_text().splitlines())


def forget_days(table: str) -> None:
    """Remove a table's days from the lake and from staging."""
    empty_prefix(f"lake/{table}/")
    shutil.rmtree(WORK / "staging" / table, ignore_errors=True)
