"""Two small networks of who speaks: heads in a picture, and the points of one face.

Both take brightness alone, and are convolutions in depth and across (Howard et al. 2017).
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

POINTS = 36
"""Of a face, see `avsl.train.speakers.mesh.KEPT`."""
CROP = 112
"""Pixels of a face's picture, in which its eyes lie level, 40 apart."""
HEAD_STRIDE = 8


def _conv(
    inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1
) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class _Block(nn.Module):
    """Wide in between, with a way past where it keeps its size (Sandler et al. 2018)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, wider: int = 3) -> None:
        super().__init__()
        wide = wider * inputs
        self.way = nn.Sequential(
            _conv(inputs, wide, 1),
            _conv(wide, wide, 3, stride, groups=wide),
            nn.Conv2d(wide, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.past = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out = cast(Tensor, self.way(x))
        return x + out if self.past else out


class FacePoints(nn.Module):
    """A face's picture `[B, 112, 112]`, brightness 0 to 255, to its points `[B, 36, 3]` in pixels
    of it, z as large as x, and the logit that it is a face `[B]`."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            _conv(1, 24, 7, 4),
            _conv(24, 32),
            _conv(32, 48, 3, 2),
            _conv(48, 48),
            _conv(48, 64, 3, 2),
            _conv(64, 64),
            _conv(64, 32, 1),
        )
        self.points = nn.Sequential(
            nn.Flatten(), nn.Linear(32 * 49, 160), nn.ReLU(inplace=True), nn.Linear(160, 3 * POINTS)
        )
        self.face = nn.Sequential(nn.Flatten(), nn.Linear(32 * 49, 1))
        self.register_buffer("mean", torch.zeros(POINTS, 3))
        """The middle of all faces, which what is learnt is added to."""

    def forward(self, crop: Tensor) -> tuple[Tensor, Tensor]:
        middle = crop.mean((1, 2), keepdim=True)
        spread = (crop - middle).square().mean((1, 2), keepdim=True).sqrt()
        x = self.features(((crop - middle) / (spread + 4))[:, None])
        points = self.points(x).unflatten(1, (POINTS, 3)) * 10 + self.mean
        return points, self.face(x)[:, 0]


class Heads(nn.Module):
    """A picture `[B, h, w]`, brightness 0 to 255, sides that 32 divides, to what each of its cells
    of 8 pixels says of heads `[B, 4, h / 8, w / 8]`: the logit that the middle between two eyes
    lies here, how far right and down of the cell's middle (in cells), and the logarithm of the
    pixels between the eyes (Zhou et al. 2019: objects as points)."""

    def __init__(self) -> None:
        super().__init__()
        self.eighth = nn.Sequential(_conv(1, 24, 7, 4), _conv(24, 40, 3, 2), _conv(40, 40))
        self.sixteenth = nn.Sequential(_conv(40, 48, 3, 2), _conv(48, 48))
        self.coarse = nn.Sequential(_conv(48, 64, 3, 2), _conv(64, 64), _conv(64, 64))
        self.from_coarse, self.from_sixteenth = _conv(64, 48, 1), _conv(48, 40, 1)
        self.middle, self.fine = _conv(48, 48), _conv(40, 40)
        self.out = nn.Conv2d(40, 4, 1)
        nn.init.constant_(self.out.bias[:1], -4.0)  # type: ignore[index]

    def forward(self, picture: Tensor) -> Tensor:
        x = (picture[:, None] - 110) / 60
        eighth = self.eighth(x)
        sixteenth = self.sixteenth(eighth)
        coarse = self.from_coarse(self.coarse(sixteenth))
        sixteenth = self.middle(sixteenth + _doubled(coarse))
        return cast(Tensor, self.out(self.fine(eighth + _doubled(self.from_sixteenth(sixteenth)))))


def _doubled(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
