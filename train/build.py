"""`avsl-train build`: an engine out of a run, and what an engine runs with on this machine."""

from __future__ import annotations

from pathlib import Path

from avsl.engines import UserError, open_engine
from avsl.train.finish import Progress, finish
from avsl.train.fit import ensemble_of, stage_networks, stages
from avsl.train.material import open_material
from avsl.train.recipe import CHOICES, casts_of, load_recipe


def build(
    source: Path,
    out: Path | None,
    stage: str | None,
    combine: str | None,
    *,
    progress: Progress = lambda what, done, total: None,
) -> str:
    """Builds, and returns a line that says what there is now.

    Raises:
        UserError: `source` is neither a run nor an engine, or hasn't got that far.
    """
    if (source / "model.json").exists():
        engine = open_engine(source)
        return f"{source}: whole; runs with {type(engine).__name__} on this machine"
    if not (source / "recipe.toml").exists():
        raise UserError(f"{source}: neither a run (recipe.toml) nor an engine (model.json)")
    if combine is not None and combine not in CHOICES["combine"]:
        raise UserError(f"--combine must be one of {', '.join(CHOICES['combine'])}")
    recipe = load_recipe(source / "recipe.toml")
    names = [known.name for known in stages(recipe)]
    if stage is not None and stage not in names:
        raise UserError(f"--stage must be one of this run's: {', '.join(names)}")
    ensemble = ensemble_of(stage_networks(recipe, source, stage), combine or recipe.combine)
    folder = out or source / "engine"
    finish(
        ensemble,
        recipe,
        folder,
        open_material(recipe, source, progress=progress) if recipe.data else None,
        casts=casts_of(recipe.cutouts),
        made_by=f"avsl-train build {source.name}",
        progress=progress,
    )
    return f"{folder}: the engine; avsl-live FILE -o OUT --engine {folder}"
