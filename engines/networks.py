"""The networks. torch is imported here and in the GPU backends only.

A network is two encoders and the cosine between them: training fits it, export freezes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

Combine = Literal["mean", "product"]


@dataclass(frozen=True)
class NetworkSpec:
    """What a network is made of; stored in the bundle, so that it can be rebuilt from it."""

    rate: int = 16_000
    window: int = 16_000
    picture_size: tuple[int, int] = (160, 160)
    picture: str = "small"
    """`small`; `medium`, which sees one level coarser; or the paper's `resnet18`."""
    sound: str = "log-mel"
    """`log-mel` or `wave`, both small; or the paper's `vggish`, `soundnet`, `resnet18`."""
    width: int = 16
    """Channels that the small encoders begin with; the paper's have their own."""
    embedding: int = 64

    @property
    def map_size(self) -> tuple[int, int]:
        stride = 32 if self.picture == "resnet18" else 8
        return self.picture_size[0] // stride, self.picture_size[1] // stride

    def to_dict(self) -> dict[str, object]:
        return asdict(self)


class Front(nn.Module):
    """Fixed arithmetic ahead of a sound encoder. It moves between devices with the encoder but
    stays in single precision when the encoder goes to half: spectra span more than half can."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        return super()._apply(lambda x: x.to(fn(x).device), recurse)  # type: ignore[no-untyped-call]


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


class SoundEncoder(nn.Module):
    """What encodes sound: `front` turns samples `[B, S]` into what `forward` takes, and that gives
    `[B, E]`."""

    front: Front


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


class Network(nn.Module):
    """Cosine map of a picture and a sound (both embeddings L2-normalised), as a logit.

    `slope` and `offset` are learnt and turn the cosine into log odds.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.sound = _sound_encoder(spec)
        self.picture = _picture_encoder(spec)
        self.slope = nn.Parameter(torch.tensor(1.0))
        self.offset = nn.Parameter(torch.tensor(-0.3))

    def embed(self, samples: Tensor) -> Tensor:
        """Samples `[B, S]` to unit embeddings `[B, E]`."""
        # The spectrogram's range is far beyond what half precision can tell apart.
        with torch.autocast(samples.device.type, enabled=False):
            x = self.sound.front(samples)
        return unit(self.sound(x).float())

    def features(self, picture: Tensor) -> Tensor:
        """Picture `[B, 3, h, w]` in [-1, 1] to unit features `[B, E, m, n]`."""
        return unit(self.picture(picture).float())

    def logits(self, features: Tensor, embedding: Tensor) -> Tensor:
        """Log odds `[B, m, n]`."""
        return self._log_odds((features * embedding[:, :, None, None]).sum(1))

    def crossed_logits(self, features: Tensor, embeddings: Tensor) -> Tensor:
        """Log odds of each of B pictures with each of B' sounds, `[B, B', m, n]`."""
        return self._log_odds(torch.einsum("bemn,ce->bcmn", features, embeddings))

    def _log_odds(self, cosine: Tensor) -> Tensor:
        # In tens, so that steps of the size that suits weights move them fast enough.
        return 10 * (self.slope * cosine + self.offset)

    def forward(self, picture: Tensor, samples: Tensor) -> Tensor:
        return self.logits(self.features(picture), self.embed(samples))


def _picture_encoder(spec: NetworkSpec) -> nn.Module:
    if spec.picture == "resnet18":
        from avsl.engines.backbones import PictureResNet

        return PictureResNet(spec.embedding)
    return PictureEncoder(spec.width, spec.embedding, 3 if spec.picture == "medium" else 2)


def _sound_encoder(spec: NetworkSpec) -> SoundEncoder:
    if spec.sound == "log-mel":
        return LogMelEncoder(spec.rate, spec.width, spec.embedding)
    if spec.sound == "wave":
        return WaveEncoder(spec.width, spec.embedding)
    from avsl.engines import backbones

    kinds: dict[str, type[backbones.VGGish | backbones.SoundNet | backbones.SoundResNet]] = {
        "vggish": backbones.VGGish,
        "soundnet": backbones.SoundNet,
        "resnet18": backbones.SoundResNet,
    }
    return kinds[spec.sound](spec.embedding)


class Ensemble(nn.Module):
    """What is shipped: one network, or two whose embeddings stand side by side and whose maps are
    combined cell by cell. `calibration` (a, b) is set on held-out clips: p = sigmoid(a x + b), x
    the log odds of the combined map."""

    def __init__(self, networks: list[Network], combine: Combine = "mean") -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.combine: Combine = combine
        self.calibration = nn.Buffer(torch.tensor([1.0, 0.0]))

    @property
    def members(self) -> list[Network]:
        return cast(list[Network], list(self.networks))

    @property
    def spec(self) -> NetworkSpec:
        """Of the first network; sizes of pictures, windows and maps are the same in all."""
        return self.members[0].spec

    def embed(self, samples: Tensor) -> Tensor:
        """Samples `[B, S]` to embeddings `[B, E]`, one network's after the other's."""
        return torch.cat([network.embed(samples) for network in self.members], 1)

    def log_odds(self, picture: Tensor, embedding: Tensor) -> Tensor:
        """Picture `[B, 3, h, w]` in [-1, 1] and embeddings to uncalibrated log odds `[B, m, n]`."""
        parts = torch.split(embedding, [n.spec.embedding for n in self.members], 1)
        logits = [
            network.logits(network.features(picture), part)
            for network, part in zip(self.members, parts, strict=True)
        ]
        return combined(logits, self.combine)

    def forward(self, picture: Tensor, samples: Tensor) -> Tensor:
        return self.log_odds(picture, self.embed(samples))

    def probability(self, log_odds: Tensor) -> Tensor:
        """Calibrated probability of each cell."""
        return torch.sigmoid(self.calibration[0] * log_odds + self.calibration[1])


def combined(logits: list[Tensor], combine: Combine) -> Tensor:
    """Log odds of the mean or the product of maps that are given as log odds, all `[B, m, n]`."""
    if len(logits) == 1:
        return logits[0]
    p = torch.stack([x.sigmoid() for x in logits])
    p = (p.mean(0) if combine == "mean" else p.prod(0)).clamp(1e-6, 1 - 1e-6)
    return (p / (1 - p)).log()


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
