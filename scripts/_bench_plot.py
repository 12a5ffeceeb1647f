"""Draws rows/s and memory of one day, ours and the others': _bench_plot.py RESULT.json FILE.svg"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt

NAMES = {"ours": "luigi_jobs", "dlt": "dlt", "duckdb": "DuckDB", "awswrangler": "awswrangler"}
OURS, OTHERS = "#1f6f54", "#a9b4bb"


def main(source: Path, target: Path) -> None:
    result = json.loads(source.read_text())
    rows, runs = result["facts"]["rows"], result["runs"]
    names = [name for name in NAMES if name in runs][::-1]
    speed = [rows / statistics.median(run["seconds"] for run in runs[name]) / 1000 for name in names]
    memory = [statistics.median(run["peak_bytes"] for run in runs[name]) / 1e6 for name in names]
    # Text stays text, and the same numbers make the same file.
    mpl.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "bench", "font.size": 9}
    figure, panels = plt.subplots(1, 2, figsize=(8, 0.5 + 0.38 * len(names)), sharey=True, layout="constrained")
    titles = ("thousand rows/s (more is better)", "peak memory, MB (less is better)")
    for panel, values, title in zip(panels, (speed, memory), titles, strict=True):
        bars = panel.barh([NAMES[n] for n in names], values, color=[OURS if n == "ours" else OTHERS for n in names])
        panel.bar_label(bars, fmt="{:,.0f}", padding=3)
        panel.set_title(title, fontsize=9, loc="left")
        panel.spines[["top", "right", "bottom"]].set_visible(False)
        panel.set_xticks([])
        panel.tick_params(left=False)
        panel.margins(x=0.15)
    figure.savefig(target, metadata={"Date": None})


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
