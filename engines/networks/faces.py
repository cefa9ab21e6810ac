"""Two small networks of who speaks, which take brightness alone: heads in a picture, and the points
of one face."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

POINTS = 36
"""Of a face, see `avsl.train.speakers.mesh.KEPT`."""


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class FacePoints(nn.Module):
    """A face's crop `[B, 112, 112]`, brightness 0 to 255, to its points `[B, 36, 3]` in pixels
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
