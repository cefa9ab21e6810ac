"""From a trained network to an engine: calibration and thresholds on held-out scenes, the bundle,
its scores on others, and the model card."""

from __future__ import annotations

import importlib.metadata
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avsl.demos.scenes import Cast
from avsl.engines import Resizer, open_engine
from avsl.engines.bundle import DRAWN
from avsl.engines.networks import Ensemble, combined
from avsl.train.bars import Progress
from avsl.train.data.material import Material
from avsl.train.data.prepare import ATTRIBUTION
from avsl.train.data.views import cells_of, pictures_to_input
from avsl.train.export import add_scores, calibrate, write_bundle
from avsl.train.recipe import DRAWN_CASTS, Casts, Recipe
from avsl.train.scoring.card import model_card
from avsl.train.scoring.evaluate import (
    CALIBRATION_SEED,
    evaluate_pack,
    evaluate_scenes,
    stills,
)
from avsl.train.scoring.validate import logits_on

GATE = {"gate_db": -60.0, "gate_margin_db": 6.0}


def finish(
    ensemble: Ensemble,
    recipe: Recipe,
    folder: Path,
    material: Material | None = None,
    *,
    casts: Casts = DRAWN_CASTS,
    made_by: str = "",
    old_scores: dict[str, Any] | None = None,
    progress: Progress = lambda what, done, total: None,
) -> dict[str, Any]:
    """Writes the bundle of `ensemble` to `folder` and returns its scores: on held-out scenes, or,
    where the recipe learnt from clips (`material`), on its test clips, or else on those that were
    set aside for validation.

    Args:
        old_scores: of an engine that this one replaces, shown beside its own in the model card.
    """
    if material is None:
        logits, boxes, negatives = _scene_logits(
            ensemble, recipe.held_out, casts.validation, progress
        )
    else:
        logits, boxes, negatives = _clip_logits(ensemble, material)
    thresholds = set_calibration(ensemble, logits, boxes, negatives)
    named = Path(recipe.cutouts) / ATTRIBUTION
    sources = named.read_text("utf-8") if recipe.cutouts and named.exists() else ""
    recipe = _without_places(recipe)
    training: dict[str, Any] = {"recipe": asdict(recipe)}
    if material is None:
        training["families"] = [family.name for family in casts.train.families]
    version = importlib.metadata.version("avsl")
    write_bundle(
        ensemble,
        folder,
        name=recipe.name,
        version=version,
        thresholds=thresholds,
        training=training,
    )
    engine = open_engine(folder)
    if material is None:
        count = recipe.held_out
        scores = evaluate_scenes(
            engine,
            count,
            cast=casts.test,
            others={"drawn-scenes engine": open_engine(DRAWN)} if casts.test.host else None,
            progress=lambda done: progress("evaluate", done, count),
        )
    else:
        pack, ids = material.test
        scores = evaluate_pack(
            engine, pack, ids, progress=lambda done: progress("evaluate", done, len(ids))
        )
        scores["clips"] = "test" if recipe.test else "validation"
    card = model_card(recipe, thresholds, scores, casts.train, made_by, sources, old_scores)
    add_scores(folder, scores, card)
    return scores


def _without_places(recipe: Recipe) -> Recipe:
    """Its folders by their names alone: a bundle says nothing about the machine that made it."""
    keys = "data", "test", "cutouts", "start"
    data, test, cutouts, start = (Path(getattr(recipe, key)).name for key in keys)
    return replace(recipe, data=data, test=test, cutouts=cutouts, start=start)


def _scene_logits(
    ensemble: Ensemble, count: int, cast: Cast, progress: Progress
) -> tuple[Tensor, Tensor, Tensor]:
    resize = Resizer(ensemble.spec.picture_size)
    boxes = torch.full((count, 4, 4), torch.nan)
    logits, outside = [], []
    with torch.no_grad():
        for i, still in enumerate(stills(CALIBRATION_SEED, count, resize, cast=cast)):
            picture = pictures_to_input(torch.from_numpy(still.picture)[None])
            logits.append(
                ensemble(picture, torch.from_numpy(still.samples[-ensemble.spec.window :])[None])
            )
            for k, box in enumerate(still.truth):
                boxes[i, k] = torch.tensor(box)
            outside.append(still.scene.kind == "outside")
            progress("calibrate", i + 1, count)
    return torch.cat(logits), boxes, torch.tensor(outside)


def _clip_logits(ensemble: Ensemble, material: Material) -> tuple[Tensor, Tensor, Tensor]:
    """With each clip's own sound and with that of the next, which is taken for one from out of
    view."""
    pack, ids = material.validation, material.validation_ids
    boxes = torch.from_numpy(pack.boxes[ids])
    own, next_ = (
        combined(logits_on(ensemble.members, pack, ids, sounds), ensemble.combine)
        for sounds in (ids, np.roll(ids, 1))
    )
    nothing = torch.full_like(boxes, torch.nan)
    return (
        torch.cat([own, next_]),
        torch.cat([boxes, nothing]),
        torch.cat([boxes[:, 0, 0].isnan(), torch.ones(len(ids), dtype=torch.bool)]),
    )


def set_calibration(
    ensemble: Ensemble, logits: Tensor, boxes: Tensor, negatives: Tensor
) -> dict[str, float]:
    """Sets `ensemble.calibration` and returns the thresholds, all from clips set aside.

    Args:
        logits: `[N, m, n]`, uncalibrated.
        boxes: `[N, K, 4]` of what sounds, NaN for none.
        negatives: bool `[N]`: what sounds is out of view.
    """
    target = cells_of(boxes, (logits.shape[1], logits.shape[2]))
    # As often out of view as in view: what is heard in a room is mostly not in the picture.
    share = float(negatives.float().mean())
    heavy = torch.where(negatives, (1 - share) / max(share, 1e-6), 1.0)
    weight = heavy[:, None, None].expand_as(logits)
    a, b = calibrate(logits, target, weight)
    unseen = 0.5
    if negatives.any():
        # Nine of ten sounds from out of view shall be called so, where that leaves room for doubt.
        scores = torch.sigmoid(a * logits + b).amax((1, 2))[negatives].numpy()
        unseen = round(float(np.clip(np.quantile(scores, 0.9), 0.15, 0.7)), 3)
    if unseen > 0.5:  # what is called unseen must not glow, and 0.5 is where glowing begins
        b -= float(np.log(unseen / (1 - unseen)))
        unseen = 0.5
    ensemble.calibration.copy_(torch.tensor((a, b)))
    return {"glow": 0.5, "unseen": unseen, "sounding": 0.6, **GATE}
