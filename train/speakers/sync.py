"""Teaches the networks of sync: what a face did and what was heard at the same time are to agree
more than at any other time, and more than with anybody else's voice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from avsl.engines.networks.lips import Sync
from avsl.engines.speakers.lips import NEAR, series, smoothed
from avsl.train.bars import Progress
from avsl.train.speakers.learning import Batch, Course, learn
from avsl.train.speakers.series import Series

Array = NDArray[np.float32]
BATCH, STEPS = 24, 2500
LENGTHS = (40, 50, 60, 75, 100)
"""Bins of a batch's windows."""
SHORTEST = 30
"""Bins of a clip at least."""
FASTER = 0.2
"""Deviation of the logarithm of speed: each is as if spoken faster or slower."""
SLOW_CAMERA = 0.2
"""How often every other picture is missing."""
LIPS_NOISE, VOICE_NOISE = 0.8, 0.3
"""Of a number's deviation, as much noise at most."""


class Talks:
    """Draws windows of those who speak, each person as often."""

    def __init__(self, taught: Sequence[Series]) -> None:
        people: dict[str, list[tuple[Array, list[Array]]]] = defaultdict(list)
        for one in taught:
            if len(one.moves) >= SHORTEST:
                sounds = [smoothed(sound) for sound in (one.heard, *one.mixed)]
                people[one.clip.person].append((series(one.moves), sounds))
        self.people = list(people.values())

    def batch(self, rng: np.random.Generator) -> Batch:
        """Lips `[B, n, 18]` and what was heard meanwhile `[B, n, 6]`."""
        length = int(rng.choice(LENGTHS))
        few = len(self.people) < BATCH
        rows = [self._draw(rng, p, length) for p in rng.choice(len(self.people), BATCH, few)]
        lips, sounds = zip(*rows, strict=True)
        return np.stack(lips).astype(np.float32), np.stack(sounds).astype(np.float32)

    def _draw(self, rng: np.random.Generator, person: int, length: int) -> tuple[Array, Array]:
        clips = self.people[person]
        lips, sounds = clips[rng.integers(len(clips))]
        sound = sounds[0 if rng.random() < 0.5 else rng.integers(len(sounds))]
        at = np.arange(length) * np.exp(rng.normal(0, FASTER)) + rng.uniform(0, len(lips))
        # There and back again where the clip is too short.
        end = len(lips) - 1
        at = end - np.abs(at % (2 * end) - end)
        x, y = _taken(lips, at), _taken(sound, at)
        if rng.random() < 0.5:
            x, y = x[::-1], y[::-1]
        if rng.random() < SLOW_CAMERA:
            x = _taken(x[::2], np.minimum(np.arange(length) / 2, (length - 1) // 2))
        x = x + rng.normal(0, 1, x.shape) * x.std(0) * rng.uniform(0, LIPS_NOISE)
        y = y + rng.normal(0, 1, y.shape) * y.std(0) * rng.uniform(0, VOICE_NOISE)
        return x, y


def _taken(x: Array, at: NDArray[np.float64]) -> Array:
    """Rows of a series between its bins."""
    before = np.clip(at.astype(int), 0, len(x) - 2)
    share = (at - before)[:, None]
    out: Array = x[before] * (1 - share) + x[before + 1] * share
    return out


def sync_loss(network: Sync, moves: Tensor, heard: Tensor) -> Tensor:
    """Of all correlations of a face's vectors, with the sound as it was, moved around by more than
    `NEAR` bins, and of all others, that with its own is to be the highest."""
    lips, voice = network(moves, heard)
    count, size, length = lips.shape
    spectra = (torch.fft.rfft(lips).conj() * torch.fft.rfft(voice)).sum(1)
    moved = torch.fft.irfft(spectra, length) / length / size
    others = torch.einsum("bdt,cdt->bc", lips, voice) / length / size
    others = others[~torch.eye(count, dtype=torch.bool)].view(count, count - 1)
    all_ = torch.cat([moved[:, :1], moved[:, NEAR:-NEAR], others], 1) * network.sharp.exp()
    return F.cross_entropy(all_, torch.zeros(count, dtype=torch.long))


def teach_sync(taught: Sequence[Series], run: Path, steps: int, progress: Progress) -> Sync:
    """Trains both networks into `run`, or goes on with what lies there."""
    torch.manual_seed(0)
    network = Sync()
    course = Course("sync", steps, decay=0.02, rising=0.3)
    learn(network, Talks(taught).batch, sync_loss, course, run, progress)
    return network
