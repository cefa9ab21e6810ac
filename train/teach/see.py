"""Teaches the picture network: Lite0 knows a thousand classes already and learns to see them in a
webcam's picture (`trunk.py`); then heads and bodies are learnt from composed scenes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from avsl.demos.scenes.cutouts import BACKGROUNDS, PICTURES
from avsl.engines import UserError
from avsl.engines.networks.seeing import Parts, Seeing, load_lite0, normalised
from avsl.train.run import append_metrics, load_checkpoint, save_checkpoint
from avsl.train.teach import trunk
from avsl.train.teach.faces import Faces
from avsl.train.teach.kinds import IMAGENET, Kind
from avsl.train.teach.people import Crowd, read_photos, read_portraits
from avsl.train.teach.teachers import LITE0, find

SIZE = (256, 448)
"""Height and width of the pictures, and the most pixels that the engine takes."""
BATCH = 32
EPOCHS = 8
LR = 2e-3
HELD_OUT = 0.08
PHOTOS = 2_000
FAMILY = 0.6
"""What a whole family counts where a cell gets its name."""
LAST = "parts.safetensors"
HEADS, BODIES = 0, 1
PEOPLE = {"person_voice": (HEADS,), "person_body": (HEADS, BODIES)}
Features = NDArray[np.float16]
Progress = Callable[[str, int, int], None]


def seeing(kinds: tuple[Kind, ...], teachers: Path) -> Seeing:
    """A picture network with Lite0's weights, heads and bodies not taught yet.

    Raises:
        UserError: the weights are missing, or others.
    """
    path = find(teachers, LITE0)
    members, parts_of = torch.zeros(len(kinds), IMAGENET), torch.zeros(len(kinds), 2)
    named = torch.ones(len(kinds))
    for k, kind in enumerate(kinds):
        members[k, list(kind.imagenet)] = 1
        for part in PEOPLE.get(kind.key, ()):
            parts_of[k, part] = 1 / len(PEOPLE[kind.key])
        named[k] = FAMILY if kind.group.startswith("family") else 1.0
    network = Seeing(members, parts_of, named)
    load_lite0(network.trunk, torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def teach_seeing(
    network: Seeing,
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
    """Trains a picture network, or takes what is trained already from `run`.

    Raises:
        UserError: a teacher, portraits or pictures are missing.
    """
    if (run / LAST).exists():
        network.parts.load_state_dict(load_checkpoint(run / LAST)[0])
        trunk.teach_trunk(network, [], SIZE, run, steps)  # it is whole
        return
    faces = Faces(teachers)
    people = read_portraits(portraits, faces)
    photos = read_photos(_pictures(prepared, seed), faces)
    pictures = [photo.picture for photo in photos]
    trunk.teach_trunk(network, pictures, SIZE, run, steps, seed=seed, progress=progress)
    teach_parts(network, Crowd(photos, people, SIZE), run, scenes, seed=seed, progress=progress)


def teach_parts(
    network: Seeing,
    crowd: Crowd,
    run: Path,
    scenes: int,
    *,
    seed: int = 1,
    progress: Progress = lambda what, done, total: None,
) -> None:
    """Trains the heads and bodies of a picture network whose trunk is as it is to be."""
    fine, coarse, target = _features(network, crowd, scenes, seed, progress)
    torch.manual_seed(seed)
    parts = Parts()
    optimizer = torch.optim.AdamW(parts.parameters(), LR, weight_decay=0.02)
    rng = np.random.default_rng(seed)
    held = round(HELD_OUT * scenes)
    each = (scenes - held) // BATCH
    steps = EPOCHS * each
    for step in range(steps):
        if step % each == 0:
            order = held + rng.permutation(scenes - held)
        ids = order[step % each * BATCH :][:BATCH]
        for group in optimizer.param_groups:
            falling = 0.5 + 0.5 * math.cos(math.pi * step / steps)
            group["lr"] = LR * min((step + 1) / (0.05 * steps), falling)
        parts.train()
        loss = _loss(parts, fine[ids], coarse[ids], target[ids])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        progress("heads", step + 1, steps)
        if (step + 1) % each == 0:
            parts.eval()
            with torch.no_grad():
                ids = np.arange(held)
                val = float(_loss(parts, fine[ids], coarse[ids], target[ids]))
            line = {"epoch": (step + 1) // each, "loss": float(loss.detach()), "val": val}
            append_metrics(run / "parts.jsonl", line)
    save_checkpoint(run / LAST, parts.state_dict(), {"scenes": scenes})
    network.parts.load_state_dict(parts.state_dict())


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


@torch.no_grad()
def _features(
    network: Seeing, crowd: Crowd, scenes: int, seed: int, progress: Progress
) -> tuple[Features, Features, Features]:
    """What the trunk makes of scenes, at both strides, and the heads, bodies and weights of their
    cells. About 200 kB a scene."""
    m, n = crowd.cells
    fine = np.empty((scenes, 112, m, n), np.float16)
    coarse = np.empty((scenes, 320, m // 2, n // 2), np.float16)
    target = np.empty((scenes, 3, m, n), np.float16)
    lite0 = network.trunk
    for i in range(scenes):
        picture, *masks = crowd.scene(np.random.default_rng((seed, i)))
        x = normalised(torch.from_numpy(picture)[None])
        features = lite0.fine(lite0.stem(x))
        fine[i], coarse[i] = features[0].numpy(), lite0.coarse(features)[0].numpy()
        target[i] = np.stack(masks)
        progress("scenes with people", i + 1, scenes)
    return fine, coarse, target


def _loss(parts: Parts, fine: Features, coarse: Features, target: Features) -> Tensor:
    """Cross entropy, what is right already counting little (Lin et al. 2017)."""
    f, c, t = (torch.from_numpy(a.astype(np.float32)) for a in (fine, coarse, target))
    logits, truth, weight = parts(f, c), t[:, :2], t[:, 2:]
    each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    each = each * (0.1 + (truth - logits.detach().sigmoid()).abs())
    return (each * weight).sum((1, 2, 3)).mean()
