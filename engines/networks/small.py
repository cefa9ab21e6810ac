"""The small encoders: a few hundred thousand parameters, for live on a laptop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avsl.engines.networks.parts import Block, Front, SoundEncoder, conv, conv1d, head


class PictureEncoder(nn.Module):
    """Picture `[B, 3, h, w]` in [-1, 1] to features `[B, E, h/8, w/8]`. A coarser level, added
    back, lets each cell see things of half the picture's width; with a third one all of it."""

    def __init__(self, width: int, embedding: int, levels: int = 2) -> None:
        super().__init__()
        w = width
        self.stem = nn.Sequential(
            conv(3, w, 2), conv(w, 2 * w, 2), Block(2 * w), conv(2 * w, 4 * w, 2), Block(4 * w)
        )
        inner = [Coarser(6 * w, 8 * w, [])] if levels == 3 else []
        self.coarse = Coarser(4 * w, 6 * w, inner)
        self.head = nn.Sequential(
            conv(4 * w, 4 * w),
            nn.Conv2d(4 * w, embedding, 1, bias=False),
            nn.BatchNorm2d(embedding),
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.coarse(self.stem(x))))


class Coarser(nn.Sequential):
    """Features with what is seen in them at half the resolution added back."""

    def __init__(self, channels: int, inside: int, inner: Sequence[nn.Module]) -> None:
        super().__init__(
            conv(channels, inside, 2),
            Block(inside),
            Block(inside),
            *inner,
            conv(inside, channels, kernel=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        inside = x
        for layer in self:
            inside = layer(inside)
        return x + F.interpolate(inside, scale_factor=2.0, mode="nearest")


class LogMelEncoder(SoundEncoder):
    """Log-mel spectrogram `[B, 1, 64, frames]` to an embedding `[B, E]`.

    The last convolutions are pooled into four stretches of time rather than one, for what counts
    is what sounds at the window's end.
    """

    def __init__(self, rate: int, width: int, embedding: int) -> None:
        super().__init__()
        w = width
        self.front = LogMel(rate)
        self.body = nn.Sequential(
            conv(1, w, 2), conv(w, 2 * w, 2), Block(2 * w), conv(2 * w, 4 * w, 2), Block(4 * w)
        )
        self.head = head(4 * w * 16, embedding)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)  # [B, C, 8, frames / 8]
        # Average pooling with fixed windows: the adaptive kind does not export.
        k = x.shape[3] // 4
        x = F.avg_pool2d(x[..., -4 * k :], (2, k))
        return cast(Tensor, self.head(x.flatten(1)))


class LogMel(Front):
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
        self.hann = nn.Buffer(hann.float(), persistent=False)
        self.mel = nn.Buffer(_mel_filters(rate, n_fft, mels), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        if torch.compiler.is_exporting():
            wave = F.conv1d(samples[:, None], self.basis, stride=self.hop)
            real, imaginary = wave.chunk(2, dim=1)
            power = F.conv1d(real.square() + imaginary.square(), self.mel[..., None])
        else:  # the same numbers, in a fifth of the time where torch runs
            frames = samples.unfold(1, len(self.hann), self.hop) * self.hann
            spectrum = torch.fft.rfft(frames)
            power = (spectrum.real.square() + spectrum.imag.square()) @ self.mel.T
            power = power.transpose(1, 2)
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


class WaveEncoder(SoundEncoder):
    """Waveform `[B, S]` to an embedding `[B, E]`: SoundNet's idea, small. A strided convolution
    learns its own filter bank; what follows is pooled into four stretches of time."""

    def __init__(self, width: int, embedding: int) -> None:
        super().__init__()
        w = width
        self.front = Normalised()
        self.body = nn.Sequential(
            *conv1d(1, 2 * w, 64, 16),
            *conv1d(2 * w, 2 * w, 8, 4),
            *conv1d(2 * w, 4 * w, 8, 4),
            *conv1d(4 * w, 4 * w, 4, 2),
            *conv1d(4 * w, 4 * w, 3, 1),
        )
        self.head = head(4 * w * 4, embedding)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x[:, None])  # [B, C, S / 512]
        k = x.shape[2] // 4
        # In two dimensions: TensorRT's parser knows no others.
        x = F.avg_pool2d(x[:, None, :, -4 * k :], (1, k))
        return cast(Tensor, self.head(x.flatten(1)))


class Normalised(Front):
    """A waveform over its own root mean square: loudness is taken out, as in `LogMel`."""

    def forward(self, samples: Tensor) -> Tensor:
        # Clamped: the exporter takes a sum with so small a number for one with nothing.
        return samples / samples.square().mean(1, keepdim=True).clamp_min(1e-9).sqrt()
