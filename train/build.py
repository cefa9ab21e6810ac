"""`avsl-train build`: an engine out of a run, and what an engine runs with on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from avsl.engines import UserError, load_bundle, open_engine
from avsl.engines.backends.plans import FILE_BATCH, Progress, build_plans
from avsl.engines.backends.tensorrt_library import LIBRARIES, RTX

# torch and what makes networks are imported where a run is built: an engine's plans need neither
# onnx nor the rest of the extra `train`.


def build(
    source: Path,
    out: Path | None,
    stage: str | None,
    combine: str | None,
    sm: str | None = None,
    *,
    progress: Progress = lambda what, done, total: None,
) -> list[str]:
    """Builds the engine of a run, and of an engine the fastest that this machine can run; or, for
    other machines' GPUs, plans to take along. Returns lines that say what there is now.

    Raises:
        UserError: `source` is neither a run nor an engine, or hasn't got that far; or there is no
            building for such GPUs here.
    """
    if (source / "model.json").exists():
        if stage or combine or (out and not sm):
            raise UserError(f"{source}: an engine; --stage, --combine and --out are for a run")
        return for_others(source, sm, out, progress) if sm else fastest(source, progress)
    if sm:
        raise UserError(f"{source}: no engine (model.json); --for takes one, like a run's engine/")
    folder = _engine_of_run(source, out, stage, combine, progress)
    return [
        *fastest(folder, progress),
        f"{folder}: the engine; avsl-live FILE -o OUT --engine {folder}",
    ]


def fastest(folder: Path, progress: Progress) -> list[str]:
    """Builds TensorRT's plans of an engine, for live and for files, where there is TensorRT; a line
    about each, and one that says with what the engine runs now."""
    bundle = load_bundle(folder)
    lines: list[str] = []
    for library in LIBRARIES.values():
        try:
            for batch in (1, FILE_BATCH) if library.installed else ():
                lines += map(_told, build_plans(bundle, batch, library, progress=progress))
        except UserError as fault:
            lines.append(f"no plan: {fault}")
    open_engine(bundle, say=lambda line: lines.append(f"{folder}: {line}"))
    return lines


def for_others(folder: Path, sm: str, out: Path | None, progress: Progress) -> list[str]:
    """Builds plans of an engine for all GPUs of a compute capability, like "SM89", for live and for
    files, into a folder to take along; a line about each, and one on where they go."""
    bundle, out = load_bundle(folder), out or Path(f"plans-{sm.upper()}")
    lines: list[str] = []
    for batch in (1, FILE_BATCH):
        plans = build_plans(bundle, batch, RTX, sm=sm, out=out, progress=progress)
        lines += map(_told, plans)
    return [
        *lines,
        f"{out}: for {sm.upper()} and {RTX.name} {plans[0]['facts'][RTX.name]}; there all of it "
        r"belongs in ~/.cache/avsl/plans (Windows: %LOCALAPPDATA%\avsl\plans)",
    ]


def _told(plan: dict[str, Any]) -> str:
    half = f"{100 * plan['half layers']:.0f} % of {plan['layers']} convolutions and products"
    return f"plan {plan['label']}: {plan['precision']} ({half}), built in {plan['seconds']:.1f} s"


def _engine_of_run(
    source: Path, out: Path | None, stage: str | None, combine: str | None, progress: Progress
) -> Path:
    if not (source / "recipe.toml").exists():
        raise UserError(f"{source}: neither a run (recipe.toml) nor an engine (model.json)")
    from avsl.train.data.material import open_material
    from avsl.train.finish import finish
    from avsl.train.fit import stage_networks, stages
    from avsl.train.methods.method import method_of
    from avsl.train.recipe import CHOICES, casts_of, load_recipe

    if combine is not None and combine not in CHOICES["combine"]:
        raise UserError(f"--combine must be one of {', '.join(CHOICES['combine'])}")
    recipe = load_recipe(source / "recipe.toml")
    names = [known.name for known in stages(recipe)]
    if stage is not None and stage not in names:
        raise UserError(f"--stage must be one of this run's: {', '.join(names)}")
    networks = stage_networks(recipe, source, stage)
    ensemble = method_of(recipe).export(networks, combine or recipe.combine)
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
    return folder
