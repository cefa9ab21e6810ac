"""The bench's results as JSON, a Markdown table, and pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from avsl.train.bench.scores import difference
from avsl.train.run import write_text
from avsl.train.scoring.plots import draw_bars, draw_figure5, draw_ratio

OURS = "DMT"
EXTRAS = ("stage 1", "A", "B", "product", "distilled")
COLUMNS = {
    "cIoU": "ciou_universal",
    "AUC": "auc_universal",
    "cIoU fixed": "ciou_fixed",
    "AUC fixed": "auc_fixed",
    "cIoU median": "ciou_median",
    "AUC median": "auc_median",
    "peak": "peak",
    "both sounds": "interactive",
    "small": "small",
    "medium": "medium",
    "large": "large",
    "lit": "area_negatives",
    "quiet": "area_quiet",
}
Row = tuple[str, list[dict[str, Any]]]


def report(results: list[dict[str, Any]], folder: Path) -> list[str]:
    """Writes bench.json, bench.md and the pictures to `folder`; returns the Markdown's lines."""
    lines: list[str] = []
    counts = sorted({found["labelled"] for found in results})
    curves: dict[str, list[tuple[int, float]]] = {}
    for count in counts:
        here = [found for found in results if found["labelled"] == count]
        rows = table_rows(here)
        longer = f", {here[0]['times']} times the steps" if here[0]["times"] > 1 else ""
        lines += [f"## {count} labelled clips{longer}", "", *markdown(rows, here), ""]
        for name, scores in rows:
            curves.setdefault(name, []).append((count, _mean(scores, "ciou_universal")))
        bars = [(name, *_interval(scores)) for name, scores in rows]
        draw_bars(folder / f"bars-{count}.png", bars, f"{count} labelled clips")
    if len(counts) > 1:
        draw_ratio(folder / "ratio.png", {n: c for n, c in curves.items() if len(c) > 1})
    first = [f for f in results if f["labelled"] == counts[0] and f["seed"] == 1]
    runs = {found["row"]: folder / "runs" / found["name"] for found in first}
    if OURS in runs:
        ours = next(found for found in first if found["row"] == OURS)
        draw_figure5(folder / "figure5.png", runs, ours["unlabelled_batch"], ours["steps_an_epoch"])
    write_text(folder / "bench.json", json.dumps(results, indent=1) + "\n")
    write_text(folder / "bench.md", "\n".join(lines))
    return lines


def table_rows(results: list[dict[str, Any]]) -> list[Row]:
    """Rows by name, each with the scores of its seeds; DMT's own variants follow it."""
    rows: list[Row] = []
    for row in dict.fromkeys(found["row"] for found in results):
        here = [found for found in results if found["row"] == row]
        rows.append((row, [found["scores"]["mean"] for found in here]))
        if row == OURS:
            for extra in EXTRAS:
                rows.append((f"{row}: {extra}", [found["scores"][extra] for found in here]))
            rows.append(("shuffled sound", [found["shuffled"] for found in here]))
            for static in here[0]["static"]:
                rows.append((static, [found["static"][static] for found in here]))
    return rows


def markdown(rows: list[Row], results: list[dict[str, Any]]) -> list[str]:
    """The table, in percent: means over seeds, and DMT's lead over each row in cIoU, universal and
    fixed."""
    seeds = sorted({found["seed"] for found in results})
    positives = rows[0][1][0]
    lines = [
        f"{positives['n']} test clips in which something sounds "
        f"({', '.join(str(positives[f'n_{s}']) + ' ' + s for s in ('small', 'medium', 'large'))}), "
        f"{len(seeds)} seed{'s' * (len(seeds) > 1)}. cIoU and AUC without a word are under the "
        "universal threshold, chosen on held-out clips.",
        "",
        "| | " + " | ".join(COLUMNS) + " | DMT leads by | fixed: by | samples/s | minutes |",
        "|---|" + "---:|" * (len(COLUMNS) + 4),
    ]
    ours = dict(rows).get(OURS, [])
    speeds = {found["row"]: found for found in results}
    for name, scores in rows:
        cells = [
            f"{_mean(scores, key):.1f}" if key in scores[0] else "" for key in COLUMNS.values()
        ]
        leads = ["", ""]
        if ours and name != OURS and len(scores) == len(ours):
            leads = [_lead(ours, scores, key) for key in ("hits", "hits_fixed")]
        found = speeds.get(name)
        took = [f"{found['samples_per_s']:.0f}", f"{found['minutes']:.1f}"] if found else ["", ""]
        lines.append(f"| {name} | " + " | ".join([*cells, *leads, *took]) + " |")
    return lines


def _lead(ours: list[dict[str, Any]], theirs: list[dict[str, Any]], key: str) -> str:
    mean, low, high = difference([s[key] for s in ours], [s[key] for s in theirs])
    return f"{mean:+.1f} ({low:+.1f} to {high:+.1f})"


def _mean(scores: list[dict[str, Any]], key: str) -> float:
    return float(np.mean([row[key] for row in scores]))


def _interval(scores: list[dict[str, Any]]) -> tuple[float, float, float]:
    """Mean cIoU and its 95 % interval, by bootstrap as in `difference`."""
    hits = [row["hits"] for row in scores]
    return difference(hits, [[False] * len(hits[0])] * len(hits))
