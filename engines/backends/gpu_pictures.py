"""The resizer on a GPU: what `pictures.Resizer` makes of a frame, of planes that lie there."""

from __future__ import annotations

from itertools import product
from typing import Any

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from torch import Tensor

from avsl.engines.pictures import Resizer

Matrix = NDArray[Any]

SITINGS = tuple(product((0.0, -0.25, 0.25), (0.0, -0.25)))
"""How far 4:2:0 chroma may lie from the middle of its pixels, down and across, in such pixels."""
PATTERN, ENLARGED = 64, 96
"""Sides of the pattern that the resizer is tried with, and of what it makes of it."""


class GpuResizer:
    """Stretches pictures like `frame`, a `yuv420p`, `yuvj420p` or `yuv420p10le` of any size, to a
    network's picture: like `pictures.Resizer` within 5 levels, mostly within 1.

    Averaging over areas is linear along each axis, so it is a product with a matrix from each side.
    """

    def __init__(self, frame: av.VideoFrame, size: tuple[int, int], device: torch.device) -> None:
        colours, siting = _reading(frame)
        matrix = torch.from_numpy(colours).float().to(device)
        self._colours, self._offset = matrix[:3], matrix[3]
        source = frame.height, frame.width
        sides = []
        for pixels, side, off in zip(source, size, siting, strict=True):
            half = (pixels + 1) // 2
            luma = np.pad(weights(pixels, side), ((0, 0), (0, 2 * half - pixels)))
            if source == size and not frame.format.name.endswith("10le"):
                # swscale doesn't interpolate then.
                chroma = np.eye(half).repeat(2, axis=0)[:side]
            else:
                chroma = weights(half, side, off)
            sides.append(
                [torch.tensor(w, dtype=torch.float32, device=device) for w in (luma, chroma)]
            )
        self._down, self._across = sides

    def __call__(self, luma: Tensor, chroma: Tensor) -> Tensor:
        """RGB `[B, h, w, 3]` uint8.

        Args:
            luma: `[B, 2 H, 2 W]`; where the frame is of odd size, what lies in the last row or
                column doesn't matter.
            chroma: U and V, `[B, 2, H, W]`.
        """
        y, uv = (
            down @ (plane.float() @ across.T)
            for plane, down, across in zip((luma, chroma), self._down, self._across, strict=True)
        )
        planes = torch.cat((y[:, None], uv), 1).movedim(1, -1)
        rgb = planes @ self._colours + self._offset
        return rgb.round_().clamp_(0, 255).to(torch.uint8)


def weights(source: int, target: int, off: float = 0.0) -> Matrix:
    """`[target, source]`: how much of each source pixel is in a target pixel, as swscale's area
    filter has it: by the share of the area; where it enlarges, linear between two.

    Args:
        off: how far the samples lie from the middle of their pixels, in source pixels.
    """
    scale = source / target
    beyond = int(scale) + 3  # what lies beyond the edge is like the edge
    middle = (np.arange(target) + 0.5) * scale - off
    apart = np.abs(np.arange(-beyond, source + beyond) + 0.5 - middle[:, None])
    share = np.clip(max(scale, 1) / 2 + 0.5 - apart, 0, 1)
    inside = share[:, beyond:-beyond]
    inside[:, 0] += share[:, :beyond].sum(1)
    inside[:, -1] += share[:, -beyond:].sum(1)
    return inside / inside.sum(1, keepdims=True)


def _reading(frame: av.VideoFrame) -> tuple[Matrix, tuple[float, float]]:
    """How the resizer reads the code values of `frame`: `[4, 3]`, from (Y, U, V, 1) to RGB, and the
    siting of chroma.

    Which of a frame's tags are heeded, and what stands for an unknown matrix, differs between
    versions of PyAV and FFmpeg. So the resizer is tried with a pattern that carries the same tags.
    """
    width = PATTERN if frame.width != PATTERN else PATTERN + 2  # a frame of its own, in any case
    pattern: Any = VideoReformatter().reformat(frame, width, PATTERN, frame.format.name)
    deep = frame.format.name.endswith("10le")
    rng = np.random.default_rng(0)
    planes = []
    for plane, (low, high) in zip(pattern.planes, ((80, 171), (96, 161), (96, 161)), strict=True):
        lines = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        lines = lines.view(np.uint16 if deep else np.uint8)
        # Colours that all matrices have within RGB, or something would be cut off.
        values = rng.integers(low, high, (plane.height, plane.width)) << (2 if deep else 0)
        lines[: plane.height, : plane.width] = values
        planes.append(values)
    rgb = Resizer((ENLARGED, ENLARGED))(pattern).reshape(-1, 3).astype(np.float64)
    found = []
    for siting in SITINGS:
        y, u, v = (
            _enlarged(p, off) for p, off in zip(planes, ((0, 0), siting, siting), strict=True)
        )
        terms = np.stack([y, u, v, np.ones(len(rgb))], axis=1)
        colours = np.linalg.lstsq(terms, rgb, rcond=None)[0]
        found.append((float(np.square(terms @ colours - rgb).sum()), colours, siting))
    _, colours, siting = min(found, key=lambda item: item[0])
    return colours, siting


def _enlarged(plane: Matrix, siting: tuple[float, float]) -> Matrix:
    sides = zip(plane.shape, siting, strict=True)
    down, across = (weights(side, ENLARGED, off) for side, off in sides)
    return (down @ plane @ across.T).ravel()
