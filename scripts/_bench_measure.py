"""Runs a command as a user would, and says how long it took and how much memory its processes had.

Memory is anonymous memory (RssAnon of /proc/PID/status): what the kernel cannot drop under pressure. The page cache and
mapped files are not in it. A page that a forked child still shares with its parent counts twice in the sum.
"""

from __future__ import annotations

import os
import resource
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

SAMPLE_EVERY_S = 0.02
TIMEOUT_S = 1800


@dataclass(frozen=True)
class Run:
    """One run of a command: wall and CPU time, and the peaks of all its processes together and of the largest."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    peak_process_bytes: int

    def to_json(self) -> dict[str, float]:
        return asdict(self)


class CommandError(Exception):
    """A command that did not end with exit code 0; the text is the end of what it printed."""


def run(command: Sequence[str | Path], log: Path, cwd: Path, environment: dict[str, str]) -> Run:
    """Run a command to its end, its output in a file.

    Raises:
        CommandError: it failed.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with open(log, "w") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        watch = MemoryWatch(process.pid)
        watch.start()
        try:
            code = process.wait(TIMEOUT_S)
            seconds = time.perf_counter() - started
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        finally:
            watch.stop()
    if code:
        raise CommandError(f"exit code {code}\n" + "\n".join(log.read_text().splitlines()[-12:]))
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Run(seconds, cpu, watch.peak_bytes, watch.peak_process_bytes)


class MemoryWatch(threading.Thread):
    """Samples the memory of a process and all that descend from it until it is stopped."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = self.peak_process_bytes = 0
        self._members = {root}
        self._strangers = set(map(int, filter(str.isdigit, os.listdir("/proc")))) - {root}
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(SAMPLE_EVERY_S):
            self._find_members()
            sizes = [anonymous_bytes(pid) for pid in self._members]
            self.peak_bytes = max(self.peak_bytes, sum(sizes))
            self.peak_process_bytes = max(self.peak_process_bytes, *sizes)

    def stop(self) -> None:
        self._done.set()
        self.join()

    def _find_members(self) -> None:
        """Look at processes that are new only: a listing of /proc is cheap, reading every process is not."""
        running = set(map(int, filter(str.isdigit, os.listdir("/proc"))))
        self._strangers &= running
        for pid in sorted(running - self._strangers - self._members):
            (self._members if parent_of(pid) in self._members else self._strangers).add(pid)


def parent_of(pid: int) -> int:
    try:
        # The second field is the program's name in parentheses, and may hold anything.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0


def anonymous_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/status") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon")), 0)
    except OSError:
        return 0


def median(values: Sequence[float]) -> float:
    return statistics.median(values)
