"""The virtual environment of the other tools, below var/bench, and running them there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import date

import pyarrow.parquet as pq
from _bench_data import BUCKET, empty_prefix, list_objects
from _bench_measure import CommandError, Run, run
from _bench_project import ROOT, WORK
from _clients import open_filesystem

VENV = WORK / "venv"
HOME = WORK / "home"
PYTHON = VENV / "bin/python"
# DuckDB and its extensions must be of one version; the newest whose extensions PyPI has.
DUCKDB = "1.5.5"
REQUIREMENTS = {
    "dlt": ["dlt[parquet,filesystem,s3]", "sqlalchemy", "pymysql", "connectorx", "s3fs"],
    "awswrangler": ["awswrangler", "pymysql"],
    "duckdb": [f"{name}=={DUCKDB}" for name in ("duckdb", "duckdb-extension-mysql", "duckdb-extension-httpfs")]
    + ["duckdb-extensions"],
    "matplotlib": ["matplotlib"],
}
# Why a tool that one would look for is not here.
LEFT_OUT = {
    "Sling": "its command (1.4.11) downloads DuckDB 1.3.1 to write Parquet, which PyPI does not have; "
    "with DuckDB 1.5.5 in its place the file it left was not whole"
}
PACKAGES = {"dlt": "dlt", "awswrangler": "awswrangler", "duckdb": "duckdb"}


def install_peers() -> dict[str, str]:
    """Install what is missing; return {tool: why it cannot be had}."""
    stamp = VENV / "installed.json"
    if stamp.exists() and json.loads(stamp.read_text())["requirements"] == REQUIREMENTS:
        return dict(json.loads(stamp.read_text())["skipped"])
    print("installing the other tools (pip) ...", flush=True)
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
    (WORK / "log").mkdir(exist_ok=True)
    skipped = {}
    for name, requirements in REQUIREMENTS.items():
        with open(WORK / f"log/pip-{name}.log", "w") as log:
            pip = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", *requirements]
            if subprocess.run(pip, stdout=log, stderr=log, check=False).returncode:
                skipped[name] = f"pip cannot install {' '.join(requirements)}"
    if "duckdb" not in skipped:
        run_peer("prepare", "", [])
    stamp.write_text(json.dumps({"requirements": REQUIREMENTS, "skipped": skipped}))
    return skipped


def run_peer(name: str, table: str, days: Sequence[date]) -> Run:
    """Run a tool's copy of days as one process, with a home of its own and nothing left of the last time."""
    shutil.rmtree(HOME / ".dlt", ignore_errors=True)
    empty_prefix(f"{name}/")
    HOME.mkdir(parents=True, exist_ok=True)
    quiet = {"HOME": str(HOME), "RUNTIME__DLTHUB_TELEMETRY": "false", "SLING_DISABLE_TELEMETRY": "true"}
    command = [PYTHON, ROOT / "scripts/_bench_peers.py", name, table, *map(str, days)]
    return run(command, WORK / f"log/{name}.log", WORK, os.environ | quiet)


def copy_days(name: str, table: str, days: Sequence[date], rows: int) -> Run:
    """Have a tool copy days anew, and count the rows it copied.

    Raises:
        CommandError: it failed, or they are not all there.
    """
    result = run_peer(name, table, days)
    if (copied := count_rows(f"{name}/")) != rows:
        raise CommandError(f"copied {copied:,} rows of {rows:,}")
    return result


def count_rows(prefix: str) -> int:
    """Return the number of rows in the Parquet files below a prefix, by their footers."""
    s3 = open_filesystem()
    keys = [key for key in list_objects(prefix) if key.endswith(".parquet")]
    return sum(pq.read_metadata(f"{BUCKET}/{key}", filesystem=s3).num_rows for key in keys)


def read_versions() -> dict[str, str]:
    """Return {tool: its version} of those that are installed."""
    code = (
        "import importlib.metadata as m, json; "
        f"print(json.dumps({{n: m.version(p) for n, p in {PACKAGES!r}.items() if list(m.distributions(name=p))}}))"
    )
    return dict(json.loads(subprocess.run([PYTHON, "-c", code], check=True, capture_output=True, text=True).stdout))


def explain(error: CommandError) -> str:
    """Return the last line that says something, without this machine's paths."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.sub(r"(/[\w.-]+){3,}", "…", lines[-1])[:160]
