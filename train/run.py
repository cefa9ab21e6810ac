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
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from avsl.engines import UserError
from avsl.train.recipe import Recipe, to_toml

LAST = "last.safetensors"


def prepare_run(recipe: Recipe, run: Path, resume: bool) -> None:
    """Makes the folder of a new training, or checks that an old one can go on.

    Raises:
        UserError: `run` holds another training, or none to resume.
    """
    known = run / "recipe.toml"
    if resume:
        if not known.exists():
            raise UserError(f"{run}: no training to resume; leave out --resume to start")
        if known.read_text("utf-8") != to_toml(recipe):
            raise UserError(f"{run}: was trained with another recipe; name another run folder")
        return
    # A recipe alone is what a start leaves that failed at its data.
    if any((run / name).exists() for name in ("metrics.jsonl", LAST, "clips")):
        raise UserError(f"{run}: holds a training already; --resume goes on with it")
    try:
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
    save_file(whole, beside, {"state": json.dumps(state)})
    with beside.open("rb") as file:
        os.fsync(file.fileno())
    beside.replace(path)


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
