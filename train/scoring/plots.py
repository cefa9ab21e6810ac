"""Pictures of a training and of the bench, as small PNGs."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch.nn.functional as F
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray
from torch import Tensor

from avsl.engines import Localization
from avsl.engines.networks import Network
from avsl.train.data.batches import Clips
from avsl.train.methods.dmt import pseudo_labels, teach
from avsl.train.recipe import Recipe
from avsl.train.run import read_metrics
from avsl.train.scoring.evaluate import Still

DPI = 100
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
"""Okabe and Ito's, which colour-blind people can tell apart, without the yellow: lines are thin."""
DASHES = ("-", "--", ":")
SMALL = 8
"""Size of legends and notes, in points."""
TILE, GAP, ROOM = 96, 8, 20
"""Side of an example's pictures, space between them, and height of a line of text, in pixels."""
LEVELS = 8
"""Of brightness in an example's pictures: a PNG of all 256 would be three times as large."""

Metrics = list[dict[str, Any]]

PANELS = (
    ("Loss", "loss", {"loss": "training"}),
    ("Validation", "cIoU, %", {"val_A": "A", "val_B": "B", "val_mean": "mean"}),
    (
        "Noise filter",
        "share",
        {"accepted": "accepted", "teachers_iou": "teachers' IoU", "area": "label's area"},
    ),
    (
        "Pseudo-labels",
        "IoU with the truth",
        {"quality_intersection": "all", "quality_intersection_accepted": "accepted"},
    ),
)
"""Of the curves: title, unit, and what is drawn under which name."""


def draw_curves(run: Path) -> None:
    """`curves.png` of a run folder, from its metrics."""
    _save(curves(read_metrics(run / "metrics.jsonl")), run / "curves.png")


def curves(metrics: Metrics) -> Figure:
    """A panel for each of `PANELS` that there is something of."""
    panels = [p for p in PANELS if any(name in x for x in metrics for name in p[2])]
    figure = Figure((4 * len(panels), 3.4), layout="constrained")
    axes = figure.subplots(1, len(panels), squeeze=False, gridspec_kw={"wspace": 0.08})[0]
    for ax, (title, unit, names) in zip(axes, panels, strict=True):
        _lines(ax, {label: _series(metrics, name) for name, label in names.items()})
        _name(ax, title, "step", unit)
        _legend(ax)
        ax.set_xlim(0, 1.03 * metrics[-1]["step"])
        ax.set_ylim(top=1.28 * ax.get_ylim()[1])  # room for the stages' names
        for name, (start, _) in _stages(metrics).items():
            if start:
                ax.axvline(start, color="0.7", linewidth=0.8, zorder=0)
            ax.annotate(
                name,
                (start, 1),
                (2, -3),
                ("data", "axes fraction"),
                textcoords="offset points",
                rotation=90,
                va="top",
                fontsize=SMALL,
                color="0.45",
            )
    return figure


def draw_examples(
    path: Path, teachers: list[Network], clips: Clips, recipe: Recipe, count: int = 6
) -> None:
    """What the teachers make of the first `count` of the clips: a row each."""
    few = replace(
        clips,
        names=clips.names[:count],
        **{name: getattr(clips, name)[:count] for name in Clips.TENSORS},
    )
    maps = teach(teachers, few, recipe)
    labels = pseudo_labels(maps, recipe)
    columns = {"weak view": None, "truth": few.weak_target}
    columns |= {f"teacher {'AB'[k]}": m for k, m in enumerate(maps)}
    columns |= {"pseudo-label": labels.targets[0].float()}
    rows = len(few.names)
    width, height = GAP + len(columns) * (TILE + GAP), 2 * ROOM + rows * (ROOM + TILE + GAP)
    sheet = np.ones((height, width, 3), np.float32)
    figure = Figure((width / DPI, height / DPI))
    ax = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    ax.set_axis_off()

    def write(x: int, y: int, text: str) -> None:
        # A clip's name may hold anything: no formula, and no file name that isn't Unicode.
        text = text.encode("utf-8", "replace").decode()
        ax.text(x, y + ROOM - 5, text, fontsize=SMALL, parse_math=False)

    small = F.interpolate(few.weak_pictures, (TILE, TILE), mode="area")
    pictures = (small.permute(0, 2, 3, 1) / 2 + 0.5).cpu().numpy()
    for j, (heading, drawn) in enumerate(columns.items()):
        x = GAP + j * (TILE + GAP)
        write(x, 0, heading)
        for i, tile in enumerate(pictures):
            y = 2 * ROOM + i * (ROOM + TILE + GAP)
            if heading == "truth" and not few.known[i]:
                write(x, y, "not known")
                continue
            shown = _coarse(tile) if drawn is None else _over(tile, drawn[i])
            sheet[y : y + TILE, x : x + TILE] = shown
    for i, name in enumerate(few.names):
        verdict = "accepted" if labels.accepted[i] else "rejected"
        if not few.sounds[i]:
            verdict = "no sound"
        if len(maps) > 1:
            verdict += f", IoU {labels.iou[i]:.2f}"
        write(GAP, ROOM + i * (ROOM + TILE + GAP), f"{name}: {verdict}")
    x, y = GAP + 2 * (TILE + GAP), height - ROOM
    sheet[y + 4 : y + 12, x + 12 : x + TILE - 12] = _colours(np.linspace(0, 1, TILE - 24))
    write(x, y - 2, "0")
    write(x + TILE - 8, y - 2, "1")
    ax.imshow(sheet, extent=(0, width, height, 0), interpolation="none")
    _save(figure, path)


def draw_failures(path: Path, failures: list[tuple[Still, Localization]]) -> None:
    """Scenes in which an engine was wrong: what it took for sounding glows, what sounds has a
    frame."""
    columns = 6
    rows = max(1, -(-len(failures) // columns))
    figure = Figure((2.2 * columns, 2.5 * rows), layout="constrained")
    for ax, (still, heard) in zip(figure.subplots(rows, columns).flat, failures, strict=False):
        ax.imshow(still.picture, extent=(0, 1, 1, 0))
        glow = 0.6 * heard.map
        ax.imshow(heard.map, "inferno", extent=(0, 1, 1, 0), alpha=glow, vmin=0, vmax=1)
        ax.set_aspect(1 / still.scene.aspect)
        for x0, y0, x1, y1 in still.truth:
            box = ax.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color="w"))
            box.set_linewidth(1.5)
        sounds = [still.scene.things[i].family for i in still.scene.sounding(0)]
        heading = f"{' and '.join(sounds) or still.scene.kind}: {heard.state} {heard.score:.2f}"
        ax.set_title(heading, fontsize=SMALL, parse_math=False)
    for ax in figure.axes:
        ax.set_axis_off()
    _save(figure, path)


def _over(picture: NDArray[np.float32], drawn: Tensor) -> NDArray[np.float32]:
    """A map `[m, n]` in 0..1 over a picture `[h, w, 3]` in 0..1 that is made grey."""
    large = F.interpolate(drawn[None, None], picture.shape[:2], mode="nearest")[0, 0]
    return 0.4 * _coarse(picture.mean(2, keepdims=True)) + 0.6 * _colours(large.cpu().numpy())


def _coarse(picture: NDArray[np.float32]) -> NDArray[np.float32]:
    steps = np.float32(LEVELS - 1)
    whole: NDArray[np.float32] = np.round(picture * steps)
    return whole / steps


def _colours(values: NDArray[Any]) -> NDArray[np.float32]:
    return colormaps["viridis"](values)[..., :3].astype(np.float32)


def draw_bars(
    path: Path, rows: list[tuple[str, float, float, float]], title: str, unit: str = "cIoU, %"
) -> None:
    """A bar for each row (name, value, and the ends of its interval), the first on top."""
    _save(bars(rows, title, unit), path)


def bars(rows: list[tuple[str, float, float, float]], title: str, unit: str) -> Figure:
    names, values, lows, highs = (list(column) for column in zip(*rows, strict=True))
    figure = Figure((6.4, 1 + 0.32 * len(rows)), layout="constrained")
    ax = figure.subplots()
    ends = [np.subtract(values, lows), np.subtract(highs, values)]
    places = range(len(rows))
    ax.barh(places, values, xerr=ends, color=COLOURS[5], ecolor="0.3", capsize=3)
    ax.set_yticks(places, names)
    ax.invert_yaxis()
    for place, value, high in zip(places, values, highs, strict=True):
        ax.annotate(
            f"{value:.1f}",
            (high, place),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
        )
    ax.set_xlim(0, 1.12 * max(1.0, *highs))
    _name(ax, title, unit, "")
    return figure


def draw_figure5(
    path: Path, runs: dict[str, Path], unlabelled_per_step: int, steps_per_epoch: int
) -> None:
    """Figure 5 of DMT's poster, from the metrics of run folders; (a), (b) and (d) are of "DMT"."""
    metrics = {name: read_metrics(run / "metrics.jsonl") for name, run in runs.items()}
    _save(figure5(metrics, unlabelled_per_step, steps_per_epoch), path)


def figure5(metrics: dict[str, Metrics], unlabelled_per_step: int, steps_per_epoch: int) -> Figure:
    dmt = metrics["DMT"]
    figure = Figure((9, 7), layout="constrained")
    ((a, b), (c, d)) = figure.subplots(2, 2)
    sides = {
        "before the filter": "quality_intersection",
        "after": "quality_intersection_accepted",
    }
    ways = {"intersection (IPL)": "intersection", "A": "A", "B": "B", "union": "union"}
    _lines(a, {label: _series(dmt, name) for label, name in sides.items()})
    _name(a, "(a) Pseudo-labels and the noise filter", "step", "IoU with the truth")
    _legend(a)
    _lines(b, {k: _series(dmt, f"quality_{way}_accepted") for k, way in ways.items()})
    _name(b, "(b) Ways to make the label, accepted clips", "step", "IoU with the truth")
    _legend(b)
    _lines(c, {name: _series(lines, "val_mean") for name, lines in metrics.items()})
    _name(c, "(c) Validation", "step", "cIoU, %")
    figure.legend(
        *c.get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        fontsize=SMALL,
        frameon=False,
        title="(c)",
        title_fontsize=SMALL,
    )
    dropped = filtered_out(dmt, unlabelled_per_step, steps_per_epoch)
    d.bar(range(1, len(dropped) + 1), dropped, color=COLOURS[5])
    d.xaxis.get_major_locator().set_params(integer=True)
    _name(d, "(d) Filtered out", "epoch", "clips")
    return figure


def filtered_out(
    metrics: Metrics, unlabelled_per_step: int, steps_per_epoch: int
) -> NDArray[np.float64]:
    """Clips that the noise filter has kept out in each whole epoch of unbiased learning."""
    start, stop = _stages(metrics)["unbiased"]
    steps, shares = _series([x for x in metrics if x["stage"] == "unbiased"], "accepted")
    # A line is the mean since the line before.
    lengths = np.diff(steps, prepend=start)
    total = np.cumsum((1 - np.array(shares)) * unlabelled_per_step * lengths)
    borders = np.arange(start, stop + 1, steps_per_epoch)
    return np.diff(np.interp(borders, [start, *steps], [0.0, *total]))


def draw_ratio(path: Path, lines: dict[str, list[tuple[int, float]]]) -> None:
    """cIoU in percent against the number of labelled clips, by method."""
    _save(ratio(lines), path)


def ratio(lines: dict[str, list[tuple[int, float]]]) -> Figure:
    figure = Figure((6, 4), layout="constrained")
    ax = figure.subplots()
    found = {name: sorted(points) for name, points in lines.items()}
    _lines(ax, {k: ([n for n, _ in v], [y for _, y in v]) for k, v in found.items()})
    counts = sorted({n for points in found.values() for n, _ in points})
    ax.set_xscale("log")
    ax.set_xticks(counts, [str(n) for n in counts])
    ax.set_xticks([], minor=True)
    for line in ax.get_lines():
        line.set_markersize(8)
    _name(ax, "Few labels", "labelled clips", "cIoU, %")
    _legend(ax)
    return figure


def _series(metrics: Metrics, name: str) -> tuple[list[int], list[float]]:
    """Steps at which `name` was logged, and its values."""
    found = [x for x in metrics if name in x]
    return [x["step"] for x in found], [x[name] for x in found]


def _stages(metrics: Metrics) -> dict[str, tuple[int, int]]:
    """The first and last step of each stage; its last step has a line."""
    ends = {x["stage"]: x["step"] for x in metrics}
    return dict(zip(ends, pairwise([0, *ends.values()]), strict=True))


def _lines(ax: Axes, lines: dict[str, tuple[list[int], list[float]]]) -> None:
    for i, (label, (xs, ys)) in enumerate(lines.items()):
        colour, dash = COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]
        ax.plot(xs, ys, dash, color=colour, label=label, marker=".", markersize=4, linewidth=1.4)
    ax.set_ylim(bottom=0)


def _name(ax: Axes, title: str, x: str, y: str) -> None:
    ax.set(title=title, xlabel=x, ylabel=y)
    ax.spines[["top", "right"]].set_visible(False)


def _legend(ax: Axes) -> None:
    """Under the title: inside, it would hide lines."""
    place: dict[str, Any] = {"loc": "lower center", "bbox_to_anchor": (0.5, 1)}
    ax.legend(**place, ncols=4, fontsize=SMALL, frameon=False, borderpad=0, columnspacing=1)
    ax.set_title(ax.get_title(), pad=18)


def _save(figure: Figure, path: Path) -> None:
    """Writes beside and renames."""
    beside = path.with_name(path.name + ".part")
    figure.savefig(beside, format="png", dpi=DPI)
    beside.replace(path)
