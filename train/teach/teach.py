"""From prepared material and teachers to an engine of kinds, stage by stage."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from avsl.demos.scenes.cutouts import PICTURES, PREPARED, load_cutouts
from avsl.engines import Resizer, UserError
from avsl.engines.bundle import EngineSpec, Thresholds
from avsl.engines.networks.hearing import Hearing, Hears
from avsl.engines.networks.parts import fold_batch_norm
from avsl.engines.networks.seeing import Seeing
from avsl.engines.windows import WindowSpec
from avsl.train.bars import Progress
from avsl.train.export import WINDOW, write_kinds_bundle
from avsl.train.scoring.evaluate import stills
from avsl.train.teach.calibrate import Evidence, calibrate_kinds, gather
from avsl.train.teach.hear import teach_hearing
from avsl.train.teach.kept import begin
from avsl.train.teach.kinds import Kind, families, load_kinds
from avsl.train.teach.moments import Moment, film_moments
from avsl.train.teach.see import SIZE, STRIDE, seeing, teach_seeing
from avsl.train.teach.teachers import RATE, TEACHERS, find

STEP = 32
THRESHOLDS = Thresholds(glow=0.5, unseen=0.5, sounding=0.6, gate_db=-60.0, gate_margin_db=6.0)
CALIBRATION_SEED = 940_000
SEEING_STEPS = 800
"""Steps of the picture network's trunk."""
SCENES, DARK = 400, 4.0
"""Composed scenes to calibrate on, and what those count in which nothing in view sounds: of what
glows then, film has few examples."""


@dataclass(frozen=True)
class Plan:
    """What an engine is taught from, and how long."""

    prepared: Path
    teachers: Path
    portraits: Path
    film: Path | None
    steps: int
    scenes: int
    seed: int = 1

    def check(self) -> tuple[Kind, ...]:
        """The kinds to teach, if all that is needed is there.

        Raises:
            UserError: something is missing.
        """
        kinds = load_kinds()
        for teacher in TEACHERS:
            find(self.teachers, teacher)
        if not (self.prepared / PREPARED).is_file():
            raise UserError(f"{self.prepared}: not what avsl-train prepare makes")
        if not any(path.suffix.lower() in PICTURES for path in self.portraits.glob("*")):
            raise UserError(f"{self.portraits}: no portraits in it (photographs of one face each)")
        if self.film and not (self.film / "film.json").is_file():
            raise UserError(f"{self.film}: no film.json in it, which says what sounds where")
        return kinds


def teach_engine(
    plan: Plan, run: Path, *, progress: Progress = lambda what, done, total: None
) -> Path:
    """Takes a plan through its stages into `run`, going on where it was stopped; gives the engine.

    Raises:
        UserError: something is missing, or `run` is another plan's.
    """
    kinds = plan.check()
    sees = seeing(kinds, plan.prepared, plan.teachers)
    begin(run, "teach.json", _said(plan))
    network = teach_hearing(
        plan.prepared, plan.teachers, run, kinds, plan.steps, seed=plan.seed, progress=progress
    )
    hears = hearing(network, kinds)
    places = plan.prepared, plan.portraits, plan.teachers, run
    many = SEEING_STEPS, plan.scenes
    teach_seeing(sees, kinds, *places, *many, seed=plan.seed, progress=progress)
    scenes = gather(scene_moments(plan.prepared, SCENES, progress), hears, sees)
    film = gather(film_moments(plan.film, "A", SPEC), hears, sees) if plan.film else []
    loss = calibrate_kinds(balanced(scenes, film), kinds, hears, sees)
    engine = run / "engine"
    write_engine(hears, sees, kinds, engine, {"plan": _said(plan), "calibration_loss": loss})
    return engine


def balanced(scenes: list[Evidence], film: list[Evidence]) -> list[Evidence]:
    """All evidence, scenes counting as much as film, but more where nothing in view sounds."""
    share = sum(e.weight for e in film) / len(scenes) if film else 1.0
    darker = [replace(e, weight=share * (1.0 if e.inside.any() else DARK)) for e in scenes]
    return film + darker


SPEC = EngineSpec(
    name="kinds",
    version="0.3.0",
    window=WindowSpec(RATE, RATE, WINDOW["hop"], WINDOW["guard"]),
    picture_size=SIZE,
    map_size=(SIZE[0] // STRIDE, SIZE[1] // STRIDE),
    thresholds=THRESHOLDS,
    picture_step=STEP,
)


def hearing(network: Hearing, kinds: tuple[Kind, ...]) -> Hears:
    """A sound network with each kind's family beside it, not calibrated yet."""
    sets = families(kinds)
    family_of = torch.zeros(len(kinds), len(sets))
    for k, kind in enumerate(kinds):
        if kind.parents:
            family_of[k, sets.index(kind.parents)] = 1
    return Hears(network, family_of).eval()


def scene_moments(prepared: Path, count: int, progress: Progress) -> list[Moment]:
    """Composed scenes of the validation split: what one of them sounds like, and where that is."""
    cast = load_cutouts(prepared / "validation")

    def fitted(frame: av.VideoFrame) -> Any:
        return Resizer(SPEC.fitted(frame.height, frame.width).picture_size)(frame)

    found = []
    for i, still in enumerate(stills(CALIBRATION_SEED, count, fitted, cast=cast)):
        boxes = np.array(still.truth, np.float32).reshape(-1, 4)
        found.append(Moment(f"scene {i}", still.picture, still.samples, boxes))
        progress("scenes to calibrate on", i + 1, count)
    return found


def write_engine(
    hears: Hears, sees: Seeing, kinds: tuple[Kind, ...], folder: Path, training: dict[str, Any]
) -> None:
    """Writes the bundle: what scores are made of in single precision, all else in half."""
    sound, picture = copy.deepcopy(hears).eval(), copy.deepcopy(sees).eval()
    fold_batch_norm(sound)
    fold_batch_norm(picture)
    sound.network.half()
    picture.trunk.half()
    picture.people.half()
    picture.things.half()
    write_kinds_bundle(
        sound,
        picture,
        folder,
        name=SPEC.name,
        version=SPEC.version,
        kinds=[kind.words for kind in kinds],
        window=SPEC.window.length,
        picture_size=SPEC.picture_size,
        map_size=SPEC.map_size,
        picture_step=STEP,
        thresholds=vars(THRESHOLDS),
        training=training | {"teachers": [vars(teacher) for teacher in TEACHERS]},
    )


def _said(plan: Plan) -> dict[str, Any]:
    return {"steps": plan.steps, "scenes": plan.scenes, "seed": plan.seed}
