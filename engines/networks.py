"""The networks. torch is imported here and in the GPU backends only.

A network is two encoders and the cosine between them: training fits it, export freezes it.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


@dataclass(frozen=True)
class NetworkSpec:
    """Sizes of the small network; stored in the bundle, so that it can be rebuilt from it."""

    rate: int = 16_000
    window: int = 16_000
    picture_size: tuple[int, int] = (160, 160)
    width: int = 16
    embedding: int = 64

    @property
    def map_size(self) -> tuple[int, int]:
        return self.picture_size[0] // 8, self.picture_size[1] // 8

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


class LogMel(nn.Module):
    """Log-mel spectrogram as a fixed convolution: samples `[B, S]` to `[B, 1, mels, frames]`.

    The DFT is a conv1d (a quarter of the STFT node's time in ONNX Runtime, and TensorRT has no
    STFT). Loudness is taken out: the spectrogram is set against its own maximum, and what lies
    more than 60 dB below it is cut off.
    """

    def __init__(self, rate: int, n_fft: int = 512, hop: int = 256, mels: int = 64) -> None:
        super().__init__()
        t = torch.arange(n_fft, dtype=torch.float64)
        f = torch.arange(n_fft // 2 + 1, dtype=torch.float64)[:, None]
        hann = 0.5 - 0.5 * torch.cos(2 * math.pi * t / n_fft)
        turn = 2 * math.pi * f * t / n_fft
        basis = torch.cat([turn.cos() * hann, turn.sin() * hann])[:, None].float()
        self.hop = hop
        self.basis = nn.Buffer(basis, persistent=False)
        self.mel = nn.Buffer(_mel_filters(rate, n_fft, mels)[..., None], persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        wave = F.conv1d(samples[:, None], self.basis, stride=self.hop)
        real, imaginary = wave.chunk(2, dim=1)
        power = F.conv1d(real.square() + imaginary.square(), self.mel)
        log = power.clamp_min(1e-9).log10()
        top = log.amax(dim=(1, 2), keepdim=True)
        return ((torch.maximum(log, top - 6) - top) / 3 + 1)[:, None]


def _mel_filters(rate: int, n_fft: int, mels: int) -> Tensor:
    """Triangles, evenly spaced on the HTK mel scale from 60 Hz to the Nyquist frequency; `[mels,
    n_fft / 2 + 1]`. mel = 2595 log10(1 + f / 700)."""
    low, high = (2595 * math.log10(1 + f / 700) for f in (60.0, rate / 2))
    edges = 700 * (10 ** (torch.linspace(low, high, mels + 2, dtype=torch.float64) / 2595) - 1)
    f = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * rate / n_fft
    up = (f - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    down = (edges[2:, None] - f) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(up, down).clamp_min(0).float()


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


class PictureEncoder(nn.Module):
    """Picture `[B, 3, h, w]` in [-1, 1] to features `[B, E, h/8, w/8]`. A coarser level, added
    back, lets each cell see things of half the picture's width."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        w = width
        self.stem = nn.Sequential(
            conv(3, w, 2), conv(w, 2 * w, 2), Block(2 * w), conv(2 * w, 4 * w, 2), Block(4 * w)
        )
        self.coarse = nn.Sequential(
            conv(4 * w, 6 * w, 2), Block(6 * w), Block(6 * w), conv(6 * w, 4 * w, kernel=1)
        )
        self.head = nn.Sequential(
            conv(4 * w, 4 * w),
            nn.Conv2d(4 * w, embedding, 1, bias=False),
            nn.BatchNorm2d(embedding),
        )

    def forward(self, x: Tensor) -> Tensor:
        fine = self.stem(x)
        coarse = F.interpolate(self.coarse(fine), scale_factor=2.0, mode="nearest")
        return cast(Tensor, self.head(fine + coarse))


class SoundEncoder(nn.Module):
    """Log-mel spectrogram `[B, 1, 64, frames]` to an embedding `[B, E]`.

    The last convolutions are pooled into four stretches of time rather than one, for what counts
    is what sounds at the window's end.
    """

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        w = width
        self.body = nn.Sequential(
            conv(1, w, 2), conv(w, 2 * w, 2), Block(2 * w), conv(2 * w, 4 * w, 2), Block(4 * w)
        )
        self.head = nn.Sequential(
            nn.Linear(4 * w * 16, 128),
            nn.BatchNorm1d(128),
            nn.ReLU(inplace=True),
            nn.Linear(128, embedding),
            nn.BatchNorm1d(embedding),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)  # [B, C, 8, frames / 8]
        # Average pooling with fixed windows: the adaptive kind does not export.
        x = F.avg_pool2d(x, (2, 2))
        return cast(Tensor, self.head(x.flatten(1)))


class Network(nn.Module):
    """Cosine map of a picture and a sound (both embeddings L2-normalised), as a logit.

    `slope` and `offset` are learnt and turn the cosine into log odds; `calibration` (a, b) is set
    afterwards on held-out scenes: p = sigmoid(a * logit + b).
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.spectrogram = LogMel(spec.rate)
        self.sound = SoundEncoder(spec.width, spec.embedding)
        self.picture = PictureEncoder(spec.width, spec.embedding)
        self.slope = nn.Parameter(torch.tensor(10.0))
        self.offset = nn.Parameter(torch.tensor(-6.0))
        self.calibration = nn.Buffer(torch.tensor([1.0, 0.0]))

    def embed(self, samples: Tensor) -> Tensor:
        """Samples `[B, S]` to unit embeddings `[B, E]`."""
        return unit(self.sound(self.spectrogram(samples)).float())

    def features(self, picture: Tensor) -> Tensor:
        """Picture `[B, 3, h, w]` in [-1, 1] to unit features `[B, E, m, n]`."""
        return unit(self.picture(picture).float())

    def logits(self, features: Tensor, embedding: Tensor) -> Tensor:
        """Log odds `[B, m, n]` before calibration."""
        cosine = (features * embedding[:, :, None, None]).sum(1)
        return self.slope * cosine + self.offset

    def forward(self, picture: Tensor, samples: Tensor) -> Tensor:
        return self.logits(self.features(picture), self.embed(samples))

    def probability(self, logits: Tensor) -> Tensor:
        """Calibrated probability of each cell."""
        return torch.sigmoid(self.calibration[0] * logits + self.calibration[1])


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
            if isinstance(first, nn.Conv2d) and isinstance(second, nn.BatchNorm2d):
                module[i] = fuse_conv_bn_eval(first, second)
                module[i + 1] = nn.Identity()
            elif isinstance(first, nn.Linear) and isinstance(second, nn.BatchNorm1d):
                module[i] = torch.nn.utils.fusion.fuse_linear_bn_eval(first, second)
                module[i + 1] = nn.Identity()
    return module
