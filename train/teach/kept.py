"""A stage of teaching as it stands: weights, the optimizer's moments, and how far it has got."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from avsl.train.run import cut_metrics, load_checkpoint, save_checkpoint


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
