"""From teachers, photographs and clips to the networks of who speaks, stage by stage.

faces.npz             what the teachers see in photographs and frames
points.safetensors heads.safetensors sync.safetensors     with a .jsonl of losses each
series.npz            what each clip's face does, and what is heard
networks/             what engines/speakers takes: three graphs and lips.json
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from avsl.engines import UserError
from avsl.engines.bundle import sha256
from avsl.engines.networks.faces import FacePoints, Heads
from avsl.engines.networks.lips import HEARD, MOVES, Sync
from avsl.engines.networks.parts import fold_batch_norm
from avsl.engines.speakers.crop import SIDE
from avsl.engines.speakers.sight import STEP, Sight
from avsl.engines.speakers.voice import BINS_PER_S
from avsl.train.bars import Progress
from avsl.train.export import export_graph
from avsl.train.speakers.fit import cases, fit, table, write_model
from avsl.train.speakers.heads import HELD as HELD_PICTURES
from avsl.train.speakers.heads import STEPS as HEADS_STEPS
from avsl.train.speakers.heads import H, W, measure_heads, teach_heads
from avsl.train.speakers.labels import (
    FacesAndMesh,
    Labels,
    check_labels,
    label,
    load_labels,
    photographs,
    save_labels,
)
from avsl.train.speakers.points import HELD as HELD_FACES
from avsl.train.speakers.points import STEPS as POINTS_STEPS
from avsl.train.speakers.points import measure_points, teach_points
from avsl.train.speakers.series import load_series, save_series, watch
from avsl.train.speakers.sync import STEPS as SYNC_STEPS
from avsl.train.speakers.sync import teach_sync
from avsl.train.speakers.table import SPLITS, Clip, enough, read_table
from avsl.train.teach.kept import begin
from avsl.train.teach.teachers import FAR, MESH, NEAR, find

HEADS, POINTS, SYNC = "heads.onnx", "points.onnx", "sync.onnx"
PLAN, FACES, SERIES = "speakers.json", "faces.npz", "series.npz"


@dataclass(frozen=True)
class Plan:
    """What the networks are made from, and how long they learn, 1 being as those that ship."""

    teachers: Path
    photos: tuple[Path, ...]
    clips: Path
    sounds: Path | None
    steps: float

    def said(self) -> dict[str, Any]:
        """What a run that goes on must have in common with the one that was begun."""
        return {
            "photos": [str(folder) for folder in self.photos],
            "clips": sha256(self.clips),
            "sounds": str(self.sounds),
            "steps": self.steps,
        }

    def scaled(self, steps: int) -> int:
        """So many steps, times as long as asked for."""
        return max(1, round(steps * self.steps))


def make_networks(plan: Plan, run: Path, progress: Progress) -> list[str]:
    """Takes a plan through its stages into `run`, going on where it was stopped; gives what was
    measured, as lines.

    Raises:
        UserError: something is missing or can't be read, or `run` is another plan's.
    """
    for teacher in (NEAR, FAR, MESH):
        find(plan.teachers, teacher)
    photos, clips = photographs(plan.photos), read_table(plan.clips)
    if plan.sounds and not plan.sounds.is_dir():
        raise UserError(f"{plan.sounds}: there is no such folder")
    begin(run, PLAN, plan.said())
    networks = run / "networks"
    networks.mkdir(exist_ok=True)
    lines = _faces(plan, photos, clips, run, networks, progress)
    if not (run / SERIES).exists():
        save_series(run / SERIES, watch(clips, Sight(networks), plan.sounds, progress))
    series = load_series(run / SERIES, clips)
    followed = [one.clip for one in series]
    lost = [clip.path for clip in clips if clip not in followed]
    lines += [f"left out, no face is followed: {path}" for path in lost]
    enough(plan.clips, followed, f" (in {len(lost)} of {len(clips)} clips no face is followed)")
    taught, known, others = ([s for s in series if s.clip.split == split] for split in SPLITS)
    if not (networks / SYNC).exists():
        speak = [one for one in taught if one.clip.speaks]
        export_sync(teach_sync(speak, run, plan.scaled(SYNC_STEPS), progress), networks)
    model = fit(cases(known, networks, progress, "fit"))
    write_model(networks / "lips.json", model)
    return lines + table(cases(others, networks, progress, "measure"), model)


def _faces(
    plan: Plan,
    photos: Sequence[Path],
    clips: Sequence[Clip],
    run: Path,
    networks: Path,
    progress: Progress,
) -> list[str]:
    """Makes both networks of faces; says how good they are on what was held out."""
    if not (run / FACES).exists():
        shown = [clip for clip in clips if clip.learns and clip.split != "test"]
        save_labels(run / FACES, label(photos, shown, FacesAndMesh(plan.teachers), progress))
    faces, pictures = load_labels(run / FACES)
    of_photos = [face for face in faces if not face.person]
    held, seen = of_photos[::HELD_FACES], pictures[::HELD_PICTURES]
    faces = [face for i, face in enumerate(of_photos) if i % HELD_FACES] + [
        face for face in faces if face.person
    ]
    pictures = [one for i, one in enumerate(pictures) if i % HELD_PICTURES]
    check_labels(Labels(faces, pictures))
    if not (networks / POINTS).exists():
        empty = [one.picture for one in pictures if not len(one.heads)]
        steps = plan.scaled(POINTS_STEPS)
        export_points(teach_points(faces, empty, run, steps, progress), networks)
    if not (networks / HEADS).exists():
        steps = plan.scaled(HEADS_STEPS)
        export_heads(teach_heads(pictures, run, steps, progress), networks)
    sight = Sight(networks)
    return [measure_points(sight, held), measure_heads(sight, seen)]


def export_points(network: FacePoints, networks: Path) -> None:
    """Writes points.onnx: of any number of faces."""
    crops = torch.rand(2, SIDE, SIDE) * 255
    faces = {0: torch.export.Dim("faces", max=64)}
    _export(network, {"crop": (crops, faces)}, ["points", "face"], networks / POINTS)


def export_heads(network: Heads, networks: Path) -> None:
    """Writes heads.onnx: of pictures of any size that `STEP` divides."""
    rows, columns = (STEP * torch.export.Dim(side, max=64) for side in ("rows", "columns"))
    picture = torch.rand(1, H, W) * 255
    _export(network, {"picture": (picture, {1: rows, 2: columns})}, ["heads"], networks / HEADS)


def export_sync(network: Sync, networks: Path) -> None:
    """Writes sync.onnx: of any length from a second on."""
    length = {1: torch.export.Dim("bins", min=BINS_PER_S, max=1024)}
    moves, heard = torch.rand(1, 75, MOVES), torch.rand(1, 75, HEARD)
    inputs = {"moves": (moves, length), "heard": (heard, length)}
    _export(network, inputs, ["lips", "voice"], networks / SYNC)


def _export(network: nn.Module, inputs: Any, outputs: list[str], path: Path) -> None:
    """Writes beside and renames, batch norms folded."""
    beside = path.with_name(path.name + ".part")
    export_graph(fold_batch_norm(copy.deepcopy(network).eval()), inputs, outputs, beside)
    beside.replace(path)
