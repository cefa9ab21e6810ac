"""What is said about an engine: its scores as tables, and its model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from avsl.demos.scenes import Cast
from avsl.train.recipe import Recipe, to_toml
from avsl.train.scoring.evaluate import SCORES


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


def kinds_lines(scores: dict[str, Any]) -> list[str]:
    """How often the peak is in what sounds, for each kind that does."""
    rows = ["| what sounds, among other things | peak inside | n |", "|---|---:|---:|"]
    kinds = scores.get("kinds", {})
    rows += [
        f"| {name} | {100 * kind['peak']:.0f} % | {kind['n']} |" for name, kind in kinds.items()
    ]
    return [*rows, ""] if kinds else []


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
    sources: str = "",
    old_scores: dict[str, Any] | None = None,
) -> str:
    """The bundle's README.

    Args:
        sources: whose pictures and sounds it was trained on, Markdown with a title of its own.
    """
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
        families = ", ".join(family.name for family in cast.families)
        lines += [
            f"Trained on {_material(recipe, cast)} and nothing else: {families}.",
            "It knows these and their sounds, on any background.",
            "",
            "**What it therefore can't do:** " + _limits(cast),
            "It can't tell two things of one kind apart; of two that sound at once, a third may",
            "seem to be one; things under a tenth of the picture's width are too small for it.",
            "Don't use it to decide anything about a person.",
            "",
            "## Scores",
            "",
            f"{scores['scenes']} scenes of series {scores['seed']}, through the same resizer,",
            "windows and gate as a video. A peak counts when it lies in the box of the thing.",
            "",
            *score_lines(scores, old_scores),
            "",
            *kinds_lines(scores),
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
    if sources:
        lines += ["#" + sources.strip(), ""]
    return "\n".join(lines)


def _material(recipe: Recipe, cast: Cast) -> str:
    if cast.host:
        return "scenes composed of photographs and recordings"
    return "scenes composed of cut-outs" if recipe.cutouts else "drawn scenes"


def _limits(cast: Cast) -> str:
    if cast.host:
        return (
            "it was never shown a film. It knows each kind from a few dozen photographs, and\n"
            "people from photographs of a few who look at the camera."
        )
    return (
        "it has never seen a photograph. Of real people, animals and instruments it mostly says\n"
        "`unseen`, and now and then points at one by mistake."
    )
