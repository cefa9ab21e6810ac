"""Teaches the picture network: Lite0 knows a thousand classes already and learns to see them in a
webcam's picture (`trunk.py`); then its small heads learn from composed scenes where heads and
bodies of people are, and things of which there are photographs (`heads.py`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from avsl.demos.scenes import make_scene
from avsl.demos.scenes.cutouts import BACKGROUNDS, PICTURES, load_cutouts
from avsl.engines import UserError
from avsl.engines.networks.seeing import Seeing, load_lite0
from avsl.train.bars import Progress
from avsl.train.teach import trunk
from avsl.train.teach.faces import Faces
from avsl.train.teach.heads import Lesson, Scene, focal, kept, teach_head
from avsl.train.teach.kinds import IMAGENET, Kind
from avsl.train.teach.people import Crowd, Photo, Picture, Portrait, read_photos, read_portraits
from avsl.train.teach.teachers import LITE0, find

SIZE, STRIDE = (256, 448), 16
"""Height and width of the pictures, and the most pixels that the engine takes; of a cell."""
THINGS_SEED = 10_000_000
"""From where on scenes of things are drawn: nothing else is drawn from there."""
PHOTOS = 2_000
FAMILY = 0.6
"""What a whole family counts where a cell gets its name."""
HEADS, BODIES = 0, 1
PEOPLE = {"person_voice": (HEADS,), "person_body": (HEADS, BODIES)}
GAIN, BIAS = 0.65, -1.0
"""Of what is seen, while heads are taught: log odds of a class are softer than they seem."""


def seeing(kinds: tuple[Kind, ...], prepared: Path, teachers: Path) -> Seeing:
    """A picture network with Lite0's weights; its heads, of people and of the things in `prepared`,
    not taught yet.

    Raises:
        UserError: the weights are missing, or others.
    """
    path = find(teachers, LITE0)
    shown = _shown(prepared, kinds)
    members, people_of = torch.zeros(len(kinds), IMAGENET), torch.zeros(len(kinds), 2)
    things_of = torch.eye(len(kinds))[:, shown]
    named = torch.ones(len(kinds))
    for k, kind in enumerate(kinds):
        members[k, list(kind.imagenet)] = 1
        for part in PEOPLE.get(kind.key, ()):
            people_of[k, part] = 1 / len(PEOPLE[kind.key])
        named[k] = FAMILY if kind.group.startswith("family") else 1.0
    network = Seeing(members, people_of, things_of, named)
    load_lite0(network.trunk, torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def teach_seeing(
    network: Seeing,
    kinds: tuple[Kind, ...],
    prepared: Path,
    portraits: Path,
    teachers: Path,
    run: Path,
    steps: int,
    scenes: int,
    *,
    seed: int = 1,
    progress: Progress = lambda what, done, total: None,
) -> None:
    """Trains a picture network, or goes on with what lies in `run`.

    Raises:
        UserError: a teacher, portraits or pictures are missing.
    """
    photos: list[Photo] = []
    people: list[Portrait] = []
    if not kept(run, "people").exists():
        faces = Faces(teachers)
        people = read_portraits(portraits, faces)
        photos = read_photos(_pictures(prepared, seed), faces)
    pictures = [photo.picture for photo in photos]
    trunk.teach_trunk(network, pictures, SIZE, run, steps, seed=seed, progress=progress)
    shown = network.things_of.argmax(0)

    def with_people() -> Callable[[int], Scene]:
        crowd = Crowd(photos, people, SIZE)
        return lambda i: _marked(*crowd.scene(np.random.default_rng((seed, i))))

    def with_things() -> Callable[[int], Scene]:
        return things_scenes(prepared, [kinds[k].key for k in shown], SIZE, seed)

    def people_loss(fine: Tensor, coarse: Tensor, known: Tensor) -> Tensor:
        return focal(network.people(fine, coarse), known[:, :2], known[:, 2:])

    def things_loss(fine: Tensor, coarse: Tensor, known: Tensor) -> Tensor:
        with torch.no_grad():
            by_class = network.by_class(coarse)[:, shown]
        # What classes of ImageNet tell already, the head needn't.
        z = torch.logaddexp(by_class, network.things(fine, coarse))
        return focal(GAIN * z + BIAS, known)

    for head, lesson in (
        (network.people, Lesson("people", with_people, scenes, people_loss)),
        (network.things, Lesson("things", with_things, scenes, things_loss)),
    ):
        teach_head(head, network.trunk, lesson, run, seed, progress)


def _marked(picture: Picture, *masks: NDArray[np.float32]) -> Scene:
    return picture, np.stack(masks)


def things_scenes(
    prepared: Path, shown: list[str], size: tuple[int, int], seed: int
) -> Callable[[int], Scene]:
    """Scenes of what is in `prepared`, and how much of each cell each kind of `shown` covers."""
    cast = load_cutouts(prepared / "train")
    (h, w), (m, n) = size, (size[0] // STRIDE, size[1] // STRIDE)

    def scene(i: int) -> Scene:
        made = make_scene(THINGS_SEED + seed, i, aspect=w / h, cast=cast)
        picture, masks = made.render_all(0, h, w)
        known = np.zeros((len(shown), m, n), np.float32)
        for thing, mask in zip((*made.strangers, *made.things), masks, strict=True):
            if thing.family in shown:
                cells = known[shown.index(thing.family)]
                np.maximum(cells, mask.reshape(m, STRIDE, n, STRIDE).mean((1, 3)), out=cells)
        return picture, known

    return scene


def _shown(prepared: Path, kinds: tuple[Kind, ...]) -> list[int]:
    """The kinds of which there are pictures, but people, for whom there is another head.

    Raises:
        UserError: there are none.
    """
    found = [
        k
        for k, kind in enumerate(kinds)
        if kind.key not in PEOPLE and any((prepared / "train" / kind.key).glob("*.png"))
    ]
    if not found:
        raise UserError(
            f"{prepared}: no pictures of kinds in train/; avsl-train prepare makes such a folder"
        )
    return found


def _pictures(prepared: Path, seed: int) -> list[Path]:
    """Photographs of everything but people's heads alone."""
    found = [
        path
        for folder in sorted((prepared / "train").glob("*"))
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in PICTURES
        and "Faces_easy" not in path.name
        and (folder.name == BACKGROUNDS or path.suffix == ".png")
    ]
    if not found:
        raise UserError(
            f"{prepared}: no pictures in train/; avsl-train prepare makes such a folder"
        )
    picked = np.random.default_rng(seed).permutation(len(found))[:PHOTOS]
    return [found[i] for i in sorted(picked)]
