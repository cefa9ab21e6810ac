"""What the bench measures of a row, and how rows are set against each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from avsl.engines.networks import Combine, Network, combined
from avsl.train.data.pack import Pack
from avsl.train.data.views import cells_of
from avsl.train.export import calibrate
from avsl.train.scoring.metrics import (
    RULES,
    Array,
    auc,
    centre_disc,
    ciou,
    ciou_by_rule,
    in_box,
    map_peak,
    success,
    truth_masks,
    upsample,
)
from avsl.train.scoring.validate import SIDE, logits_on

THRESHOLDS = np.arange(0.02, 1, 0.02)
DARK = 0.0075
"""Of the thresholds that leave less than this share of the held-out negatives' picture lit, the
universal one is the best; three quarters of the one percent that they may be on test clips."""
SIZES = {"small": (0.0, 0.06), "medium": (0.06, 0.14), "large": (0.14, 1.0)}
"""Share of the picture that the sounding thing's box takes."""


@dataclass(frozen=True)
class Tests:
    """The bench's clips: to calibrate on, to test on, and the same pictures with other sounds."""

    held_out: Pack
    test: Pack
    swapped: Pack


def measure(networks: list[Network], combine: Combine, tests: Tests) -> dict[str, Any]:
    """All figures of a row, in percent, and of each test clip in which something sounds whether its
    cIoU is 0.5 or more: `hits` under the universal rule, `hits_fixed` under the fixed one.

    Calibration and threshold come from the held-out clips.
    """
    held_out = tests.held_out
    logits = combined(logits_on(networks, held_out, np.arange(len(held_out))), combine)
    boxes = torch.from_numpy(held_out.boxes)
    a, b = calibrate(logits, cells_of(boxes, (logits.shape[1], logits.shape[2])))
    threshold = universal_threshold(torch.sigmoid(a * logits + b).numpy(), boxes.numpy())

    def maps(pack: Pack) -> Array:
        found = combined(logits_on(networks, pack, np.arange(len(pack))), combine)
        return torch.sigmoid(a * found + b).numpy()

    own, swapped = maps(tests.test), maps(tests.swapped)
    return {
        "threshold": threshold,
        **_positives(own, tests.test, threshold),
        **_interactive(own, swapped, tests, threshold),
        **_negatives(own, tests.test, threshold),
    }


def universal_threshold(maps: Array, boxes: Array) -> float:
    """The absolute threshold with most hits among those that leave negatives dark; the highest of
    all if none does."""
    negative = np.isnan(boxes[:, 0, 0])
    truth = truth_masks(boxes[~negative], SIDE)
    large, dark = upsample(maps[~negative], SIDE), upsample(maps[negative], SIDE)
    best, most = float(THRESHOLDS[-1]), -1.0
    for t in THRESHOLDS:
        hits = success(ciou(large >= t, truth))
        if (not len(dark) or (dark >= t).mean() < DARK) and hits > most:
            best, most = float(t), hits
    return best


def _positives(maps: Array, pack: Pack, threshold: float) -> dict[str, Any]:
    sounding = ~np.isnan(pack.boxes[:, 0, 0])
    boxes, maps = pack.boxes[sounding], maps[sounding]
    truth, large = truth_masks(boxes), upsample(maps)
    row: dict[str, Any] = {"n": len(maps)}
    found = [ciou_by_rule(x, t, threshold) for x, t in zip(large, truth, strict=True)]
    for rule in RULES:
        values = np.array([one[rule] for one in found])
        row[f"ciou_{rule}"] = 100 * success(values)
        row[f"auc_{rule}"] = 100 * auc(values)
    row["hits"] = [bool(one["universal"] >= 0.5) for one in found]
    row["hits_fixed"] = [bool(one["fixed"] >= 0.5) for one in found]
    row["peak"] = 100 * float(np.mean(_peaks_inside(maps, boxes)))
    share = truth.mean((1, 2))
    for name, (low, high) in SIZES.items():
        inside = (share >= low) & (share < high)
        row[name] = 100 * success(values[inside])
        row[f"n_{name}"] = int(inside.sum())
    return row


def _peaks_inside(maps: Array, boxes: Array) -> list[bool]:
    found = []
    for map_, row in zip(maps, boxes, strict=True):
        x, y = map_peak(map_)
        found.append(any(in_box(x, y, box) for box in row.tolist()))
    return found


def _interactive(own: Array, swapped: Array, tests: Tests, threshold: float) -> dict[str, float]:
    """Pictures on which both sounds are right: by their peaks, and by cIoU >= 0.5."""
    place = {name: i for i, name in enumerate(tests.test.names)}
    rows = np.array([place[name] for name in tests.swapped.names])
    boxes = tests.test.boxes[rows], tests.swapped.boxes
    peaks = [
        np.array(_peaks_inside(maps, found))
        for maps, found in zip((own[rows], swapped), boxes, strict=True)
    ]
    hits = [
        ciou(upsample(maps) >= threshold, truth_masks(found)) >= 0.5
        for maps, found in zip((own[rows], swapped), boxes, strict=True)
    ]
    return {
        "interactive": 100 * float((peaks[0] & peaks[1]).mean()),
        "interactive_ciou": 100 * float((hits[0] & hits[1]).mean()),
        "n_interactive": len(rows),
    }


def _negatives(maps: Array, pack: Pack, threshold: float) -> dict[str, float]:
    """Share of the picture over the universal threshold where nothing in view sounds."""
    kinds = np.array(pack.kinds)
    row = {}
    for name, which in (
        ("quiet", ("silence", "noise")),
        ("outside", ("outside",)),
        ("negatives", ("silence", "noise", "outside")),
    ):
        lit = upsample(maps[np.isin(kinds, which)]) >= threshold
        row[f"area_{name}"] = 100 * float(lit.mean())
    return row


def static_rows(tests: Tests, cells: tuple[int, int]) -> dict[str, dict[str, Any]]:
    """Maps that neither look nor listen."""
    n = len(tests.test)
    disc = np.repeat(centre_disc(cells)[None], n, 0)
    rows = {"centre disc": disc, "whole picture": np.ones_like(disc)}
    return {name: _positives(maps, tests.test, 0.5) for name, maps in rows.items()}


def shuffled_row(networks: list[Network], combine: Combine, tests: Tests) -> dict[str, Any]:
    """Each test picture with the sound of the clip before it."""
    ids = np.arange(len(tests.test))
    logits = combined(logits_on(networks, tests.test, ids, np.roll(ids, 1)), combine)
    return _positives(logits.sigmoid().numpy(), tests.test, 0.5)


def difference(
    ours: list[list[bool]], theirs: list[list[bool]], draws: int = 2_000
) -> tuple[float, float, float]:
    """Mean of ours - theirs in percent points, with its 95 % interval: a paired bootstrap over test
    clips and, where there are several, over seeds (a list of hits each)."""
    delta = 100 * (np.array(ours, float) - np.array(theirs, float))
    rng = np.random.default_rng(0)
    seeds, clips = delta.shape
    means = [
        delta[rng.integers(seeds, size=seeds)][:, rng.integers(clips, size=clips)].mean()
        for _ in range(draws)
    ]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(delta.mean()), float(low), float(high)
