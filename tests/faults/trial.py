"""A run of luigi under a fault, held against the invariants."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date

from invariants import (
    Onlooker,
    Reader,
    find_secret,
    find_unequal,
    judge_code,
    judge_output,
    wait_until_alone,
    wait_until_clean,
)
from project import Project
from s3_proxy import S3Proxy
from tcp_proxy import TcpProxy

RUN_TIMEOUT_S = 120.0


@dataclass(frozen=True)
class Run:
    """How a luigi command ended, what it printed, and how long it took."""

    code: int
    output: str
    seconds: float


@dataclass
class Trial:
    """A project behind two proxies, and the days that its table must have in the lake in the end.

    Attributes:
        user: the MySQL user that luigi logs in as, whose password is the canary.
        condition: the WHERE clause of a day's rows, with {day}.
        lost: days whose rows were lost or wrong, in any look at the lake.
        runs: runs under a fault.
    """

    project: Project
    mysql: TcpProxy
    s3: S3Proxy
    user: str
    days: list[date] = field(default_factory=list)
    table: str = "reports"
    condition: str = "date_start = '{day}'"
    lost: set[date] = field(default_factory=set)
    runs: int = 0
    is_healed: bool = True

    @property
    def missing(self) -> list[date]:
        """Return the days that are not in the lake."""
        return sorted(set(self.days) - set(self.project.days(self.table)))

    def run(
        self,
        *arguments: str,
        cause: str = "(?!)",
        module: str = "luigi_jobs",
        exempt: Mapping[str, str] = {},
        within_s: float = RUN_TIMEOUT_S,
        during: Callable[[subprocess.Popen[str]], object] = lambda process: None,
        ended_by: signal.Signals | None = None,
        scheduler: str = "",
    ) -> Run:
        """Run Backfill under the fault, and hold it against every invariant but the last, which is `heal`.

        Args:
            arguments: more than the table.
            cause: a pattern of the error line that says why days are missing.
            module: the tests' variant of luigi_jobs.
            exempt: invariants that this fault cannot be held to, with the reason.
            within_s: when the run must have ended.
            during: is called when the run has begun.
            ended_by: the signal by which `during`, or the module, ends the whole run; nobody is left to tidy up after
                SIGKILL, so of I4 only the part of the processes holds.
            scheduler: luigid's URL.
        """
        self.runs += 1
        self.is_healed = False
        reader = Reader(self.project, [self.project.key(day, self.table) for day in self.days])
        process = self.project.start("Backfill", "--table", self.table, *arguments, module=module, scheduler=scheduler)
        onlooker = Onlooker(process.pid)
        is_killed = ended_by == signal.SIGKILL
        try:
            try:
                during(process)
            except BaseException:
                os.killpg(process.pid, signal.SIGKILL)
                raise
            run = _finish(process, within_s)
            group = process.pid
            left = wait_until_alone(group) if is_killed else wait_until_clean(self.project, group, self.user)
        finally:
            reader.stop()
            onlooker.stop()
        assert self.mysql.failures == []
        assert onlooker.seen, "no process of the run was seen"
        missing = self.missing
        wrong = {
            "I1 reader": "; ".join(reader.wrong) or self._find_unread(reader, missing),
            "I2 equal": "" if "I2" in exempt else self._find_unequal(),
            "I4 clean": left,
            "I5 honest": _judge_end(run.code, ended_by) if ended_by else judge_code(run.code, missing),
            "I6 useful": (
                _judge_last_words(run.output, ended_by)
                if ended_by
                else judge_output(run.output, self.table, missing, cause)
            ),
            "I7 no secret": find_secret(self.project, run.output, onlooker.seen, scheduler),
        }
        found = {name: text for name, text in wrong.items() if text and name[:2] not in exempt}
        assert not found, f"{found}\n{run.output}"
        return run

    def heal(self, lift: Callable[[], object] | None = None) -> Run:
        """Take the fault away, and hold the plain cron command against I3: everything is filled, nothing is left."""
        self.mysql.lift()
        self.s3.lift()
        if lift:
            lift()
        process = self.project.start("Backfill", "--table", self.table)
        run = _finish(process, RUN_TIMEOUT_S)
        left = wait_until_clean(self.project, process.pid, self.user) or self.project.staged()
        unequal = self._find_unequal()
        assert (run.code, self.missing, unequal, left) == (0, [], "", []), run.output
        self.is_healed = True
        return run

    def _find_unread(self, reader: Reader, missing: list[date]) -> str:
        """Return the keys in the lake that the reader has not met, though it has looked once more in the end."""
        there = {self.project.key(day, self.table) for day in set(self.days) - set(missing)}
        unread = sorted(there - set(reader.seen))
        return f"never read {unread}" if unread else ""

    def _find_unequal(self) -> str:
        unequal = find_unequal(self.project, self.table, set(self.days) - set(self.missing), self.condition)
        self.lost.update(unequal)
        return ", ".join(map(str, unequal))


def _judge_end(code: int, ended_by: signal.Signals) -> str:
    expected = -ended_by if ended_by == signal.SIGKILL else 128 + ended_by
    return "" if code == expected else f"exit code {code} after {ended_by.name}"


def _judge_last_words(output: str, ended_by: signal.Signals) -> str:
    if "Traceback" in output:
        return "a traceback"
    last = output.splitlines()[-1]
    is_said = ended_by == signal.SIGKILL or re.fullmatch(
        rf"ERROR: stopped by {ended_by.name}( at \S+ .+)?; to go on: luigi --module luigi_jobs .+", last
    )
    return "" if is_said else f"the last line is {last!r}"


def _finish(process: subprocess.Popen[str], within_s: float) -> Run:
    started = time.monotonic()
    try:
        output, _ = process.communicate(timeout=within_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        raise AssertionError(f"the run has not ended within {within_s:g} s\n{output}") from None
    return Run(process.returncode, output, time.monotonic() - started)
