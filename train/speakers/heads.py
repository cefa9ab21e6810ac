"""Teaches the network that finds heads: scenes put together of photographs and of frames, in which
the teachers have said where heads are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avsl.engines.networks.faces import Heads
from avsl.engines.speakers.sight import CELL, Sight
from avsl.train.bars import Progress
from avsl.train.data.prepare import opencv
from avsl.train.speakers.camera import a_little_worse, moved, turning
from avsl.train.speakers.labels import Grey, Seen
from avsl.train.speakers.learning import Batch, Course, learn, stacked
from avsl.train.teach.people import SURE

cv2 = opencv()
Array = NDArray[np.float32]
BATCH, STEPS = 12, 3500
HELD = 15
"""Every which picture is measured on."""
H, W = 192, 256
NONE, MAYBE, CLIPS = 0.15, 0.2, 0.4
"""Up to where a draw takes a picture without heads, with doubtful ones alone, a clip's."""
LEAST, MOST = 3.0, 80.0
"""Pixels between the eyes of a head that a picture is scaled by."""
TOO_SMALL, TOO_LARGE = 2.2, 110.0
"""Where heads of such count neither as heads nor as none."""
FACE, DOUBTED = 0.4, 0.6
"""A head in which the mesh sees a face with less than this is a doubtful one, of at most that."""
SIZE = 0.5
"""What the loss of place and size counts."""


class Head(NamedTuple):
    """One in a scene: pixels, and how likely it is one."""

    x: float
    y: float
    eyes: float
    sure: float


class Scenes:
    """Draws scenes of pictures `taught`."""

    def __init__(self, taught: Sequence[Seen]) -> None:
        with_heads = [seen for seen in taught if len(seen.heads)]
        photos = [seen for seen in with_heads if not seen.person]
        self.empty = [seen for seen in taught if not len(seen.heads)]
        self.clips = [seen for seen in with_heads if seen.person]
        self.maybe = [seen for seen in with_heads if not (seen.heads[:, 3] > SURE).any()]
        self.full = [seen for seen in photos if (seen.heads[:, 3] > SURE).any()]

    def batch(self, rng: np.random.Generator) -> Batch:
        """Scenes `[B, 192, 256]` and the `targets` of each."""
        return stacked(self.draw, rng, BATCH)

    def draw(self, rng: np.random.Generator) -> Batch:
        """One of each."""
        picture, heads = self.scene(rng)
        if rng.random() < 0.5:
            picture = picture[:, ::-1]
            heads = [head._replace(x=W - 1 - head.x) for head in heads]
        return a_little_worse(rng, picture), *targets(heads)

    def scene(self, rng: np.random.Generator) -> tuple[Grey, list[Head]]:
        """A picture that fills the frame, and up to three laid over it."""
        canvas = np.zeros((H, W), np.uint8)
        first = self._pick(rng)
        eyes = _size(rng, MOST) if len(first.heads) and rng.random() < 0.8 else None
        heads = paste(rng, canvas, [], first, (0, 0, H, W), eyes)
        for _ in range(rng.integers(0, 4) if rng.random() < 0.6 else 0):
            over = self._pick(rng)
            tall = min(int(rng.uniform(30, H)), H - 1)
            wide = int(min(W - 1, tall * rng.uniform(0.6, 1.6)))
            at = int(rng.integers(0, H - tall)), int(rng.integers(0, W - wide))
            eyes = _size(rng, max(4, tall * 0.4)) if len(over.heads) else None
            heads = paste(rng, canvas, heads, over, (*at, tall, wide), eyes)
        return canvas, heads

    def _pick(self, rng: np.random.Generator) -> Seen:
        kind = rng.random()
        if kind < NONE:
            some = self.empty
        elif kind < MAYBE and self.maybe:
            some = self.maybe
        elif kind < CLIPS and self.clips:
            some = self.clips
        else:
            some = self.full
        return some[rng.integers(len(some))]


def _size(rng: np.random.Generator, most: float) -> float:
    return float(np.exp(rng.uniform(np.log(LEAST), np.log(most))))


def paste(
    rng: np.random.Generator,
    canvas: Grey,
    heads: list[Head],
    seen: Seen,
    where: tuple[int, int, int, int],
    eyes: float | None,
) -> list[Head]:
    """Lays a picture into `where` (top, left, height, width) of a canvas, one of its heads with so
    many pixels between the eyes, or without such as large as it fits; gives the heads in view then.
    """
    top, left, tall, wide = where
    high, broad = seen.picture.shape
    if eyes is None:
        scale = max(tall / high, wide / broad) * np.exp(abs(rng.normal(0, 0.4)))
        held = rng.uniform(0, broad), rng.uniform(0, high)
        to = wide / 2, tall / 2
    else:
        sure = seen.heads[seen.heads[:, 3] > SURE]
        one = sure[rng.integers(len(sure))] if len(sure) else seen.heads[0]
        scale, held = eyes / one[2], (one[0], one[1])
        to = rng.uniform(0.15, 0.85) * wide, rng.uniform(0.15, 0.85) * tall
    turn = turning(scale, rng.normal(0, 0.12))
    move = np.array(to) - turn @ np.array(held)
    border = cv2.BORDER_CONSTANT if rng.random() < 0.5 else cv2.BORDER_REPLICATE
    beyond = float(rng.uniform(0, 255))
    picture = moved(seen.picture, turn, move, (wide, tall), border, beyond)
    canvas[top : top + tall, left : left + wide] = picture.astype(np.uint8)
    shown = [h for h in heads if not (left <= h.x < left + wide and top <= h.y < top + tall)]
    for x, y, size, head, face in seen.heads:
        x, y = turn @ [x, y] + move
        if 0 <= x < wide and 0 <= y < tall:
            likely = float(head if face > FACE else min(head, DOUBTED))
            shown.append(Head(x + left, y + top, size * scale, likely))
    return shown


def targets(heads: Sequence[Head]) -> tuple[Array, Array, Array, Array]:
    """Of each cell `[24, 32]`: how near the middle of a head is, 1 in that which holds it; what it
    counts; where the head is from the cell's middle, in cells, and the logarithm of its size `[3,
    24, 32]`; and whether these are to be learnt."""
    m, n = H // CELL, W // CELL
    heat, counts, near = np.zeros((m, n)), np.ones((m, n)), np.zeros((m, n))
    place = np.zeros((3, m, n))
    y, x = np.mgrid[:m, :n]
    for head in heads:
        across, down = ((at + 0.5) / CELL - 0.5 for at in (head.x, head.y))
        away = np.hypot(x - across, y - down)
        if not TOO_SMALL <= head.eyes <= TOO_LARGE:
            counts[away < max(12, 1.5 * head.eyes) / CELL] = 0
            continue
        spread = max(0.55, 0.22 * head.eyes / CELL)
        bump = np.exp(-(away**2) / (2 * spread**2))
        cell = int(np.clip(round(down), 0, m - 1)), int(np.clip(round(across), 0, n - 1))
        bump[cell] = 1
        if head.sure < SURE:
            counts[bump > 0.05] = 0
            continue
        np.maximum(heat, bump, out=heat)
        inside = bump > 0.4
        for part, value in zip(place, (across - x, down - y, np.log(head.eyes)), strict=True):
            part[inside] = np.broadcast_to(value, (m, n))[inside]
        near[inside] = 1
    return tuple(a.astype(np.float32) for a in (heat, counts, place, near))  # type: ignore[return-value]


def heads_loss(
    network: Heads, scenes: Tensor, heat: Tensor, counts: Tensor, place: Tensor, near: Tensor
) -> Tensor:
    """The focal loss of points (Law & Deng 2018), and how far place and size are off."""
    said = network(scenes)
    p = said[:, 0].sigmoid().clamp(1e-4, 1 - 1e-4)
    middle = (heat >= 1).float()
    missed = middle * (1 - p) ** 2 * p.log()
    false = (1 - middle) * (1 - heat) ** 4 * p**2 * (1 - p).log()
    focal = -((missed + false) * counts).sum() / middle.sum().clamp(min=1)
    off = ((said[:, 1:] - place).abs() * near[:, None]).sum() / near.sum().clamp(min=1)
    return focal + SIZE * off


def teach_heads(taught: Sequence[Seen], run: Path, steps: int, progress: Progress) -> Heads:
    """Trains the network into `run`, or goes on with what lies there."""
    torch.manual_seed(0)
    network = Heads().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    course = Course("heads", steps, decay=1e-4, rising=0.1)
    learn(network, Scenes(taught).batch, heads_loss, course, run, progress)
    return network


def measure_heads(sight: Sight, held: Sequence[Seen]) -> str:
    """On pictures that were not learnt from: how many heads that the teachers are sure of are
    found, and how many are found where they see none."""
    right = sure = false = 0
    for seen in held:
        found = [place for place, _ in sight.heads(seen.picture)]
        known = np.zeros(len(found), bool)
        for x, y, eyes, head, face in seen.heads:
            hit = np.array([np.hypot(at.x - x, at.y - y) < 0.6 * eyes for at in found], bool)
            known |= hit
            if head > SURE and face > FACE and eyes > LEAST:
                sure += 1
                right += bool(hit.any())
        false += int((~known).sum())
    return f"heads: {right} of {sure} found, {false} false ones, in {len(held)} pictures held out"
