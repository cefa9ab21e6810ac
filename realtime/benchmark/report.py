"""The figures of films as Markdown."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any


def report(result: dict[str, Any]) -> str:
    """The result as Markdown."""
    networks = result["networks"]

    def row(name: str, *cells: str) -> str:
        return f"| {name} | {' | '.join(cells)} |"

    def table(title: str, rows: dict[str, Callable[[dict[str, Any]], str]]) -> list[str]:
        lines = [row(title, *(n["engine"] for n in networks)), "|---|" + "---:|" * len(networks)]
        for name, cell in rows.items():
            cells = [""] * len(networks)
            for i, network in enumerate(networks):
                with suppress(KeyError):  # a rival that was not run, or a stage that is not there
                    cells[i] = cell(network)
            if any(cells):
                lines.append(row(name, *cells))
        return [*lines, ""]

    def span(values: list[float], unit: float = 1, after: str = "") -> str:
        middle, low, high = (f"{unit * value:.{0 if unit > 1 else 1}f}" for value in values)
        return f"{middle}{after} ({low} to {high})"

    def stage(name: str) -> Callable[[dict[str, Any]], str]:
        return lambda n: (
            f"{n['stages_ms'][name]:.2f} "
            f"({100 * n['stages_ms'][name] / sum(n['stages_ms'].values()):.0f} %)"
        )

    return "\n".join(
        [
            f"{result['machine']}; {result['picture']}, every frame",
            *(f"{n['engine']}: {n['backend']}" for n in networks),
            "",
            *table(
                "frames/s",
                {
                    "decode and encode alone": lambda n: f"{n['fps']['floor']}",
                    "annotate": lambda n: f"{n['fps']['annotate']}",
                    "annotate, default ONNX Runtime": lambda n: f"{n['fps']['default']}",
                    "plain PyTorch loop": lambda n: f"{n['fps']['plain']}",
                    "annotate: share of decode and encode": lambda n: span(
                        n["share_of_floor"], 100, " %"
                    ),
                    "annotate: times the plain loop": lambda n: span(n["times_plain"]),
                },
            ),
            *table(
                "networks, ms a picture",
                {
                    "beside decoder and encoder": lambda n: f"{n['networks_ms']['annotate']}",
                    "default ONNX Runtime there": lambda n: f"{n['networks_ms']['default']}",
                    "times faster": lambda n: span(n["networks_times_default"]),
                    "alone": lambda n: f"{n['alone_ms']['annotate']}",
                    "default ONNX Runtime alone": lambda n: f"{n['alone_ms']['default']}",
                    "times faster alone": lambda n: span(n["alone_times_default"]),
                },
            ),
            *table(
                "stage, ms a picture",
                {name: stage(name) for n in networks for name in n["stages_ms"]},
            ),
            *(line for n in networks for line in n.get("roofline", {}).get("lines", [])),
        ]
    )
