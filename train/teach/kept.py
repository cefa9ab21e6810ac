"""A run of teaching as it stands: what it was begun with; of a stage the weights, the optimizer's
moments, and how far it has got."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from avsl.engines import UserError
from avsl.train.run import cut_metrics, load_checkpoint, save_checkpoint, write_text


def begin(run: Path, name: str, said: dict[str, Any]) -> None:
    """Makes a run's folder with its settings in a file of this name, or checks that it has them.

    Raises:
        UserError: it was begun with others, holds something else, or can't be made.
    """
    about = run / name
    if about.is_file():
        if json.loads(about.read_text("utf-8")) != said:
            raise UserError(f"{run}: begun with other settings; name a new folder")
        return
    if run.exists() and any(run.iterdir()):
        raise UserError(f"{run}: holds something else; name a new folder")
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{run}: can't be made ({error.strerror})") from None
    write_text(about, json.dumps(said) + "\n")


def keep(path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    """Writes a stage after `step` steps: whole, or not at all."""
    tensors = {f"network.{name}": value for name, value in network.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{name}": value for name, value in state.items()}
    save_checkpoint(path, tensors, {"step": step})


def take_up(path: Path, metrics: Path, network: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    """Puts back what `keep` wrote, if there is anything, and drops what was logged after it; gives
    the steps that are done."""
    if not path.exists():
        return 0
    tensors, about = load_checkpoint(path)
    weights: dict[str, Tensor] = {}
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        part, rest = name.split(".", 1)
        if part == "network":
            weights[rest] = value
        else:
            number, moment = rest.split(".")
            moments.setdefault(int(number), {})[moment] = value
    network.load_state_dict(weights)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": moments})
    cut_metrics(metrics, int(about["step"]))
    return int(about["step"])
