"""What the bench measures of a row, and how rows are set against each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from avsl.engines.networks import Combine, Network, combined
from avsl.train.export import calibrate
from avsl.train.metrics import (
    RULES,
    Array,
    auc,
    binarise,
    box_mask,
    centre_disc,
    ciou,
    map_peak,
    success,
    upsample,
)
from avsl.train.pack import Pack
from avsl.train.validate import THRESHOLDS, logits_on
from avsl.train.views import cells_of

DARK = 0.005
"""Of the thresholds that leave less than this share of the validation negatives' picture lit, the
universal one is the best."""
SIZES = {"small": (0.0, 0.06), "medium": (0.06, 0.14), "large": (0.14, 1.0)}
"""Share of the picture that the sounding thing's box takes."""


@dataclass(frozen=True)
class Tests:
    """The bench's clips: to calibrate on, to test on, and the same pictures with other sounds."""

    validation: Pack
    validation_ids: NDArray[np.int64]
    test: Pack
    swapped: Pack


def measure(networks: list[Network], combine: Combine, tests: Tests) -> dict[str, Any]:
    """All figures of a row, in percent, and `hits`: of each test clip in which something sounds,
    whether its cIoU under the universal rule is 0.5 or more.

    Calibration and threshold come from the validation clips.
    """
    ids = tests.validation_ids
    logits = combined(logits_on(networks, tests.validation, ids), combine)
    boxes = torch.from_numpy(tests.validation.boxes[ids])
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
    truth = _truth(boxes[~negative])
    large, dark = upsample(maps[~negative]), upsample(maps[negative])
    best, most = float(THRESHOLDS[-1]), -1.0
    for t in THRESHOLDS:
        hits = success(ciou(large >= t, truth))
        if (not len(dark) or (dark >= t).mean() < DARK) and hits > most:
            best, most = float(t), hits
    return best


def _truth(boxes: Array) -> Array:
    return np.stack([box_mask([b for b in row.tolist() if not np.isnan(b[0])]) for row in boxes])


def _positives(maps: Array, pack: Pack, threshold: float) -> dict[str, Any]:
    sounding = ~np.isnan(pack.boxes[:, 0, 0])
    boxes, maps = pack.boxes[sounding], maps[sounding]
    truth, large = _truth(boxes), upsample(maps)
    row: dict[str, Any] = {"n": len(maps)}
    for rule in RULES:
        values = np.array(
            [ciou(binarise(x, rule, threshold), t) for x, t in zip(large, truth, strict=True)]
        )
        row[f"ciou_{rule}"] = 100 * success(values)
        row[f"auc_{rule}"] = 100 * auc(values)
    row["hits"] = [bool(v >= 0.5) for v in values]  # of the last rule, which is the universal one
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
        found.append(bool(((row[:, :2] <= (x, y)) & (row[:, 2:] >= (x, y))).all(1).any()))
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
        ciou(upsample(maps) >= threshold, _truth(found)) >= 0.5
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
