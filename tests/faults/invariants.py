"""What holds after every fault: I1 to I7 of the fault table, each a function that says what is wrong, or nothing."""

import json
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from io import BytesIO
from pathlib import Path
from urllib.parse import quote, quote_plus

import pyarrow.parquet as pq
from botocore.exceptions import ClientError
from processes import group_members
from project import Project, ask_luigid, hash_rows

from luigi_jobs.days import format_days
from luigi_jobs.schema import quote_name

CANARY = "cañary%/@'\"p:ß"
CLEAN_WITHIN_S = 5.0
DOCUMENTED_CODES = (10, 20, 25, 30, 35, 40)  # README, "Operating it"


@dataclass
class Reader:
    """I1: reads every final key again and again, past all proxies, and keeps what was no whole Parquet file."""

    project: Project
    keys: list[str]
    seen: dict[str, set[str]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    reads: int = 0

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, name="reader", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Read everything once more, then end."""
        self._stopped.set()
        self._thread.join()

    def _read(self) -> None:
        while True:
            is_last = self._stopped.is_set()
            for key in self.keys:
                self._read_one(key)
            if is_last:
                return
            self._stopped.wait(0.02)

    def _read_one(self, key: str) -> None:
        try:
            answer = self.project.s3.get_object(Bucket=self.project.bucket, Key=key)
        except ClientError:
            return  # absent
        data = answer["Body"].read()
        self.reads += 1
        etags = self.seen.setdefault(key, set())
        if answer["ETag"] in etags:
            return
        etags.add(answer["ETag"])
        try:
            pq.ParquetFile(BytesIO(data)).read()
        except Exception as error:  # noqa: BLE001  # whatever a reader of half a file meets
            self.wrong.append(f"{key}: {len(data)} bytes are no Parquet file: {error}")


def find_unequal(project: Project, table: str, days: Iterable[date], condition: str) -> list[date]:
    """I2: return the days whose object holds other rows than MySQL has; `condition` picks a day's rows as {day}."""
    return [day for day in days if not _is_equal(project, table, day, condition.format(day=day))]


def _is_equal(project: Project, table: str, day: date, condition: str) -> bool:
    """Compare the columns that the object has, which may be fewer than a table has that gained some since."""
    try:
        loaded = project.read(day, table).sort_by("id")
    except Exception:  # noqa: BLE001  # an object that cannot be read is a day that is lost
        return False
    names = loaded.schema.names
    project.cursor.execute(f"SELECT * FROM {quote_name(table)} LIMIT 0")
    there = [column[0] for column in project.cursor.description]
    decoded = ["decoded"] if "encoded" in there else []
    if not set(names) <= {*there, *decoded} or not {*decoded, "id"} <= set(names) or "encoded" in names:
        return False
    selected = ", ".join(quote_name(name) if name in there else f"FROM_BASE64(encoded) {name}" for name in names)
    project.cursor.execute(f"SELECT {selected} FROM {quote_name(table)} WHERE {condition} ORDER BY id")
    rows = [dict(zip(names, row, strict=True)) for row in project.cursor.fetchall()]
    plain = [
        {name: value.replace(tzinfo=None) if isinstance(value, datetime) else value for name, value in row.items()}
        for row in loaded.to_pylist()
    ]
    return hash_rows(plain) == hash_rows(rows)


def wait_until_clean(project: Project, group: int, user: str) -> str:
    """I4: return what a run has left behind that is not gone within five seconds."""
    deadline = time.monotonic() + CLEAN_WITHIN_S
    while (left := _find_left(project, group, user)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


def wait_until_alone(group: int, within_s: float = CLEAN_WITHIN_S) -> str:
    """The part of I4 that holds when the whole run was killed: return which of its processes live on."""
    deadline = time.monotonic() + within_s
    while (members := group_members(group)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return f"processes {members}" if members else ""


def _find_left(project: Project, group: int, user: str) -> str:
    if processes := group_members(group):
        return f"processes {processes}"
    project.cursor.execute(
        "SELECT id, command, LEFT(info, 80) FROM information_schema.processlist WHERE user = %s AND command <> 'Sleep'",
        (user,),
    )
    if queries := project.cursor.fetchall():
        return f"queries {queries}"
    answer = project.s3.list_multipart_uploads(Bucket=project.bucket, Prefix=f"{project.prefix}/")
    if uploads := [upload["Key"] for upload in answer.get("Uploads", ())]:
        return f"uploads {uploads}"
    partial = [path for path in project.staged() if path.endswith(".partial")]
    return f"partial files {partial}" if partial else ""


def judge_code(code: int, missing: list[date]) -> str:
    """I5: 0 when every day asked for is in the lake, and only then; otherwise a documented code."""
    if (code == 0) == (not missing) and (code == 0 or code in DOCUMENTED_CODES):
        return ""
    return f"exit code {code} with {len(missing)} days missing"


def judge_output(output: str, table: str, missing: list[date], cause: str) -> str:
    """I6: return what the output fails to say of the days that are missing, and why.

    The last error line names table, days, cause and next command. Days may be missing for several causes: one above it
    names the table and matches `cause`. Where S3 or MySQL do not tell which days are missing, the line says so.
    """
    if "Traceback" in output:
        return "a traceback"
    if not missing:
        return ""
    errors = [line for line in output.splitlines() if line.startswith("ERROR: ")]
    if not any(table in line and re.search(cause, line) for line in errors):
        return f"no error line of {table} says {cause!r}"
    days = re.escape(format_days(missing))
    whole = rf"ERROR: {table}: \d+ of \d+ closed days missing from the lake: {days}; last error: .+; to load: luigi .+"
    unknown = rf"ERROR: .*{table}: cannot tell which of \d+ closed days from \S+ on are missing: .+; to load: luigi .+"
    return "" if re.fullmatch(rf"{whole}|{unknown}", errors[-1]) else f"the last error line is {errors[-1]!r}"


@dataclass
class Onlooker:
    """For I7: keeps every command line that `ps` shows of a run's processes."""

    group: int
    seen: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._look, name="onlooker", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it."""
        self._stopped.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stopped.wait(0.05):
            for process in group_members(self.group):
                with suppress(OSError):  # it has ended
                    self.seen.add(Path(f"/proc/{process}/cmdline").read_bytes())


def find_secret(project: Project, output: str, command_lines: Iterable[bytes] = (), scheduler: str = "") -> str:
    """I7: return where the password stands, in any shape a driver may print it; `scheduler` is luigid's URL, if any."""
    shapes = {CANARY, repr(CANARY)[1:-1], ascii(CANARY)[1:-1], quote(CANARY, safe=""), quote_plus(CANARY), "ary%/@"}
    bodies = {"output": output.encode(), "command lines": b"\n".join(command_lines)}
    bodies |= {str(path): path.read_bytes() for path in project.staging.rglob("*") if path.is_file()}
    keys = project.keys()
    for key in keys:
        bodies[key] = project.s3.get_object(Bucket=project.bucket, Key=key)["Body"].read()
    if scheduler:
        with suppress(OSError):  # luigid itself was the fault
            bodies |= {f"luigid {name}": body for name, body in _read_pages(scheduler)}
    return ", ".join(name for name, body in bodies.items() if any(shape.encode() in body for shape in shapes))


def _read_pages(scheduler: str) -> Iterator[tuple[str, bytes]]:
    """Yield what luigid's API, which its pages show, knows of tasks and their errors."""

    def ask(name: str, **arguments: str) -> bytes:
        return json.dumps(ask_luigid(scheduler, name, **arguments), ensure_ascii=False).encode()

    yield "workers", ask("worker_list")
    tasks = ask_luigid(scheduler, "task_list", status="", upstream_status="")
    yield "tasks", json.dumps(tasks, ensure_ascii=False).encode()
    for name, task in tasks.items():
        if task["status"] == "FAILED":
            yield name, ask("fetch_error", task_id=name)
