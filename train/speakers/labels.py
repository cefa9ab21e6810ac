"""What the teachers see in photographs and clips: where heads are, and the points of each face."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from avsl.demos.scenes.cutouts import PICTURES
from avsl.engines import UserError
from avsl.engines.speakers.crop import EYES, MIDDLE, SIDE, Place
from avsl.engines.speakers.sight import LONGEST
from avsl.engines.speakers.tracks import placed
from avsl.train.bars import Progress
from avsl.train.data.prepare import opencv
from avsl.train.speakers.arrays import load_arrays, save_arrays
from avsl.train.speakers.camera import moved, turning
from avsl.train.speakers.films import frames
from avsl.train.speakers.mesh import KEPT, Mesh
from avsl.train.speakers.table import Clip
from avsl.train.teach.faces import Faces
from avsl.train.teach.people import SURE, read

cv2 = opencv()
Array = NDArray[np.float32]
Grey = NDArray[np.uint8]

AROUND = SIDE // 2
"""Pixels that a kept face reaches beyond its crop on each side, so that it may be moved."""
WIDE = SIDE + 2 * AROUND
LARGEST = 2000
"""Pixels of a photograph's longer side at most."""
FACE, POINTS = 0.7, 0.5
"""From which probabilities on of both teachers a face's points are learnt."""
SMALLEST = 9.0
"""Pixels between its eyes at least."""
FRAMES, EACH_FACE, EACH_PICTURE = 300, 6, 15
"""Of a clip's first so many pictures, every which faces are taken from, and taken whole."""
AS_IT_IS = Place(float(MIDDLE[0]), float(MIDDLE[1]), EYES, 0.0)
"""A crop at this place is the picture itself."""


class Found(NamedTuple):
    """A head that the teachers found in a picture."""

    place: Place
    points: Array
    """`[36, 3]` in the picture's pixels, z as x."""
    head: float
    face: float
    """How likely it is one, as the detectors have it, and as the mesh has."""


Teacher = Callable[[NDArray[np.uint8]], list[Found]]
"""From an RGB picture `[h, w, 3]` to the heads in it."""


class FacesAndMesh:
    """The teachers: MediaPipe's face detectors and its face mesh."""

    def __init__(self, folder: Path) -> None:
        self._faces, self._mesh = Faces(folder), Mesh(folder)

    def __call__(self, rgb: NDArray[np.uint8]) -> list[Found]:
        found = []
        h, w = rgb.shape[:2]
        sides = np.array([w, h, w, h], np.float32)
        for *box, head in self._faces(rgb):
            points, face = self._mesh(rgb, np.array(box, np.float32) * sides)
            points = points[list(KEPT)]
            found.append(Found(placed(AS_IT_IS, points), points, float(head), face))
        return found


@dataclass(frozen=True)
class Face:
    """A face to learn points from."""

    wide: Grey
    """`[224, 224]`: its crop, and what lies around that."""
    points: Array
    """`[36, 3]` in pixels of that, z as x."""
    person: str = ""
    """Of a clip; empty of a photograph."""


@dataclass(frozen=True)
class Seen:
    """A picture to learn heads from."""

    picture: Grey
    """`[h, w]`, as large as heads are looked for in."""
    heads: Array
    """`[N, 5]`: the middle between the eyes, across and down, their distance in pixels, and the two
    probabilities."""
    person: str = ""


def face_of(rgb: NDArray[np.uint8], found: Found) -> Face:
    """A face cut out, its eyes level, 40 pixels apart."""
    place = found.place
    scale = EYES / place.eyes
    turn = turning(scale, -place.roll)
    move = np.array(MIDDLE) + AROUND - turn @ [place.x, place.y]
    wide = moved(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), turn, move, (WIDE, WIDE))
    points = np.column_stack([found.points[:, :2] @ turn.T + move, found.points[:, 2] * scale])
    return Face(np.rint(wide).astype(np.uint8), points.astype(np.float32))


def seen_of(rgb: NDArray[np.uint8], found: Sequence[Found]) -> Seen:
    """A picture reduced to what heads are looked for in."""
    scale = min(1.0, LONGEST / max(rgb.shape[:2]))
    size = round(rgb.shape[1] * scale), round(rgb.shape[0] * scale)
    grey = cv2.cvtColor(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    rows = [
        ((x + 0.5) * scale - 0.5, (y + 0.5) * scale - 0.5, eyes * scale, head, face)
        for (x, y, eyes, _), _, head, face in found
    ]
    return Seen(grey, np.array(rows, np.float32).reshape(-1, 5))


class Labels(NamedTuple):
    """All that heads and points are learnt from."""

    faces: list[Face]
    pictures: list[Seen]


def photographs(folders: Sequence[Path]) -> list[Path]:
    """All pictures in folders and in those within.

    Raises:
        UserError: one holds none.
    """
    found: list[Path] = []
    for folder in folders:
        inside = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURES)
        if not inside:
            raise UserError(f"{folder}: no photographs in it")
        found += inside
    return found


def label(
    photos: Sequence[Path], clips: Sequence[Clip], teacher: Teacher, progress: Progress
) -> Labels:
    """What a teacher sees. Photographs that can't be read are passed over."""
    labels = Labels([], [])
    total = len(photos) + len(clips)
    for done, path in enumerate(photos, 1):
        rgb = read(path, LARGEST)
        if rgb is not None and min(rgb.shape[:2]) >= 32:
            _add(labels, rgb, teacher(rgb), "", True, True)
        progress("teachers look at pictures", done, total)
    for done, clip in enumerate(clips, len(photos) + 1):
        for i, frame in enumerate(frames(clip.path, FRAMES)):
            faces, whole = not i % EACH_FACE, not i % EACH_PICTURE
            if faces or whole:
                shown: NDArray[np.uint8] = frame.to_ndarray(format="rgb24").astype(
                    np.uint8, copy=False
                )
                _add(labels, shown, teacher(shown), clip.person, faces, whole)
        progress("teachers look at pictures", done, total)
    return labels


def check_labels(labels: Labels) -> None:
    """
    Raises:
        UserError: there is nothing to learn from.
    """
    if not any(not face.person for face in labels.faces):
        raise UserError("photographs: the teachers see no face in any of them")
    if not any(not len(seen.heads) for seen in labels.pictures):
        raise UserError("photographs: heads in all of them; some without people are needed, too")
    if not any((seen.heads[:, 3] > SURE).any() for seen in labels.pictures if not seen.person):
        raise UserError("photographs: the teachers are sure of no head in any of them")


def save_labels(path: Path, labels: Labels) -> None:
    """
    Raises:
        UserError: they can't be written.
    """
    faces, pictures = labels
    arrays: dict[str, NDArray[Any]] = {
        "wide": np.array([face.wide for face in faces]).reshape(-1, WIDE, WIDE),
        "points": np.array([face.points for face in faces]).reshape(-1, len(KEPT), 3),
        "whose": np.array([face.person for face in faces], str),
        "pixels": np.concatenate([np.zeros(0, np.uint8), *(s.picture.ravel() for s in pictures)]),
        "sizes": np.array([seen.picture.shape for seen in pictures]).reshape(-1, 2),
        "heads": np.concatenate([np.zeros((0, 5), np.float32), *(s.heads for s in pictures)]),
        "counts": np.array([len(seen.heads) for seen in pictures], int),
        "shown": np.array([seen.person for seen in pictures], str),
    }
    save_arrays(path, arrays)


def load_labels(path: Path) -> Labels:
    """
    Raises:
        UserError: they can't be read.
    """
    a = load_arrays(path)
    rows = zip(a["wide"], a["points"], a["whose"], strict=True)
    faces = [Face(wide, points, str(who)) for wide, points, who in rows]
    pixels = np.split(a["pixels"], np.cumsum(a["sizes"].prod(1))[:-1])
    heads = np.split(a["heads"], np.cumsum(a["counts"])[:-1])
    shown = zip(pixels, a["sizes"], heads, a["shown"], strict=True)
    return Labels(faces, [Seen(p.reshape(size), its, str(who)) for p, size, its, who in shown])


def _add(
    labels: Labels,
    rgb: NDArray[np.uint8],
    found: Sequence[Found],
    person: str,
    faces: bool,
    whole: bool,
) -> None:
    if faces:
        labels.faces.extend(
            replace(face_of(rgb, one), person=person)
            for one in found
            if one.head >= FACE and one.face >= POINTS and one.place.eyes >= SMALLEST
        )
    if whole:
        labels.pictures.append(replace(seen_of(rgb, found), person=person))
