"""Teaches the network of a face's points: what the face mesh says of a good picture is to be said
of one that is moved, dark, blurred, noisy and coded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from avsl.engines.networks.faces import POINTS, FacePoints
from avsl.engines.speakers.crop import SIDE
from avsl.engines.speakers.sight import Sight
from avsl.train.bars import Progress
from avsl.train.data.prepare import opencv
from avsl.train.speakers.camera import moved, turning, worse
from avsl.train.speakers.labels import AROUND, WIDE, Face, Grey
from avsl.train.speakers.learning import Batch, Course, learn, stacked
from avsl.train.speakers.mesh import MIRRORED

cv2 = opencv()
Array = NDArray[np.float32]
BATCH, STEPS = 32, 6000
HELD = 12
"""Every which face of a photograph is measured on."""
MIDDLE = SIDE / 2, 50.0
"""What crops are turned and scaled around: the middle of a face, a little over the nose."""
NONE, CLIPS = 0.12, 0.5
"""Up to where a draw takes no face, a clip's."""
COVERED, LOOSE = 0.06, 0.35
"""How often a mouth is hidden, and a crop lies far off."""
LIPS, INSIDE, CORNERS = slice(15, 31), slice(25, 31), slice(0, 4)
MOVED = np.array([AROUND, AROUND, 0], np.float32)
"""By how much points of a kept face lie off those of its crop."""
ROUND = 3.0
"""Pixels up to where an error counts by its square."""
FACE = 0.5
"""What the loss of face or none counts."""


class Portraits:
    """Draws crops with their points, of faces `taught`, on and beside pictures without any."""

    def __init__(self, taught: Sequence[Face], empty: Sequence[Grey]) -> None:
        self.photos = [face for face in taught if not face.person]
        self.empty = empty
        people: dict[str, list[Face]] = defaultdict(list)
        for face in taught:
            if face.person:
                people[face.person].append(face)
        self.people = list(people.values())

    def batch(self, rng: np.random.Generator) -> Batch:
        """Crops `[B, 112, 112]`, points `[B, 36, 3]`, and whether a face with its mouth in view is
        there `[B]`."""
        return stacked(self.draw, rng, BATCH)

    def draw(self, rng: np.random.Generator) -> Batch:
        """One of each."""
        kind = rng.random()
        if kind < NONE:
            crop = self._none(rng)
            return worse(rng, crop), np.zeros((POINTS, 3), np.float32), np.zeros((), np.float32)
        if self.people and kind < CLIPS:  # each person as often, however long the clips
            some = self.people[rng.integers(len(self.people))]
        else:
            some = self.photos
        crop, points = jittered(rng, some[rng.integers(len(some))])
        hidden = rng.random() < COVERED and self._cover(rng, crop, points)
        return worse(rng, crop), points, np.array(not hidden, np.float32)

    def _none(self, rng: np.random.Generator) -> Array:
        if rng.random() < 0.5:
            place = self._empty(rng)
            side = int(rng.uniform(0.15, 1) * min(place.shape))
            y, x = (int(rng.integers(whole - side + 1)) for whole in place.shape)
            part = place[y : y + side, x : x + side]
            return cv2.resize(part, (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
        # Far beside a face: an ear, a shoulder.
        face = self.photos[rng.integers(len(self.photos))]
        scale, angle, far = rng.uniform(0.5, 1.6), rng.uniform(0, 2 * np.pi), rng.uniform(60, 100)
        at = WIDE / 2 + far * np.array([np.cos(angle), np.sin(angle)])
        size = SIDE, SIDE
        return moved(face.wide, np.eye(2) * scale, SIDE / 2 - scale * at, size, cv2.BORDER_REFLECT)

    def _cover(self, rng: np.random.Generator, crop: Array, points: Array) -> bool:
        """Hides a mouth; says whether it was in the crop."""
        y, x = int(points[[25, 26], 1].mean()), int(points[[15, 16], 0].mean())
        high, wide = int(rng.uniform(14, 26)), int(rng.uniform(18, 40))
        y0, y1, x0, x1 = (
            max(0, y - high),
            min(SIDE, y + high),
            max(0, x - wide),
            min(SIDE, x + wide),
        )
        if y1 <= y0 or x1 <= x0:
            return False
        crop[y0:y1, x0:x1] = cv2.resize(self._empty(rng)[:60, :60], (x1 - x0, y1 - y0))
        return True

    def _empty(self, rng: np.random.Generator) -> Grey:
        return self.empty[int(rng.integers(len(self.empty)))]


def jittered(rng: np.random.Generator, face: Face) -> tuple[Array, Array]:
    """A crop `[112, 112]` of a face, moved, turned, scaled and mirrored, and its points there."""
    loose = rng.random() < LOOSE
    scale = np.exp(rng.normal(0, 0.22 if loose else 0.07))
    turn = turning(scale, rng.normal(0, 0.22 if loose else 0.07))
    off = rng.normal(0, 9 if loose else 2.5, 2)
    move = np.array(MIDDLE) + off - turn @ (np.array(MIDDLE) + AROUND)
    crop = moved(face.wide, turn, move, (SIDE, SIDE))
    points = np.column_stack([face.points[:, :2] @ turn.T + move, face.points[:, 2] * scale])
    if rng.random() < 0.5:
        crop, points = np.ascontiguousarray(crop[:, ::-1]), points[list(MIRRORED)]
        points[:, 0] = SIDE - 1 - points[:, 0]
    return crop, points.astype(np.float32)


def teach_points(
    faces: Sequence[Face], empty: Sequence[Grey], run: Path, steps: int, progress: Progress
) -> FacePoints:
    """Trains the network into `run`, or goes on with what lies there."""
    torch.manual_seed(0)
    network = FacePoints().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    photos = [face.points for face in faces if not face.person]
    network.mean.copy_(torch.from_numpy(np.mean(photos, 0) - MOVED))
    portraits = Portraits(faces, empty)
    course = Course("points", steps, decay=1e-4, rising=0.1)
    learn(network, portraits.batch, points_loss, course, run, progress)
    return network


def points_loss(network: FacePoints, crops: Tensor, points: Tensor, face: Tensor) -> Tensor:
    """How far points are off, lips above all and most of all how far they open; and face or none.
    Of no face, points say nothing."""
    said, logit = network(crops)
    off = F.smooth_l1_loss(said * _WEIGHT, points * _WEIGHT, reduction="none", beta=ROUND)
    off = (off.mean((1, 2)) * face).sum() / face.sum().clamp(min=1)
    return off + FACE * F.binary_cross_entropy_with_logits(logit, face)


def _weights() -> Tensor:
    weight = torch.ones(POINTS, 3)
    weight[:, 2] = 0.3
    weight[LIPS] = weight[CORNERS] = 2
    weight[INSIDE, 1] = 4
    return weight / weight.mean()


_WEIGHT = _weights()


def measure_points(sight: Sight, held: Sequence[Face]) -> str:
    """On faces that were not learnt from: how far lips and eyes are off, in pixels of a crop, and
    how the mouth's opening goes with the teacher's."""
    inner = slice(AROUND, AROUND + SIDE)
    said = [sight.points([face.wide[inner, inner].astype(np.float32)])[0][0] for face in held]
    found, wanted = np.array(said), np.array([face.points - MOVED for face in held])
    off = np.abs(found - wanted)[..., :2]
    opening = [points[:, 26, 1] - points[:, 25, 1] for points in (found, wanted)]
    return (
        f"points: lips {off[:, LIPS].mean():.2f}, eyes {off[:, CORNERS].mean():.2f} pixels off, "
        f"opening as the teacher's {np.corrcoef(*opening)[0, 1]:.3f}, on {len(held)} faces held out"
    )
