"""The field's measures, as plain functions of numpy arrays.

Formulas follow the public evaluation code of the field (EZ-VSL, LVS, SLAVC): with a binary
prediction P and a weight map G, cIoU = sum(P G) / (sum(G) + sum(P [G = 0])), and success(t) is the
share of pictures with cIoU >= t. "cIoU" in tables is success(0.5).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Rule = Literal["median", "fixed", "universal"]
RULES: tuple[Rule, ...] = ("median", "fixed", "universal")
SIDE = 224
"""Maps and boxes are compared on a stretched square of this many pixels."""
AUC_STEPS = np.array([0.05 * i for i in range(21)])


def upsample(map_: Array, side: int = SIDE) -> Array:
    """Bilinear, cell centres aligned: `[..., m, n]` to `[..., side, side]`."""

    def weights(cells: int) -> Array:
        at = np.clip((np.arange(side) + 0.5) / side * cells - 0.5, 0, cells - 1)
        low = np.minimum(at.astype(int), max(cells - 2, 0))
        w = np.zeros((side, cells), np.float32)
        w[np.arange(side), low] = 1 - (at - low)
        w[np.arange(side), np.minimum(low + 1, cells - 1)] += at - low
        return w

    rows, columns = map_.shape[-2:]
    return weights(rows) @ map_ @ weights(columns).T


def box_mask(boxes: Iterable[tuple[float, float, float, float]], side: int = SIDE) -> Array:
    """Union of boxes (x0, y0, x1, y1 in 0..1) as a 0/1 map `[side, side]`."""
    mask = np.zeros((side, side), np.float32)
    for x0, y0, x1, y1 in boxes:
        left, top, right, bottom = (int(np.clip(v, 0, 1) * side) for v in (x0, y0, x1, y1))
        mask[top:bottom, left:right] = 1
    return mask


def truth_masks(boxes: Array, side: int = SIDE) -> Array:
    """Masks `[N, side, side]` of the boxes `[N, K, 4]` of clips, NaN for none."""
    return np.stack(
        [box_mask([b for b in row.tolist() if not np.isnan(b[0])], side) for row in boxes]
    )


def binarise(map_: Array, rule: Rule, threshold: float) -> NDArray[np.bool_]:
    """The predicted region under one of the field's rules.

    `median`: the upper half of the area, whatever is in it. `fixed`: at least 0.5 after min-max
    stretching. `universal`: at least `threshold` as it is, the only rule a live map can use.
    """
    if rule == "universal":
        return map_ >= threshold
    if rule == "median":
        return map_ > np.median(map_)
    low, high = float(map_.min()), float(map_.max())
    return (map_ - low) / max(high - low, 1e-12) >= 0.5


def ciou(predicted: NDArray[np.bool_], truth: Array) -> Any:
    """Consensus intersection over union along the last two axes; 0 where the truth is empty."""
    area = truth.sum((-2, -1))
    hit = (truth * predicted).sum((-2, -1))
    missed = (predicted & (truth == 0)).sum((-2, -1))
    return np.where(area > 0, hit / np.maximum(area + missed, 1e-9), 0.0)


def ciou_by_rule(large: Array, truth: Array, threshold: float) -> dict[Rule, float]:
    """cIoU of one map and its truth, both `[side, side]`, under each of the field's rules."""
    return {rule: float(ciou(binarise(large, rule, threshold), truth)) for rule in RULES}


def success(values: NDArray[np.float64], threshold: float = 0.5) -> float:
    """Share of `values` at or over `threshold`."""
    return float(np.mean(values >= threshold)) if len(values) else 0.0


def auc(values: NDArray[np.float64]) -> float:
    """Area under success(t) for t = 0, 0.05, ... 1."""
    return float(np.trapezoid([success(values, t) for t in AUC_STEPS], AUC_STEPS))


def in_box(x: float, y: float, box: tuple[float, float, float, float]) -> bool:
    """Whether a point lies in a box, all in 0..1."""
    return box[0] <= x <= box[2] and box[1] <= y <= box[3]


def map_peak(map_: Array) -> tuple[float, float]:
    """Middle (x, y in 0..1) of the strongest cell."""
    row, column = np.unravel_index(int(map_.argmax()), map_.shape)
    return (float(column) + 0.5) / map_.shape[1], (float(row) + 0.5) / map_.shape[0]


def centre_disc(map_size: tuple[int, int]) -> Array:
    """A map that looks at nothing: highest in the middle. Half of it is a disc of half the area."""
    y, x = np.mgrid[0 : map_size[0], 0 : map_size[1]]
    r = np.hypot((x + 0.5) / map_size[1] - 0.5, (y + 0.5) / map_size[0] - 0.5)
    return (1 - r).astype(np.float32)
