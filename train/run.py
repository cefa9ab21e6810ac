"""A run folder: it describes itself, and a training can go on from it exactly.

recipe.toml         the resolved recipe
environment.json    what it ran on
metrics.jsonl       a line every few steps
last.safetensors    everything that a resumed training needs
warm-up.safetensors, unbiased.safetensors, distill.safetensors
                    of each stage the networks that did best on validation
"""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from avsl.engines import UserError
from avsl.train.recipe import Recipe, differences, load_recipe, to_toml

LAST = "last.safetensors"


RECIPE = "recipe.toml"


def check_run(recipe: Recipe, run: Path, resume: bool) -> None:
    """
    Raises:
        UserError: `run` holds another training, or none to resume, or what is not a training's.
    """
    begun = any(run.glob("*.safetensors")) or any(
        (run / name).exists() for name in ("metrics.jsonl", "engine")
    )
    if resume:
        if not (run / RECIPE).exists():
            raise UserError(f"{run}: no training to resume; leave out --resume to start")
        _check_same(recipe, run, begun)
    elif begun:
        raise UserError(f"{run}: holds a training already; --resume goes on with it")
    else:
        for pack in _own_packs(recipe, run):
            if not (run / RECIPE).exists() or not (pack / "pack.json").exists():
                raise UserError(f"{pack}: is in the way; name another run folder")


def _check_same(recipe: Recipe, run: Path, begun: bool) -> None:
    differ = differences(load_recipe(run / RECIPE), recipe)
    if differ and not begun:
        raise UserError(f"{run}: nothing is trained in it yet; leave out --resume to start anew")
    if differ:
        more = f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise UserError(
            f"{run}: was trained with {'; '.join(differ[:3])}{more}; avsl-train fit "
            f"{run / RECIPE} --run {run} --resume goes on as it was"
        )


def _own_packs(recipe: Recipe, run: Path) -> list[Path]:
    """What lies where a training puts its packs, unless it is the clips that it learns from."""
    given = [Path(folder).resolve() for folder in (recipe.data, recipe.test) if folder]
    places = [run / name for name in (("clips", "test") if recipe.data else ("validation",))]
    return [
        place
        for place in places
        if place.exists() and not (place.resolve() in given and (place / "pack.json").exists())
    ]


def prepare_run(recipe: Recipe, run: Path, resume: bool) -> None:
    """Makes the folder of a new training, or checks that an old one can go on. One that ended
    before anything was trained is taken anew.

    Raises:
        UserError: see `check_run`; or `run` can't be written.
    """
    check_run(recipe, run, resume)
    if resume:
        return
    try:
        for pack in _own_packs(recipe, run):  # of other clips, or of what they were then
            shutil.rmtree(pack)
        run.mkdir(parents=True, exist_ok=True)
        write_text(
            run / "environment.json",
            json.dumps(
                {
                    "torch": torch.__version__,
                    "python": platform.python_version(),
                    "machine": platform.machine(),
                    "threads": torch.get_num_threads(),
                },
                indent=2,
            ),
        )
        known = run / RECIPE
        if not (known.exists() and known.read_text("utf-8") == to_toml(recipe)):
            write_text(known, to_toml(recipe))
    except OSError as error:
        raise UserError(f"{run}: can't be written ({error.strerror})") from None


def write_text(path: Path, text: str) -> None:
    """Writes beside and renames."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, "utf-8")
    beside.replace(path)


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], state: dict[str, Any]) -> None:
    """Writes tensors, and `state` as JSON in the file's header: whole, or not at all."""
    beside = path.with_name(path.name + ".part")
    # safetensors would refuse what is not contiguous, and a copy must not alias the weights.
    whole = {k: v.detach().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()}
    try:
        beside.touch()  # as any file here: safetensors makes its own for nobody else to read
        mode = beside.stat().st_mode
        save_file(whole, beside, {"state": json.dumps(state)})
        beside.chmod(mode)
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    except (OSError, SafetensorError) as error:
        beside.unlink(missing_ok=True)
        raise UserError(f"{path}: can't be written ({error})") from None


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_checkpoint` wrote.

    Raises:
        UserError: the file can't be read.
    """
    try:
        with safe_open(path, "pt") as file:
            state = json.loads(file.metadata()["state"])
            return {name: file.get_tensor(name) for name in file.keys()}, state  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: can't be read as a checkpoint ({error})") from None


def steps_done(run: Path) -> int:
    """How many steps a run has got through, as its last checkpoint says; 0: it has none."""
    if not (run / LAST).exists():
        return 0
    try:
        with safe_open(run / LAST, "pt") as file:
            return int(json.loads(file.metadata()["state"])["step"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{run / LAST}: can't be read as a checkpoint ({error})") from None


def cut_metrics(path: Path, step: int) -> None:
    """Drops what was logged after `step`: the steps that follow will be trained, and logged,
    again."""
    if path.exists():
        write_text(path, "".join(_json_line(x) for x in read_metrics(path) if x["step"] <= step))


def append_metrics(path: Path, line: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(_json_line(line))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line that was cut off by a crash is left out."""
    lines = []
    for text in path.read_text("utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except ValueError:
            break
    return lines


def _json_line(line: dict[str, Any]) -> str:
    return json.dumps(line) + "\n"
