"""Imports run down only, and each library has its one place: DESIGN by test."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "luigi_jobs"
# Top to bottom: a module may import those that stand below it.
ORDER = [
    "__init__",
    "cli",
    "audit",
    "deep",
    "compare",
    "tasks",
    "process",
    "results",
    "gaps",
    "refresh",
    "pipeline",
    "extract",
    "evolution",
    "day_of_table",
    "progress",
    "footers",
    "lake",
    "s3_lake",
    "local_lake",
    "stored_days",
    "staging",
    "files",
    "row_groups",
    "convert",
    "transform",
    "reader",
    "retry",
    "fingerprint",
    "plan",
    "slices",
    "stream",
    "source",
    "mysql",
    "memory",
    "runs",
    "watch",
    "signals",
    "overrides",
    "decode",
    "dates",
    "decoders",
    "buffers",
    "config",
    "values",
    "refused",
    "settings",
    "type_table",
    "checksum",
    "schema",
    "facts",
    "layout",
    "days",
    "logs",
    "errors",
    "version",
]
ONLY_IN = {
    "pymysql": {"audit", "fingerprint", "mysql", "plan", "source", "stream"},
    "connectorx": {"stream"},
    "boto3": {"s3_lake"},
    "botocore": {"s3_lake"},
    "luigi.contrib.s3": {"s3_lake"},
    "luigi.configuration": {"config"},
    "pandas": {"transform"},
}
PURE = {
    "checksum",
    "facts",
    "days",
    "layout",
    "schema",
    "type_table",
    "slices",
    "row_groups",
    "overrides",
    "decode",
    "decoders",
    "buffers",
    "dates",
    "refused",
    "settings",
    "errors",
}
IMPURE = {"luigi", "os", "logging", "socket", "pymysql", "boto3", "tempfile", "pathlib"}


def imported(module: str) -> set[str]:
    """The dotted names that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


def test_every_module_has_its_place() -> None:
    assert sorted(ORDER) == sorted(path.stem for path in PACKAGE.glob("*.py"))


@pytest.mark.parametrize("module", ORDER)
def test_imports_run_down_only(module: str) -> None:
    ours = {name.split(".")[1] for name in imported(module) if name.startswith("luigi_jobs.")}

    assert ours & set(ORDER) <= set(ORDER[ORDER.index(module) + 1 :])


@pytest.mark.parametrize(("library", "modules"), ONLY_IN.items())
def test_a_library_is_imported_in_its_one_place(library: str, modules: set[str]) -> None:
    users = {
        module
        for module in ORDER
        if any(name == library or name.startswith(f"{library}.") for name in imported(module))
    }

    assert users == modules


@pytest.mark.parametrize("module", sorted(PURE))
def test_the_core_is_pure(module: str) -> None:
    assert not {name.split(".")[0] for name in imported(module)} & IMPURE


@pytest.mark.parametrize("module", ORDER)
def test_a_module_is_under_300_lines(module: str) -> None:
    assert len((PACKAGE / f"{module}.py").read_text().splitlines()) < 300
