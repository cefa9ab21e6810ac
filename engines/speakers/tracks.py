"""Heads are found, followed and read: what each of them does with its lips, picture by picture.

A head is looked for in the whole picture now and then, and followed from picture to picture by
registering its upper face. A cut ends all tracks, and the numbers of those who were followed are
not given again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from avsl.engines.pictures import Luma
from avsl.engines.speakers.crop import EYES, MIDDLE, UPPER, Crop, Cutter, Place, Template

Array = NDArray[np.float32]

MOST = 8
"""Heads that are followed, the largest and surest."""
SMALLEST = 7.0
"""Pixels between the eyes of the smallest that are."""
SEARCH_S = 0.3
"""Between two looks for heads."""
LOST_S = 0.7
"""So long a head that isn't seen keeps its number."""
AGAIN = 3
"""How often a face that was found anew is looked at, each time nearer."""
DRAWN_S, DRAWN, DEAD = 0.15, 0.5, 0.02
"""So often a place goes a share of the way to the eyes as they are found; and the part of the
distance between the eyes that it may be off without. Not in each picture: a face that was moved has
to be cut out anew."""
SAME = 0.8
"""Two heads nearer than so many of the distances between their eyes are one."""
CUT, CHANGED = 8.0, 0.5
"""Levels by which more than this share of the picture changes where a film cuts."""
GAP_S = 0.5
"""Pictures farther apart are as good as a cut."""
KEPT_S = 8.0
"""How long what a head did is remembered."""
MOUTH = slice(62, 106), slice(28, 84)
UPPER_FACE = tuple(slice(part.start, part.stop) for part in UPPER)
"""Rows and columns of a crop."""
DARK = 0.8
"""Deviations under the mean from which on a place in a mouth is dark: it is open there."""

HAIR = 0.95
"""How far a head reaches above its eyes, of how far its chin is below them."""
LEFT_EYE, RIGHT_EYE, NOSE = (0, 1), (2, 3), 12
TEMPLES = 34, 35
DISTANCES = (
    (25, 26), (27, 29), (28, 30),  # inner lips apart: middle, left, right
    (17, 18), (15, 16), (23, 24),  # outer lips apart; the mouth's width, outside and inside
    (12, 17), (12, 18), (12, 31), (10, 31),  # the nose to lips and chin
    (17, 25), (26, 18),  # how thick the lips are
    (0, 15), (3, 16),  # corners to eyes
)  # fmt: skip
"""Pairs of points whose distances are a mouth's shape: whichever way the head turns, they stay."""
_FROM, _TO = np.array(DISTANCES).T


class Sight(Protocol):
    """What finds faces: the two networks."""

    def heads(self, luma: Luma) -> Sequence[tuple[Place, float]]:
        """Where heads are, and how likely each is one, the surest first."""

    def points(self, crops: Sequence[Crop]) -> tuple[Array, Array]:
        """Points `[n, 36, 3]` of the faces in crops, in pixels of these, and logits `[n]` that
        each shows a face with its mouth in view."""


class Row(NamedTuple):
    """What a head did between two pictures."""

    time: float
    seconds: float
    """Since the picture before."""
    mouth: float
    face: float
    """By how much they changed, in deviations of brightness."""
    dark: float
    """How much of the mouth is dark."""
    shape: Array
    """`DISTANCES` over that between the eyes' outer corners, `[14]`."""
    turned: float
    """How far the nose is off the middle between the temples, in their distance."""
    face_logit: float


class Head:
    """One that is followed."""

    def __init__(self, number: int, place: Place, points: Array, logit: float) -> None:
        self.number = number
        self.place = place
        self.points = points
        self.logit = logit
        self.rows: deque[Row] = deque()
        self.seen = self.drawn = -np.inf
        self.crop: Crop | None = None
        self.template: Template | None = None

    @property
    def lost(self) -> bool:
        """Whether it wasn't seen in the picture that was watched last."""
        return self.template is None

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """Its box, hair to chin, in pixels."""
        found = self.place.moved(self.points)
        x0, x1 = found[list(TEMPLES), 0].min(), found[list(TEMPLES), 0].max()
        x0, x1 = min(x0, found[:, 0].min()), max(x1, found[:, 0].max())
        bottom = found[:, 1].max()
        top = self.place.y - HAIR * (bottom - self.place.y)
        return float(x0), float(top), float(x1), float(bottom)


class Tracks:
    """The heads of one stream."""

    def __init__(self, sight: Sight) -> None:
        self._sight = sight
        self.heads: list[Head] = []
        self._count = 0
        self._searched = self._time = -np.inf
        self._coarse: Array | None = None

    def watch(self, time: float, luma: Luma) -> None:
        """Takes in the picture of `time` (seconds)."""
        coarse = _coarse(luma)
        before, self._coarse = self._coarse, coarse
        step, self._time = time - self._time, time
        if before is None or before.shape != coarse.shape or not 0 < step < GAP_S:
            cut = True
        else:
            cut = bool(np.mean(np.abs(coarse - before) > CUT) > CHANGED)
        if cut:
            self.heads = []
            self._searched = -np.inf
        self._follow(time, step, luma)
        self.heads = _apart([head for head in self.heads if time - head.seen < LOST_S])
        if time - self._searched >= SEARCH_S:
            self._searched = time
            self._search(time, luma)

    def _follow(self, time: float, step: float, luma: Luma) -> None:
        """Each head that was there to where it is now."""
        found: list[tuple[Head, Cutter, Crop]] = []
        for head in self.heads:
            if head.template is None:
                continue
            cutter = Cutter(luma, head.place)
            place = None if cutter.empty else head.template.find(cutter, head.place)
            if place is None:
                head.template = head.crop = None
                continue
            head.place = place
            found.append((head, cutter, cutter(place)))
        if not found:
            return
        points, logits = self._sight.points([crop for _, _, crop in found])
        for (head, cutter, crop), its, logit in zip(found, points, logits, strict=True):
            head.points, head.logit = its, float(logit)
            head.rows.append(_row(time, step, head, crop))
            while head.rows[0].time < time - KEPT_S:
                head.rows.popleft()
            if head.logit > 0:
                head.seen = time
            if time - head.drawn >= DRAWN_S - 1e-3:
                head.drawn = time
                place = _drawn(head.place, its)
                if place != head.place:  # what comes next is held against the face as it lies now
                    head.place, crop = place, cutter(place)
            head.crop, head.template = crop, Template(crop)

    def _search(self, time: float, luma: Luma) -> None:
        """Looks for heads that are not followed, or were lost."""
        for place, _ in self._sight.heads(luma)[:MOST]:
            if place.eyes < SMALLEST or self._follows(place):
                continue
            if sum(not head.lost for head in self.heads) >= MOST:
                break
            near = self._nearer(luma, place)
            if near is None or self._follows(near[0]):
                continue
            place, points, logit, crop = near
            lost = (head for head in self.heads if head.lost)
            known = next((head for head in lost if _near(place, head.place, 2 * SAME)), None)
            if known is None:
                self._count += 1
                known = Head(self._count, place, points, logit)
                self.heads.append(known)
            known.place, known.points, known.logit = place, points, logit
            known.seen, known.crop, known.template = time, crop, Template(crop)

    def _follows(self, place: Place) -> bool:
        """Whether a head that is followed is here."""
        return any(_near(place, head.place) for head in self.heads if not head.lost)

    def _nearer(self, luma: Luma, place: Place) -> tuple[Place, Array, float, Crop] | None:
        """The place of a face about here, by its points; None where there is none."""
        for last in range(AGAIN, -1, -1):
            cutter = Cutter(luma, place)
            if cutter.empty:
                return None
            crop = cutter(place)
            points, logits = self._sight.points([crop])
            if logits[0] < (0 if not last else -2):
                return None
            if last:
                place = placed(place, points[0])
                if place.eyes < SMALLEST:
                    return None
        return place, points[0], float(logits[0]), crop


def placed(place: Place, points: Array) -> Place:
    """Where a face lies by its `points` `[36, 3]` in the crop at `place`: its eyes level, as far
    apart as they are, or as three quarters of the way from eyes to mouth in one that is turned."""
    left, right = points[list(LEFT_EYE), :2].mean(0), points[list(RIGHT_EYE), :2].mean(0)
    mouth = points[[25, 26], :2].mean(0)
    middle = (left + right) / 2
    eyes = max(float(np.hypot(*(right - left))), 0.75 * float(np.hypot(*(mouth - middle))))
    roll = float(np.arctan2(right[1] - left[1], right[0] - left[0]))
    by = np.array([middle[0] - MIDDLE[0], middle[1] - MIDDLE[1], eyes / EYES - 1, roll])
    return place.stepped(by)


def _drawn(place: Place, points: Array) -> Place:
    """A place drawn towards where the eyes are, so that it doesn't drift."""
    target = placed(place, points)
    off = max(
        float(np.hypot(target.x - place.x, target.y - place.y)) / place.eyes,
        abs(target.eyes / place.eyes - 1),
        abs(target.roll - place.roll),
    )
    if off < DEAD:
        return place
    share = DRAWN * (1 - DEAD / off)
    return Place(*(a + share * (b - a) for a, b in zip(place, target, strict=True)))


def _row(time: float, step: float, head: Head, crop: Crop) -> Row:
    before = head.crop
    assert before is not None, "a head that has a template has its crop"
    spread = float(crop.std()) + 4
    mouth = float(np.abs(crop[MOUTH] - before[MOUTH]).mean()) / spread
    face = float(np.abs(crop[UPPER_FACE] - before[UPPER_FACE]).mean()) / spread
    level = float(crop.mean()) - DARK * spread
    dark = float(np.maximum(level - crop[MOUTH], 0).mean()) / spread
    points = head.points
    wide = float(np.linalg.norm(points[0] - points[3])) + 1e-3
    shape = np.linalg.norm(points[_FROM] - points[_TO], axis=1) / wide
    left, right = points[TEMPLES[0], 0], points[TEMPLES[1], 0]
    turned = float((points[NOSE, 0] - (left + right) / 2) / max(1.0, abs(right - left)))
    return Row(time, step, mouth, face, dark, shape, turned, head.logit)


def _apart(heads: Sequence[Head]) -> list[Head]:
    """Without those that have run into one that was there before them: a face is followed once."""
    out: list[Head] = []
    for head in heads:
        others = (other for other in out if not (head.lost or other.lost))
        if not any(_near(head.place, other.place, SAME / 2) for other in others):
            out.append(head)
    return out


def _near(one: Place, other: Place, share: float = SAME) -> bool:
    away = np.hypot(one.x - other.x, one.y - other.y)
    return bool(away < share * max(one.eyes, other.eyes))


def _coarse(luma: Luma) -> Array:
    """A picture of some 20 x 36 cells, of a few pixels each."""
    h, w = luma.shape
    by = max(1, max(h, w) // 144)
    few = luma[by // 2 :: by, by // 2 :: by].astype(np.float32)
    if luma.dtype != np.uint8:
        few *= 0.25
    m, n = few.shape[0] // 4, few.shape[1] // 4
    cells: Array = few[: 4 * m, : 4 * n].reshape(m, 4, n, 4).mean((1, 3))
    return cells
