"""Running `luigi-jobs audit`, and files of a lake that are not what they were."""

import json
import subprocess
import sys
from datetime import date
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from project import Project

TRANSFORM = """
def tidy(frame):
    return frame.assign(spend=frame["spend"] * 2)[lambda frame: frame["account"].notna()]
"""


def audit(project: Project, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "luigi_jobs.cli", "audit", *arguments],
        cwd=project.folder,
        env=project.environment | {"LUIGI_CONFIG_PATH": "luigi.cfg"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def find(project: Project, *arguments: str) -> dict[str, str]:
    """Return the days of reports that differ, and how, after a look whether the exit code says so."""
    run = audit(project, "--json", *arguments)
    found = json.loads(run.stdout)
    days = {day["day"]: day["status"] for table in found["tables"] for day in table["days"] if day["status"] != "equal"}
    assert run.returncode == int(found["differs"]), run.stderr
    return days


def rewrite(project: Project, day: date, change: Any, *, is_told: bool = True) -> None:
    """Replace a day's file by one with another table, whose footer says the same, or nothing of ours."""
    path = project.folder / "rewritten"
    table = project.read(day)
    pq.write_table(change(table).replace_schema_metadata(table.schema.metadata if is_told else None), path)
    project.s3.upload_file(str(path), project.bucket, project.key(day))


def drop_first(table: pa.Table) -> pa.Table:
    return table.slice(1)


def change_a_value(table: pa.Table) -> pa.Table:
    return table.set_column(0, "id", pc.add(table["id"], pa.array([0, 0, 1])))


def in_capitals(table: pa.Table) -> pa.Table:
    return table.rename_columns([name.upper() for name in table.schema.names])
