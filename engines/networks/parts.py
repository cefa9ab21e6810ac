"""What encoders are built of. torch is imported in this room and in the GPU backends only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class Front(nn.Module):
    """Fixed arithmetic ahead of a sound encoder. It moves between devices with the encoder but
    stays in single precision when the encoder goes to half: spectra span more than half can."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        return super()._apply(lambda x: x.to(fn(x).device), recurse)  # type: ignore[no-untyped-call]


class SoundEncoder(nn.Module):
    """What encodes sound: `front` turns samples `[B, S]` into what `forward` takes, and that gives
    `[B, E]`."""

    front: Front


class Block(nn.Module):
    """Two 3x3 convolutions around a residual connection."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.a = conv(channels, channels)
        self.b = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.b(self.a(x)))


def conv(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


def conv1d(inputs: int, outputs: int, kernel: int, stride: int) -> tuple[nn.Module, ...]:
    """Convolution, batch norm, ReLU along time."""
    return (
        nn.Conv1d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm1d(outputs),
        nn.ReLU(inplace=True),
    )


def head(inputs: int, embedding: int) -> nn.Sequential:
    """Two fully connected layers. Batch norm at the end keeps embeddings from collapsing."""
    return nn.Sequential(
        nn.Linear(inputs, 128),
        nn.BatchNorm1d(128),
        nn.ReLU(inplace=True),
        nn.Linear(128, embedding),
        nn.BatchNorm1d(embedding),
    )


def unit(x: Tensor) -> Tensor:
    """`x` over its L2 norm along dimension 1. (`F.normalize` would export with the shape of the
    uint8 picture in it, which TensorRT doesn't take.)"""
    return x / x.square().sum(1, keepdim=True).clamp_min(1e-12).sqrt()


def fold_batch_norm(module: nn.Module) -> nn.Module:
    """Folds each convolution (or linear layer) with the batch norm after it, in place, in eval
    mode: half precision would lose what batch norm's statistics hold."""
    for child in module.children():
        fold_batch_norm(child)
    if isinstance(module, nn.Sequential):
        for i in range(len(module) - 1):
            first, second = module[i], module[i + 1]
            if isinstance(first, nn.Conv1d | nn.Conv2d) and isinstance(
                second, nn.BatchNorm1d | nn.BatchNorm2d
            ):
                module[i] = fuse_conv_bn_eval(first, second)
                module[i + 1] = nn.Identity()
            elif isinstance(first, nn.Linear) and isinstance(second, nn.BatchNorm1d):
                module[i] = torch.nn.utils.fusion.fuse_linear_bn_eval(first, second)
                module[i + 1] = nn.Identity()
    return module
