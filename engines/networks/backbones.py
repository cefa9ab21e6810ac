"""The encoders at the paper's size: a ResNet-18 for pictures, three networks for sound.

A sound encoder's `front` turns samples `[B, S]` (16 kHz, float32) into what its `forward` takes;
that gives embeddings `[B, E]`. Embeddings and features leave here without L2 normalisation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avsl.engines.errors import UserError
from avsl.engines.networks.parts import Front, SoundEncoder

RATE = 16_000
"""Samples per second of what the fronts take."""

HIDDEN = 512
"""Width between the two linear layers that close a sound encoder, as in DMT (arXiv 2403.03145)."""


class Block(nn.Module):
    """Residual block of ResNet-18 (He et al., arXiv 1512.03385): `[B, inputs, h, w]` to
    `[B, outputs, h / stride, w / stride]`."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )
        self.shortcut = nn.Sequential()
        if inputs != outputs:
            self.shortcut.append(nn.Conv2d(inputs, outputs, 1, stride, bias=False))
            self.shortcut.append(nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.path(x))


class ResNet18(nn.Module):
    """ResNet-18 without its pooling and classifier: `[B, inputs, h, w]` to `[B, 512, h / 32, w /
    32]`, rounded up."""

    def __init__(self, inputs: int = 3) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(inputs, 64, 7, 2, 3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, 1),
        )
        self.layer1 = nn.Sequential(Block(64, 64, 1), Block(64, 64, 1))
        self.layer2 = nn.Sequential(Block(64, 128, 2), Block(128, 128, 1))
        self.layer3 = nn.Sequential(Block(128, 256, 2), Block(256, 256, 1))
        self.layer4 = nn.Sequential(Block(256, 512, 2), Block(512, 512, 1))
        self.apply(_he)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.path(x)))
        return cast(Tensor, self.layer4(self.layer3(x)))


def load_imagenet(body: ResNet18) -> None:
    """Loads `imagenet_weights` into `body`, which must take three channels."""
    body.load_state_dict(from_torchvision(imagenet_weights()))


def imagenet_weights() -> dict[str, Tensor]:
    """What torchvision's ResNet-18 learnt on ImageNet (45 MB, downloaded once).

    Raises:
        UserError: torchvision is missing, or the weights can't be had.
    """
    try:
        from torchvision.models import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
            ResNet18_Weights,
        )
    except (ImportError, RuntimeError) as error:  # RuntimeError: made for another torch
        raise UserError(
            f"ImageNet weights need torchvision, made for this torch: {_line(error)}"
        ) from error
    try:
        weights = ResNet18_Weights.IMAGENET1K_V1
        state: dict[str, Tensor] = weights.get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: the file's hash is wrong
        raise UserError(f"ImageNet weights can't be had: {_line(error)}") from error
    return state


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


_OURS = {
    "conv1": "path.0",
    "bn1": "path.1",
    "conv2": "path.3",
    "bn2": "path.4",
    "downsample": "shortcut",
}


def from_torchvision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State of torchvision's `resnet18` under the names of `ResNet18`, without the classifier."""
    return {
        ".".join(_OURS.get(part, part) for part in name.split(".")): tensor
        for name, tensor in state.items()
        if not name.startswith("fc.")
    }


class PictureResNet(nn.Module):
    """Picture `[B, 3, h, w]` in [-1, 1] to features `[B, E, h / 32, w / 32]`.

    EZ-VSL's encoder (Mo & Morgado, arXiv 2203.09324) and a batch norm at its end, here and in the
    sound encoders: without it, in trials at small size, all embeddings became one.
    """

    def __init__(self, embedding: int) -> None:
        super().__init__()
        # ImageNet's mean and standard deviation, of values in [0, 1], as torchvision gives them.
        mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
        deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        self.scale = nn.Buffer(0.5 / deviation, persistent=False)
        self.shift = nn.Buffer((0.5 - mean) / deviation, persistent=False)
        self.body = ResNet18()
        self.head = nn.Sequential(
            nn.Conv2d(512, embedding, 1, bias=False), nn.BatchNorm2d(embedding)
        )

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.body(x * self.scale + self.shift)))


class VGGish(SoundEncoder):
    """The convolutions of VGGish (Hershey et al., arXiv 1609.09430; AudioSet's public release):
    log-mel spectrogram `[B, 1, T, 64]` to an embedding `[B, E]`; T from 16 (0.175 s).

    VGGish's own three linear layers (68 M parameters, for 96 x 64 only) are left out: the largest
    value over what remains of time and frequency goes to two of our own.
    """

    def __init__(self, embedding: int) -> None:
        super().__init__()
        self.front = LogMel64()
        self.body = nn.Sequential()
        channels = 1
        for stage in ((64,), (128,), (256, 256), (512, 512)):
            for outputs in stage:
                self.body.append(nn.Conv2d(channels, outputs, 3, padding=1))
                self.body.append(nn.ReLU(inplace=True))
                channels = outputs
            self.body.append(nn.MaxPool2d(2))
        self.head = _head(channels, embedding)
        self.apply(_he)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.body(x).amax((2, 3))))


class LogMel64(Front):
    """VGGish's log-mel spectrogram: samples `[B, S]` to `[B, 1, T, 64]`, T = (S - 400) / 160 + 1.

    log(m + 0.01) of the magnitudes in 64 bands from 125 to 7500 Hz; periodic Hann windows of 25 ms
    every 10 ms, padded to 512 (mel_features.py and vggish_params.py of AudioSet's release).
    """

    def __init__(self) -> None:
        super().__init__()
        hann = torch.hann_window(400, dtype=torch.float64)
        self.basis = nn.Buffer(_dft(hann, 512).float(), persistent=False)
        self.mel = nn.Buffer(_mel_bands(64, 125, 7500, 512)[..., None], persistent=False)
        # As the convolution's bias: TensorRT for RTX 1.7.1 makes one of a sum with a single number,
        # and can't build it.
        self.offset = nn.Buffer(torch.full((64,), 0.01), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        real, imaginary = F.conv1d(samples[:, None], self.basis, stride=160).chunk(2, 1)
        magnitude = (real.square() + imaginary.square()).sqrt()
        return F.conv1d(magnitude, self.mel, self.offset).log().transpose(1, 2)[:, None]


def _mel_bands(bands: int, low: float, high: float, n_fft: int) -> Tensor:
    """Triangles, even in both place and slope on the mel scale, 1127 ln(1 + f / 700);
    `[bands, n_fft / 2 + 1]`."""
    ends = torch.tensor([low, high], dtype=torch.float64)
    f = torch.arange(n_fft // 2 + 1, dtype=torch.float64) * RATE / n_fft
    start, end = (1127 * (1 + ends / 700).log()).tolist()
    mel = 1127 * (1 + f / 700).log()
    edges = torch.linspace(start, end, bands + 2, dtype=torch.float64)[:, None]
    up = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    down = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    return torch.minimum(up, down).clamp_min(0).float()


class SoundNet(SoundEncoder):
    """The convolutions of SoundNet (Aytar et al., arXiv 1610.09001) but its eighth, which holds the
    classifiers: sound `[B, 1, 1, N]` to an embedding `[B, E]`; N from 4574 (0.21 s at 22.05 kHz),
    below which nothing is left for the last pooling.

    Of time, the largest value is taken.
    """

    def __init__(self, embedding: int) -> None:
        super().__init__()
        self.front = Resample()
        self.body = nn.Sequential()
        channels = 1
        for outputs, kernel, pool in (
            (16, 64, 8),
            (32, 32, 8),
            (64, 16, 1),
            (128, 8, 1),
            (256, 4, 4),
            (512, 4, 1),
            (1024, 4, 1),
        ):
            # Two dimensions for one: `fold_batch_norm` and TensorRT know these best. Time is the
            # last: along the other, OpenVINO takes ten times as long for the first of these.
            self.body.append(
                nn.Conv2d(channels, outputs, (1, kernel), (1, 2), (0, kernel // 2), bias=False)
            )
            self.body.append(nn.BatchNorm2d(outputs))
            self.body.append(nn.ReLU(inplace=True))
            if pool > 1:
                self.body.append(nn.MaxPool2d((1, pool)))
            channels = outputs
        self.head = _head(channels, embedding)
        self.apply(_he)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.body(x).amax((2, 3))))


class Resample(Front):
    """16 kHz to the 22.05 kHz of SoundNet, and to its range of +-256: samples `[B, S]` to
    `[B, 1, 1, 441 / 320 S]`; a begun stretch of 320 samples is filled with silence.

    Of each 320 samples 441 are made, each the sum of its neighbours under a sinc with a Hann window
    of 16 zero crossings to each side (J. O. Smith, Digital Audio Resampling), which falls to half
    at 7.6 kHz.
    """

    def __init__(self) -> None:
        super().__init__()
        crossings, cutoff = 16, 0.95
        self.reach = math.ceil(crossings / cutoff)
        at = torch.arange(441, dtype=torch.float64)[:, None] * 320 / 441
        t = cutoff * (torch.arange(-self.reach, 320 + self.reach, dtype=torch.float64) - at)
        hann = 0.5 + 0.5 * (math.pi * t / crossings).clamp(-math.pi, math.pi).cos()
        kernels = 256 * cutoff * torch.sinc(t) * hann
        self.kernels = nn.Buffer(kernels[:, None].float(), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        padded = F.pad(samples[:, None], (self.reach, self.reach + -samples.shape[1] % 320))
        made = F.conv1d(padded, self.kernels, stride=320)  # [B, 441, S / 320]
        return made.transpose(1, 2).flatten(1)[:, None, None]


class SoundResNet(SoundEncoder):
    """EZ-VSL's sound encoder (Mo & Morgado, arXiv 2203.09324), its one linear layer made two:
    log spectrogram `[B, 1, 257, T]` to an embedding `[B, E]`."""

    def __init__(self, embedding: int) -> None:
        super().__init__()
        self.front = LogSpectrogram()
        self.body = ResNet18(inputs=1)
        self.head = _head(512, embedding)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.head(self.body(x).amax((2, 3))))


class LogSpectrogram(Front):
    """log(p / 1e-7 + 1) / 12 of the power density p: samples `[B, S]` to `[B, 1, 257, T]`,
    T = (S - 512) / 238 + 1.

    p is what `scipy.signal.spectrogram(x, 16000, ("tukey", 0.25), 512, 274)` gives, as in LVS,
    EZ-VSL, SLAVC and FNAC: a periodic Tukey window w with a quarter in its flanks, each stretch's
    mean taken out, |DFT|^2 / (rate * sum w^2), doubled but for 0 Hz and the Nyquist frequency.

    Theirs is log(p + 1e-7) / 12, which is ours less 1.343. With silence at 0 half precision errs a
    fifth as much: batch norm takes an offset out, but not what rounding has lost to it.
    """

    def __init__(self) -> None:
        super().__init__()
        n = torch.arange(512, dtype=torch.float64)
        flank = (torch.minimum(n, 512 - n) / 64).clamp_max(1)
        tukey = 0.5 - 0.5 * (math.pi * flank).cos()
        twice = torch.full((257,), 2.0, dtype=torch.float64)
        twice[[0, -1]] = 1
        scale = (twice / (RATE * tukey.square().sum())).sqrt()
        basis = _dft(tukey, 512) * scale.repeat(2)[:, None, None]
        # sum b (x - mean x) = sum (b - mean b) x: the mean is taken out in the kernels.
        basis -= basis.mean(2, keepdim=True)
        self.basis = nn.Buffer(basis.float(), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        real, imaginary = F.conv1d(samples[:, None], self.basis, stride=238).chunk(2, 1)
        return ((1e7 * (real.square() + imaginary.square()) + 1).log() / 12)[:, None]


def _dft(window: Tensor, n_fft: int) -> Tensor:
    """Kernels of a windowed DFT, the n_fft / 2 + 1 cosines before the sines;
    `[n_fft + 2, 1, len(window)]`, float64."""
    t = torch.arange(len(window), dtype=torch.float64)
    f = torch.arange(n_fft // 2 + 1, dtype=torch.float64)[:, None]
    turn = 2 * math.pi * f * t / n_fft
    return (torch.cat([turn.cos(), turn.sin()]) * window)[:, None]


def _head(inputs: int, embedding: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, HIDDEN),
        nn.ReLU(inplace=True),
        nn.Linear(HIDDEN, embedding),
        nn.BatchNorm1d(embedding),
    )


def _he(module: nn.Module) -> None:
    """Draws a convolution's weights as He et al. (arXiv 1502.01852): torch's own draw would lose
    the signal on its way through VGGish, which has no batch norm."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
