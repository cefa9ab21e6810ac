"""The benchmark's figures as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

CONTESTANTS = {
    "floor": ("decode and encode alone", "#c8c8c8"),
    "annotate": ("annotate", "#1f77b4"),
    "default": ("annotate, default ONNX Runtime", "#ffbb78"),
    "plain": ("plain PyTorch loop", "#d62728"),
}


def draw(result: dict[str, Any], path: Path) -> None:
    """Frames a second of all that were timed, and what a picture's time goes to, as a PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    networks = result["networks"]
    figure = Figure(figsize=(10, 1.6 + 1.7 * len(networks)), layout="constrained")
    speed, time = figure.subplots(1, 2)
    places = [len(networks) - 1 - i for i in range(len(networks))]
    for k, (name, (label, colour)) in enumerate(CONTESTANTS.items()):
        shown = [
            (p, n["fps"][name]) for p, n in zip(places, networks, strict=True) if name in n["fps"]
        ]
        if shown:
            at = [p + 0.3 - 0.2 * k for p, _ in shown]
            bars = speed.barh(at, [fps for _, fps in shown], 0.18, label=label, color=colour)
            speed.bar_label(bars, fmt="%.0f", padding=3, fontsize=8)
    speed.set_title("frames/s at 1280x720", fontsize=10)
    speed.margins(x=0.12)
    stages = list(dict.fromkeys(name for n in networks for name in n["stages_ms"]))
    left = [0.0] * len(networks)
    for k, name in enumerate(stages):
        widths = [n["stages_ms"].get(name, 0.0) for n in networks]
        time.barh(places, widths, 0.4, left=left, label=name, color=f"C{k}")
        left = [a + b for a, b in zip(left, widths, strict=True)]
    time.set_title("ms a picture, by stage of annotate", fontsize=10)
    for axes in (speed, time):
        axes.set_yticks(places, [n["engine"] for n in networks])
        axes.spines[["top", "right"]].set_visible(False)
    speed.set_ylim(-0.6, len(networks) - 0.3)
    time.set_ylim(*speed.get_ylim())
    time.set_yticklabels([])
    for axes, columns in ((speed, 2), (time, 4)):
        axes.legend(fontsize=8, ncols=columns, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    figure.suptitle(result["machine"], fontsize=8)
    FigureCanvasAgg(figure).print_png(str(path))  # type: ignore[no-untyped-call]
