"""The two networks that find faces, on one thread of ONNX Runtime: each run is short."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl.engines.errors import UserError
from avsl.engines.pictures import Luma
from avsl.engines.speakers.crop import Crop, Place, reduced

Array = NDArray[np.float32]

HERE = Path(__file__).parent / "networks"
LONGEST = 448
"""Pixels of the longer side of a picture in which heads are looked for."""
CELL, STEP = 8, 32
HEAD = 0.5
"""From this probability on, something is looked at as a face."""
APART = 0.6
"""Two that are found nearer than so many of the distances between their eyes are one."""


class Sight:
    """Heads in a picture, points of a face.

    Raises:
        UserError: a network that should be there isn't, or can't be read.
    """

    def __init__(self, networks: Path = HERE) -> None:
        self._heads, self._points = (
            session(networks / "heads.onnx"),
            session(networks / "points.onnx"),
        )

    def heads(self, luma: Luma) -> list[tuple[Place, float]]:
        """Where heads are, and how likely each is one, the surest first."""
        by = -(-max(luma.shape) // LONGEST)
        small = reduced(luma, by)
        h, w = small.shape
        padded = np.zeros((-(-h // STEP) * STEP, -(-w // STEP) * STEP), np.float32)
        padded[:h, :w] = small
        (said,) = self._heads.run(None, {"picture": padded[None]})[0]
        likely = 1 / (1 + np.exp(-said[0]))
        edged = np.pad(likely, 1)
        m, n = likely.shape
        highest = np.max([edged[y : y + m, x : x + n] for y in range(3) for x in range(3)], axis=0)
        rows, columns = np.nonzero((likely >= highest) & (likely >= HEAD))
        found: list[tuple[Place, float]] = []
        for r, c in sorted(zip(rows, columns, strict=True), key=lambda at: -likely[at]):
            right, down, size = said[1:, r, c]
            x, y = ((at + off + 0.5) * CELL * by - 0.5 for at, off in ((c, right), (r, down)))
            eyes = float(np.exp(min(size, 7.0))) * by
            if all(np.hypot(x - o.x, y - o.y) > APART * max(eyes, o.eyes) for o, _ in found):
                found.append((Place(float(x), float(y), eyes, 0.0), float(likely[r, c])))
        return found

    def points(self, crops: Sequence[Crop]) -> tuple[Array, Array]:
        """Points `[n, 36, 3]` of the faces in crops, in pixels of these, z as x, and logits `[n]`
        that each shows a face with its mouth in view."""
        points, face = self._points.run(None, {"crop": np.stack(crops)})
        return points, face


@cache
def session(path: Path) -> Any:
    """A network that runs on one thread.

    Raises:
        UserError: it isn't there, or can't be read.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exceptions share no narrower public base
        kind = type(error).__name__
        raise UserError(f"{path}: can't be loaded ({kind}); install avsl again") from None
