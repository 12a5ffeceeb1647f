"""The pytest option --faults, the markers of fault tests, and the table that docs/faults.md has of them."""

from pathlib import Path
from typing import Any

import pytest

REPORT = Path(__file__).parent.parent / "docs" / "faults.md"
HEAD = """\
# What is done to a load, and what comes out

Written by `./scripts/test --faults`, on a real MySQL server, a real S3 server, and proxies between them and the
luigi command. After every fault seven things are looked at: a reader of the lake never meets a part of a day; the
rows of each day are MySQL's; the plain cron command, run again, fills what is missing; no process, query, upload or
partial file is left; the exit code is 0 exactly when nothing is missing; the error lines say what, why and what to
do; the password stands nowhere. A trial is one run under a fault; a loss is a day whose rows were lost or wrong.

| id | fault | trials | result | losses |
|---|---|---|---|---|
"""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--faults", action="store_true", help="run all fault tests and no others, and write docs/faults.md"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "fault(id, text): what is done to a load, a line of docs/faults.md")
    config.addinivalue_line("markers", "slow_fault: a fault test that runs with --faults only")
    config.pluginmanager.register(FaultReport(config), "fault-report")


class FaultReport:
    """Chooses the tests of a run, and counts what came out of those that are faults."""

    def __init__(self, config: pytest.Config):
        self.is_on = bool(config.getoption("--faults"))
        whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
        self.is_whole = (
            self.is_on
            and whole
            and not config.option.keyword
            and not config.option.markexpr
            and not config.option.ignore
        )
        self.lines: dict[tuple[str, str], list[tuple[str, int, int]]] = {}

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the fault tests alone with --faults, and all but the slow of them without."""
        mark = "fault" if self.is_on else "slow_fault"
        kept = [item for item in items if (item.get_closest_marker(mark) is not None) == self.is_on]
        config.hook.pytest_deselected(items=[item for item in items if item not in kept])
        items[:] = kept

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
        """Note what came out of a fault test, at its end."""
        report = yield
        marker = item.get_closest_marker("fault")
        if marker is None:
            return report
        if report.when == "call" or report.outcome == "failed":
            item.stash[RESULT] = _describe(report)
        if report.when == "teardown":
            facts = dict(item.user_properties)
            entry = (item.stash.get(RESULT, "not run"), int(facts.get("trials", 1)), int(facts.get("losses", 0)))
            self.lines.setdefault(marker.args, []).append(entry)
        return report

    def pytest_sessionfinish(self) -> None:
        """Write the table, when all faults were run."""
        if self.is_whole and self.lines:
            REPORT.write_text(HEAD + "".join(f"{_row(*key, entries)}\n" for key, entries in self._sorted()))

    def _sorted(self) -> list[tuple[tuple[str, str], list[tuple[str, int, int]]]]:
        return sorted(self.lines.items(), key=lambda line: (int(line[0][0][1:]), line[0][1]))


RESULT = pytest.StashKey[str]()


def _describe(report: pytest.TestReport) -> str:
    if hasattr(report, "wasxfail"):
        return f"known: {report.wasxfail}" if report.skipped else "held, though not expected to"
    return {"passed": "held", "skipped": "not run"}.get(report.outcome, "FAILED")


def _row(identifier: str, text: str, entries: list[tuple[str, int, int]]) -> str:
    results = [result for result, *_ in entries]
    counted = [f"{name} ({results.count(name)} of {len(results)})" for name in dict.fromkeys(results)]
    result = results[0] if len(counted) == 1 else "; ".join(counted)
    trials, losses = (sum(numbers) for numbers in list(zip(*entries, strict=True))[1:])
    return f"| {identifier} | {text} | {trials} | {result.replace('|', '/')} | {losses} |"
