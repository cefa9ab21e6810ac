"""What lips do and what is heard, as vectors that agree at the same time: a network for each."""

from __future__ import annotations

import torch
from torch import Tensor, nn

MOVES, HEARD = 18, 6
"""Numbers 25 times a second, see `avsl.engines.speakers.lips`."""
WIDE, VECTOR = 32, 16


class Sync(nn.Module):
    """Numbers of lips `[B, n, 18]` and of sound `[B, n, 6]` to vectors `[B, 16, n]` of each, whose
    correlation over time is that of lips and voice (as SyncNet's; Chung & Zisserman 2016)."""

    def __init__(self, dropped: float = 0.35) -> None:
        super().__init__()
        self.lips = nn.Sequential(nn.Dropout1d(dropped), *_layers(MOVES, dropped))
        self.voice = nn.Sequential(*_layers(HEARD, dropped))
        self.sharp = nn.Parameter(torch.tensor(2.0))
        """Logarithm of what correlations are multiplied with in training."""

    def forward(self, moves: Tensor, heard: Tensor) -> tuple[Tensor, Tensor]:
        return _vectors(self.lips, moves), _vectors(self.voice, heard)


def _layers(numbers: int, dropped: float) -> tuple[nn.Module, ...]:
    return (
        nn.Conv1d(numbers, WIDE, 5, padding=2),
        nn.ReLU(),
        nn.Dropout(dropped),
        nn.Conv1d(WIDE, VECTOR, 5, padding=2),
    )


def _vectors(network: nn.Module, x: Tensor) -> Tensor:
    """Of each number only how it changes within the window counts."""
    x = (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 0.005)
    y: Tensor = network(x.transpose(1, 2))
    y = y - y.mean(2, keepdim=True)
    return y / (y.square().mean((1, 2), keepdim=True).sqrt() + 1e-3)
