"""Weak and strong views of clips: what is drawn for each depends on (seed, clip, step) alone.

The draws are plain numbers in 0..1, made per clip where clips are loaded; what they do to pictures
and sounds is done here to whole batches, on whatever device the batch is on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

WEAK = 4
"""How many draws a weak view takes."""
STRONG = 32
"""And a strong one: its own geometry, its picture's, its sound's."""
SOUND_DRAWS = 7
CROP = 0.12
"""A crop loses up to this share of the picture's width and height."""
RANDAUGMENT_OPS = 2
"""RandAugment's N; each of the operations comes with a strength of its own (its M is drawn)."""
HIDDEN_S, HIDDEN_BAND = 0.25, 0.25
"""SpecAugment: at most this share of the window's time, and of its spectrum, is hidden."""
KEPT_S = 0.15
"""What sounds this close to the picture's moment (a share of the window) is never hidden."""


def pictures_to_input(pictures: Tensor) -> Tensor:
    """uint8 `[B, h, w, 3]` to float `[B, 3, h, w]` in [-1, 1], as the exported graph does it."""
    return pictures.float().permute(0, 3, 1, 2) / 127.5 - 1


@dataclass(frozen=True)
class Geometry:
    """Crop and flip of each picture: source = scale * view + offset, along x and y, both in
    [-1, 1]. A flip is a negative scale. Tensors `[B, 2]`."""

    scale: Tensor
    offset: Tensor

    @staticmethod
    def of(u: Tensor) -> Geometry:
        """From draws `[B, 4]`: size of the crop, its place along x and y, and the flip."""
        size = 1 - CROP * u[:, :1]
        flip = torch.where(u[:, 3:4] < 0.5, -1.0, 1.0)
        scale = torch.cat([size * flip, size], 1)
        return Geometry(scale, (2 * u[:, 1:3] - 1) * (1 - size))

    def pictures(self, pictures: Tensor) -> Tensor:
        """The view of `[B, C, h, w]`."""
        return F.grid_sample(pictures, self._grid(pictures), "bilinear", "border", False)

    def target(self, boxes: Tensor, cells: tuple[int, int]) -> Tensor:
        """How much of each cell of the view lies in a box: boxes `[B, K, 4]` of the source (x0, y0,
        x1, y1 in 0..1, NaN for none) to `[B, m, n]` in 0..1."""
        corners = boxes.view(*boxes.shape[:2], 2, 2) * 2 - 1
        view = (corners - self.offset[:, None, None]) / self.scale[:, None, None]
        # A flip turns left and right round.
        return cells_of(((view.sort(2).values + 1) / 2).flatten(2), cells)

    def carry(self, maps: Tensor, to: Geometry) -> tuple[Tensor, Tensor]:
        """Maps `[B, m, n]` of this view as the view `to` has them, and which of its cells (0 or 1)
        this view has seen at all."""
        step = Geometry(to.scale / self.scale, (to.offset - self.offset) / self.scale)
        grid = step._grid(maps[:, None])
        carried = F.grid_sample(maps[:, None], grid, "nearest", "zeros", False)[:, 0]
        return carried, (grid.abs() <= 1).all(3).to(maps.dtype)

    def labels(self, labels: Tensor) -> Tensor:
        """Labels of cells `[B, m, n]` of the source as this view has them."""
        maps = labels[:, None].float()
        return F.grid_sample(maps, self._grid(maps), "nearest", "border", False)[:, 0].long()

    def _grid(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        across = (torch.arange(w, device=x.device) + 0.5) / w * 2 - 1
        down = (torch.arange(h, device=x.device) + 0.5) / h * 2 - 1
        xs = self.scale[:, :1] * across + self.offset[:, :1]
        ys = self.scale[:, 1:] * down + self.offset[:, 1:]
        return torch.stack([xs[:, None].expand(-1, h, -1), ys[:, :, None].expand(-1, -1, w)], 3).to(
            x.dtype
        )


def cells_of(boxes: Tensor, cells: tuple[int, int]) -> Tensor:
    """How much of each cell lies in a box: `[B, K, 4]` (NaN for none) to `[B, m, n]` in 0..1."""
    covers = []
    for axis, count in ((1, cells[0]), (0, cells[1])):
        edges = torch.arange(count + 1, device=boxes.device) / count
        low = torch.maximum(boxes[..., axis, None], edges[:-1])
        high = torch.minimum(boxes[..., 2 + axis, None], edges[1:])
        covers.append(((high - low) * count).clamp(0, 1).nan_to_num(0.0))
    union: Tensor = (covers[0][..., None] * covers[1][:, :, None]).amax(1)
    return union


def strong_pictures(x: Tensor, u: Tensor) -> Tensor:
    """RandAugment (Cubuk et al. 2020) for localization: of five photometric operations and a
    cut-out, each picture gets `RANDAUGMENT_OPS`, at strengths of their own.

    Args:
        x: `[B, 3, h, w]` in [-1, 1].
        u: draws `[B, >= 19]` in 0..1.
    """
    chosen = u[:, :6].argsort(1).argsort(1) < RANDAUGMENT_OPS
    strength = (2 * u[:, 6:12] - 1) * chosen  # in [-1, 1], 0 where the operation isn't chosen
    colour, contrast, light = (strength[:, i, None, None] for i in range(3))
    # Colour, contrast, colour balance and light are one 3 x 3 matrix and an offset.
    saturation = 1 + 0.7 * colour
    eye = torch.eye(3, device=x.device)
    matrix = (1 + 0.5 * contrast) * (saturation * eye + (1 - saturation) / 3)
    tint = 0.25 * (2 * u[:, 12:15, None] - 1) * chosen[:, 1, None, None]
    x = torch.baddbmm(tint + 0.4 * light, matrix, x.flatten(2)).view_as(x)

    def where(i: int) -> tuple[Tensor, Tensor]:
        index = chosen[:, i].nonzero()[:, 0]
        return index, strength[index, i, None, None, None]

    index, s = where(3)  # blur, or the opposite
    part = x[index]
    x[index] = part.lerp(F.avg_pool2d(part, 3, 1, 1, count_include_pad=False), s)
    index, s = where(4)
    if len(index):  # of a few pictures, none may have been chosen
        x[index] += _noise(x[index], u[index, 18]) * (0.2 * s)
    return _cut_out(x.clamp_(-1, 1), u[:, 15:18], chosen[:, 5])


def _noise(x: Tensor, u: Tensor) -> Tensor:
    """Pixel noise, `[B, 3, h, w]`: a window of a fixed pool at a place of its own for each picture,
    for fresh noise costs more than the network's first layer."""
    size = x[0].numel()
    pool = _pool(2 * size, x.device)
    starts = (u * size).long().tolist()
    return torch.stack([pool[i : i + size] for i in starts]).view_as(x)


_pools: dict[Any, Tensor] = {}


def _pool(size: int, device: torch.device) -> Tensor:
    key = size, device
    if key not in _pools:
        generator = torch.Generator().manual_seed(0)
        _pools[key] = torch.randn(size, generator=generator).to(device)
    return _pools[key]


def _cut_out(x: Tensor, u: Tensor, chosen: Tensor) -> Tensor:
    """Greys out a square of up to a third of the picture's width."""
    h, w = x.shape[2:]
    half = chosen * (0.05 + 0.12 * u[:, 0])
    across = (torch.arange(w, device=x.device) + 0.5) / w
    down = (torch.arange(h, device=x.device) + 0.5) / h
    inside = ((across - u[:, 1:2]).abs() < half[:, None])[:, None, :] & (
        (down - u[:, 2:3]).abs() < half[:, None]
    )[:, :, None]
    return x.masked_fill_(inside[:, None], 0.0)


def strong_samples(x: Tensor, u: Tensor, moment: float = 1.0) -> Tensor:
    """Gain, noise and SpecAugment (Park et al. 2019). Its masks, a stretch of time and a band of
    the spectrum, are put on the waveform, so that every sound encoder meets the same view.

    Args:
        x: `[B, S]`.
        u: draws `[B, >= 7]` in 0..1.
        moment: where in the window the picture was taken, 0..1.
    """
    n = x.shape[1]
    spectrum = torch.fft.rfft(x)
    # Bands are even on a log scale, as ears and mel filters have them, from 60 Hz of 8 kHz up.
    octaves = math.log2(8000 / 60)
    f = torch.linspace(1e-6, 1, spectrum.shape[1], device=x.device)
    height = (f.log2() / octaves + 1).clamp_min(0)
    low = u[:, 0:1] * (1 + HIDDEN_BAND) - HIDDEN_BAND
    spectrum = spectrum * ~((height > low) & (height < low + HIDDEN_BAND * u[:, 1:2]))
    x = torch.fft.irfft(spectrum, n)
    t = torch.arange(n, device=x.device) / n
    begin = u[:, 2:3] * (1 - HIDDEN_S)
    hidden = (t >= begin) & (t < begin + HIDDEN_S * u[:, 3:4])
    x = x * ~(hidden & ((t - moment).abs() > KEPT_S))
    level = x.square().mean(1, keepdim=True).sqrt() * 10 ** (-(10 + 20 * u[:, 4:5]) / 20)
    pool = _pool(4 * n, x.device)
    starts = (u[:, 5] * 3 * n).long().tolist()
    x = x + level * torch.stack([pool[i : i + n] for i in starts])
    return x * 10 ** (-u[:, 6:7])
