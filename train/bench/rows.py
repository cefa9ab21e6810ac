"""The bench's rows: DMT, its controls and its ablations.

Every row is a recipe: the bench's settings with a switch or two turned over. They are named without
torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avsl.train.recipe import Recipe

SIZE = (112, 112)

BASE = Recipe(
    name="bench",
    size=SIZE[0],
    width=8,
    unlabelled=10_000,
    validation=300,
    warm_up_steps=300,
    steps=3_000,
    distill_steps=700,
)

SUPERVISED: dict[str, Any] = {
    "label": "none",
    "contrastive_weight": 0.0,
    "labelled_batch": 32,
    "unlabelled_batch": 0,
}
ROWS: dict[str, dict[str, Any]] = {
    "DMT": {"distill": True},
    "supervised": SUPERVISED,
    "supervised + contrastive": {"label": "none"},
    "self-supervised": {"label": "none", "pixel_weight": 0.0},
    "one mean teacher": {"sounds": ("log-mel",), "accept": "not-empty"},
    "one mean teacher, confident": {"sounds": ("log-mel",), "accept": "confident"},
    "no filter": {"accept": "all"},
    "no filter, empty masks out": {"accept": "not-empty"},
    "own teacher's label": {"label": "own"},
    "union of labels": {"label": "union"},
    "no EMA": {"ema": 0.0},
    "frozen teachers": {"ema": 1.0},
    "same sound encoder": {"sounds": ("log-mel", "log-mel")},
    "no contrastive": {"contrastive_weight": 0.0},
}
QUICK = tuple(ROWS)[:5]
LABELS = (64, 256, 1024)
GRID: tuple[dict[str, Any], ...] = ({"lr": 1e-3}, {"lr": 2e-3}, {"lr": 4e-3})


@dataclass(frozen=True)
class Job:
    """One training of the bench."""

    row: str
    labelled: int
    seed: int
    setting: int
    """Which of `GRID`; -1: the settings fixed beforehand."""
    times: int = 1
    """How many times `BASE`'s steps it takes."""

    @property
    def name(self) -> str:
        words = self.row.replace(",", "").replace("+", "and").replace("'", "").split()
        grid = "" if self.setting < 0 else f"-{self.setting}"
        times = "" if self.times == 1 else f"-x{self.times}"
        return f"{self.labelled}-{self.seed}-{'-'.join(words)}{grid}{times}"

    def recipe(self, material: Path) -> Recipe:
        settings = ROWS[self.row] | (GRID[self.setting] if self.setting >= 0 else {})
        about = {"data": str(material), "name": self.name, "labelled": self.labelled}
        lengths = {
            key: getattr(BASE, key) * self.times
            for key in ("warm_up_steps", "steps", "distill_steps")
        }
        return replace(BASE, **(settings | about | lengths), seed=self.seed)
