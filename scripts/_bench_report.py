"""What scripts/bench found: goals, tables, docs/performance.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from _bench_measure import median

BEGIN, END = "<!-- bench -->", "<!-- /bench -->"
MB = 1_000_000
Runs = dict[str, list[dict[str, float]]]

NAMES = {
    "ours": "luigi_jobs, decoding base64",
    "dlt": "dlt (connectorx backend, streaming)",
    "duckdb": "DuckDB (mysql_query to COPY, zstd)",
    "awswrangler": "awswrangler (PyMySQL), one run",
    "wire_best": "bare wire, along the primary key",
    "wire_plain": "bare wire, the plain query",
    "memory_large": "a day of the large table",
    "memory_tiny": "a day of one fortieth of its rows",
    "memory_wide": "300 rows of 4 MB",
    "memory_slow": "the large day, staging disk of 20 MB/s",
    "backfill_ours": "luigi_jobs, `Backfill --workers 2`",
    "backfill_dlt": "dlt, one process, one day after the other",
    "polite_idle": "alone",
    "polite_ours": "beside luigi_jobs, LoadDay",
    "polite_dlt": "beside dlt",
    "polite_wire": "beside the bare wire",
}
COPIES = ["ours", "dlt", "duckdb", "awswrangler"]


def middle(runs: Runs, name: str, field: str = "seconds") -> float | None:
    """Return the median of a field, None when there is no such run."""
    values = [run[field] for run in runs.get(name, ())]
    return median(values) if values else None


def divide(one: float | None, other: float | None) -> float | None:
    return one / other if one is not None and other else None


def judge(runs: Runs) -> list[dict[str, Any]]:
    """Hold what was measured against the goals; those whose parts were not run are left out."""
    memory = {name: middle(runs, f"memory_{name}", "peak_bytes") for name in ("large", "tiny", "wide", "slow")}
    in_mb = {name: divide(value, MB) for name, value in memory.items()}
    extract = middle(runs, "stages", "extract")
    # Rows are the same on both sides, so rows/s are as the seconds the other way round.
    faster = divide(middle(runs, "backfill_dlt"), middle(runs, "backfill_ours"))
    goals = [
        ("LoadDay, × dlt's time", divide(middle(runs, "ours"), middle(runs, "dlt")), "<=", 0.50),
        ("extract, × the best wire's time", divide(extract, middle(runs, "wire_best")), "<=", 1.25),
        ("peak memory of a large day, MB", in_mb["large"], "<=", 350),
        ("the same, × that of a small day", divide(memory["large"], memory["tiny"]), "<=", 1.5),
        ("peak memory of 300 rows of 4 MB, MB", in_mb["wide"], "<=", 400),
        ("peak memory of a large day with a disk of 20 MB/s, MB", in_mb["slow"], "<=", 350),
        # The Parquet file of the slow disk is written through Python, which copies what it writes.
        ("the same, × that with a fast disk", divide(memory["slow"], memory["large"]), "<=", 1.25),
        ("Backfill, × dlt's rows/s", faster, ">=", 2.5),
        ("nothing to do over ten years, s", middle(runs, "nothing"), "<=", 1.5),
        ("nothing to do over ten years, LIST requests", middle(runs, "nothing_lists", "lists"), "<=", 4),
    ]  # fmt: skip
    return [
        {
            "goal": name,
            "value": value,
            "limit": f"{sign} {limit}",
            "holds": value <= limit if sign == "<=" else value >= limit,
        }
        for name, value, sign, limit in goals
        if value is not None
    ]


def describe_run(run: dict[str, float]) -> str:
    """Return a run's numbers in a few words."""
    words = []
    for name, value in run.items():
        if name.endswith("bytes"):
            words.append(f"{name.removesuffix('_bytes')} {value / MB:,.0f} MB")
        else:
            words.append(f"{name} {value:.2f}" if isinstance(value, float) else f"{name} {value}")
    return ", ".join(words)


# --- tables


def format_tables(result: dict[str, Any]) -> str:
    """Return everything as Markdown, which reads well on a terminal too."""
    runs, facts = result["runs"], result["facts"]
    rows, small = facts["rows"], 6 * (facts["rows"] // 4)
    tables = [
        format_copies(f"One day of {rows:,} rows to S3, the whole process", runs, rows, COPIES, "ours"),
        format_stages(runs),
        format_memory(runs),
        format_copies("Backfill of six days", runs, small, ["backfill_ours", "backfill_dlt"], "backfill_ours"),
        format_nothing(runs),
        format_polite(runs),
        format_goals(result["goals"]),
        format_facts(facts, result["skipped"]),
    ]
    return "\n\n".join(filter(None, tables))


def format_table(header: list[str], lines: list[list[str]]) -> str:
    widths = [max(len(line[index]) for line in [header, *lines]) for index in range(len(header))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]

    def join(line: list[str]) -> str:
        cells = [
            line[0].ljust(widths[0]),
            *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)),
        ]
        return "| " + " | ".join(cells) + " |"

    return "\n".join(join(line) for line in [header, rule, *lines])


def spread(runs: Runs, name: str, field: str = "seconds") -> list[str]:
    """Return least, median and most."""
    values = [run[field] for run in runs[name]]
    return [f"{value:.2f}" for value in (min(values), median(values), max(values))]


def format_copies(title: str, runs: Runs, rows: int, names: list[str], first: str) -> str:
    lines = []
    for name in names:
        if name not in runs:
            continue
        seconds = middle(runs, name) or 0.0
        ratio = divide(seconds, middle(runs, first))
        lines.append(
            [
                NAMES[name],
                *spread(runs, name),
                f"{middle(runs, name, 'cpu_seconds'):.2f}",
                f"{ratio:.2f}" if ratio else "",
                f"{rows / seconds:,.0f}",
                f"{(middle(runs, name, 'peak_bytes') or 0) / MB:,.0f}",
            ]
        )
    header = ["", "least s", "median s", "most s", "CPU s", "× ours", "rows/s", "peak MB"]
    return f"**{title}**\n\n{format_table(header, lines)}" if lines else ""


def format_stages(runs: Runs) -> str:
    lines = []
    best = middle(runs, "wire_best")
    entries = [(f"luigi_jobs, {stage}", "stages", stage) for stage in ("extract", "decode", "load")]
    entries += [(NAMES[name], name, "seconds") for name in ("wire_best", "wire_plain")]
    for label, name, field in entries:
        if name in runs:
            ratio = divide(middle(runs, name, field), best)
            lines.append([label, *spread(runs, name, field), f"{ratio:.2f}" if ratio else ""])
    header = ["", "least s", "median s", "most s", "× best wire"]
    return (
        f"**Its stages, and the same rows received and thrown away**\n\n{format_table(header, lines)}" if lines else ""
    )


def format_memory(runs: Runs) -> str:
    lines = []
    for name in ("memory_large", "memory_tiny", "memory_wide", "memory_slow"):
        if name in runs:
            peaks = [middle(runs, name, field) or 0.0 for field in ("peak_bytes", "peak_process_bytes")]
            lines.append([NAMES[name], *(f"{peak / MB:,.0f}" for peak in peaks), f"{middle(runs, name):.2f}"])
    header = ["", "all processes, MB", "largest process, MB", "median s"]
    return f"**Peak anonymous memory of a LoadDay**\n\n{format_table(header, lines)}" if lines else ""


def format_nothing(runs: Runs) -> str:
    if "nothing" not in runs:
        return ""
    lines = [["`Backfill`", *spread(runs, "nothing"), f"{middle(runs, 'nothing_lists', 'lists'):.0f}"]]
    header = ["", "least s", "median s", "most s", "LIST requests"]
    return f"**Nothing to do over ten years of days**\n\n{format_table(header, lines)}"


def format_polite(runs: Runs) -> str:
    lines = []
    for name in ("polite_idle", "polite_ours", "polite_dlt", "polite_wire"):
        if name in runs:
            ratio = divide(middle(runs, name, "p99_ms"), middle(runs, "polite_idle", "p99_ms"))
            medians = [f"{middle(runs, name, field):.2f}" for field in ("p50_ms", "p99_ms")]
            lines.append([NAMES[name], *medians, f"{ratio:.2f}" if ratio else ""])
    header = ["", "median ms", "99 % within ms", "× alone"]
    return f"**Queries of another client for one row, every 2 ms**\n\n{format_table(header, lines)}" if lines else ""


def format_goals(goals: list[dict[str, Any]]) -> str:
    lines = [[goal["goal"], f"{goal['value']:.2f}", goal["limit"], "yes" if goal["holds"] else "NO"] for goal in goals]
    return f"**Goals**\n\n{format_table(['', 'measured', 'goal', 'holds'], lines)}" if lines else ""


def format_facts(facts: dict[str, Any], skipped: dict[str, str]) -> str:
    versions = facts["ours"] | facts["peers"]
    lines = [
        f"{facts['date']}, commit {facts['commit']}, {facts['cpus']} CPUs, {facts['system']}; "
        f"Python {facts['python']}, MySQL server {facts['mysql']}, S3 server {facts['s3']}; "
        + ", ".join(f"{k} {v}" for k, v in versions.items()),
        f"Medians of {facts['runs']} runs in turn; the slow disk has one. Memory is RssAnon, sampled every "
        "20 ms; what a forked process shares with its parent counts twice. "
        "Only luigi_jobs decodes; the others copy the base64 text as it is.",
    ]
    return "\n\n".join(lines + [f"Skipped: {name}: {reason}." for name, reason in skipped.items()])


# --- docs/performance.md


def write_docs(result: dict[str, Any], file: Path) -> None:
    """Put the tables between the file's markers."""
    head, _, rest = file.read_text().partition(BEGIN)
    _, _, tail = rest.partition(END)
    file.write_text(f"{head}{BEGIN}\n{format_tables(result)}\n{END}{tail}")
