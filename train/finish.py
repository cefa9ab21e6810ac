"""From a trained network to an engine: calibration and thresholds on held-out scenes, the bundle,
its scores on others, and the model card."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avsl.demos.scenes import DRAWN, Cast
from avsl.engines import Resizer, open_engine
from avsl.engines.networks import Network
from avsl.train.evaluate import CALIBRATION_SEED, SCORES, evaluate_scenes, stills
from avsl.train.export import add_scores, calibrate, write_bundle
from avsl.train.fit import pictures_to_input
from avsl.train.metrics import box_mask
from avsl.train.pool import cell_cover
from avsl.train.recipe import Recipe

GATE = {"gate_db": -60.0, "gate_margin_db": 6.0}


def finish(
    network: Network,
    recipe: Recipe,
    folder: Path,
    *,
    version: str,
    cast: Cast = DRAWN,
    made_by: str = "",
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> dict[str, Any]:
    """Writes the bundle of `network` to `folder` and returns its scores."""
    thresholds = _calibrate(network, recipe.held_out, cast, progress)
    training = {"recipe": dataclasses.asdict(recipe), "families": [f.name for f in cast.families]}
    write_bundle(
        network, folder, name=recipe.name, version=version, thresholds=thresholds, training=training
    )
    engine = open_engine(folder)
    count = recipe.held_out
    scores = evaluate_scenes(
        engine, count, cast=cast, progress=lambda done: progress("evaluate", done, count)
    )
    add_scores(folder, scores, model_card(recipe, thresholds, scores, cast, made_by))
    return scores


def _calibrate(
    network: Network, count: int, cast: Cast, progress: Callable[[str, int, int], None]
) -> dict[str, float]:
    """Sets `network.calibration` and returns the thresholds, both from held-out scenes."""
    resize = Resizer(network.spec.picture_size)
    logits, targets, outside = [], [], []
    with torch.no_grad():
        for done, still in enumerate(stills(CALIBRATION_SEED, count, resize, cast=cast), 1):
            picture = pictures_to_input(torch.from_numpy(still.picture)[None])
            logits.append(network(picture, torch.from_numpy(still.samples)[None]))
            side = network.spec.picture_size[0]
            cells = cell_cover(box_mask(still.truth, side)[None], side // network.spec.map_size[0])
            targets.append(torch.from_numpy(cells))
            outside.append(still.scene.kind == "outside")
            progress("calibrate", done, count)
    a, b = calibrate(torch.cat(logits), torch.cat(targets))
    network.calibration.copy_(torch.tensor([a, b]))
    scores = network.probability(torch.cat(logits)).amax((1, 2)).detach().numpy()
    # Nine of ten sounds from out of view shall be called so, where that leaves room for doubt.
    unseen = round(float(np.clip(np.quantile(scores[np.array(outside)], 0.9), 0.15, 0.7)), 3)
    # What is called unseen must not glow, and what glows a little is called unsure.
    glow = max(0.5, unseen)
    return {"glow": glow, "unseen": unseen, "sounding": round(glow + 0.1, 3), **GATE}


def score_lines(scores: dict[str, Any]) -> list[str]:
    """The scores as a Markdown table's rows."""
    rows = ["| measured on held-out scenes | value | n |", "|---|---:|---:|"]
    for key, text in SCORES.items():
        rows.append(f"| {text} | {100 * scores[key]:.2f} % | {scores['n'][key]} |")
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
    recipe: Recipe, thresholds: dict[str, float], scores: dict[str, Any], cast: Cast, made_by: str
) -> str:
    """The bundle's README."""
    families = ", ".join(family.name for family in cast.families)
    drawn = (
        "Trained on drawn scenes and nothing else: "
        if not recipe.cutouts
        else "Trained on scenes composed of cut-outs: "
    )
    return "\n".join(
        [
            f"# {recipe.name}",
            "",
            f"{drawn}{families}. It knows these and their sounds, on any background.",
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
            *score_lines(scores),
            "",
            "In percent, over the scenes in which something in view sounds. `median` keeps half of",
            "the picture, `fixed` stretches each map first, `universal` is the map as it is, from",
            f"p = {thresholds['glow']} on: the one a live picture can use. `shuffled sound` hears",
            "the sound of another scene.",
            "",
            *table_lines(scores),
            "",
            "## Recipe",
            "",
            f"`{made_by}` with:",
            "",
            "```toml",
            *(f"{k} = {_toml(v)}" for k, v in dataclasses.asdict(recipe).items()),
            "```",
            "",
        ]
    )


def _toml(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value)
