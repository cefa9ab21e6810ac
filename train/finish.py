"""From a trained network to an engine: calibration and thresholds on held-out scenes, the bundle,
its scores on others, and the model card."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from avsl.demos.scenes import Cast
from avsl.engines import Resizer, open_engine
from avsl.engines.networks import Ensemble, combined
from avsl.train.evaluate import (
    CALIBRATION_SEED,
    SCORES,
    evaluate_pack,
    evaluate_scenes,
    stills,
)
from avsl.train.export import add_scores, calibrate, write_bundle
from avsl.train.material import Material
from avsl.train.recipe import DRAWN_CASTS, Casts, Recipe, to_toml
from avsl.train.validate import logits_on
from avsl.train.views import cells_of, pictures_to_input

GATE = {"gate_db": -60.0, "gate_margin_db": 6.0}
Progress = Callable[[str, int, int], None]


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
            engine, count, cast=casts.test, progress=lambda done: progress("evaluate", done, count)
        )
    else:
        pack, ids = material.test
        scores = evaluate_pack(
            engine, pack, ids, progress=lambda done: progress("evaluate", done, len(ids))
        )
        scores["clips"] = "test" if recipe.test else "validation"
    card = model_card(recipe, thresholds, scores, casts.train, made_by, old_scores)
    add_scores(folder, scores, card)
    return scores


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
    ensemble.calibration.copy_(torch.tensor(calibrate(logits, target)))
    unseen = 0.5
    if negatives.any():
        # Nine of ten sounds from out of view shall be called so, where that leaves room for doubt.
        scores = ensemble.probability(logits).amax((1, 2))[negatives].numpy()
        unseen = round(float(np.clip(np.quantile(scores, 0.9), 0.15, 0.7)), 3)
    # What is called unseen must not glow, and what glows a little is called unsure.
    glow = max(0.5, unseen)
    return {"glow": glow, "unseen": unseen, "sounding": round(glow + 0.1, 3), **GATE}


def score_lines(scores: dict[str, Any], old: dict[str, Any] | None = None) -> list[str]:
    """The scores as a Markdown table's rows, with those of an older engine beside them."""
    if "scenes" not in scores:
        return []
    rows = ["| measured on held-out scenes | value | n |", "|---|---:|---:|"]
    if old:
        rows = ["| measured on held-out scenes | before | now | n |", "|---|---:|---:|---:|"]
    for key, text in SCORES.items():
        before = f"{100 * old[key]:.2f} % | " if old else ""
        rows.append(f"| {text} | {before}{100 * scores[key]:.2f} % | {scores['n'][key]} |")
    return rows


def table_lines(scores: dict[str, Any]) -> list[str]:
    """The field's table: each row's cIoU and AUC under the three rules."""
    names = ("median", "fixed", "universal")
    head = " | ".join(f"cIoU {name} | AUC {name}" for name in names)
    rows = [f"| | n | {head} | peak |", "|---|" + "---:|" * (2 + 2 * len(names))]
    for name, row in scores["table"].items():
        cells = " | ".join(f"{row[f'ciou_{r}']:.1f} | {row[f'auc_{r}']:.1f}" for r in names)
        rows.append(f"| {name} | {row['n']} | {cells} | {row['peak']:.1f} |")
    return rows


def model_card(
    recipe: Recipe,
    thresholds: dict[str, float],
    scores: dict[str, Any],
    cast: Cast,
    made_by: str,
    old_scores: dict[str, Any] | None = None,
) -> str:
    """The bundle's README."""
    lines = [f"# {recipe.name}", ""]
    if recipe.data:
        lines += [
            f"Trained on the clips of `{Path(recipe.data).name}`: {recipe.labelled} with boxes, up",
            f"to {recipe.unlabelled} without. It knows what sounds and is seen there.",
            "",
            "## Scores",
            "",
            f"{scores['n']} {scores['clips']} clips, with boxes, in percent.",
        ]
        if scores["clips"] == "validation":
            lines += ["They chose the checkpoint and the thresholds: on others it will do worse."]
    else:
        kind = "scenes composed of cut-outs" if recipe.cutouts else "drawn scenes"
        families = ", ".join(family.name for family in cast.families)
        lines += [
            f"Trained on {kind} and nothing else: {families}. It knows these and their sounds, on "
            "any background.",
            "",
            "**What it therefore can't do:** it has never seen a photograph. Of real people,",
            "animals and instruments it mostly says `unseen`, and now and then points at one by",
            "mistake; it can't tell two things of one family apart; of two that sound at once, a",
            "third may seem to be one; things under a tenth of the picture's width are too small",
            "for it. Don't use it to decide anything about a person.",
            "",
            "## Scores",
            "",
            f"{scores['scenes']} scenes of series {scores['seed']}, through the same resizer,",
            "windows and gate as a video. A peak counts when it lies in the box of the thing.",
            "",
            *score_lines(scores, old_scores),
            "",
            "In percent, over the scenes in which something in view sounds.",
        ]
    lines += [
        "`median` keeps half of the picture, `fixed` stretches each map first, `universal` is the",
        f"map as it is, from p = {thresholds['glow']} on: the one a live picture can use.",
        "`shuffled sound` hears the sound of another clip.",
        "",
        *table_lines(scores),
        "",
        "## Recipe",
        "",
        f"`{made_by}` with:",
        "",
        "```toml",
        to_toml(recipe).rstrip(),
        "```",
        "",
    ]
    return "\n".join(lines)
