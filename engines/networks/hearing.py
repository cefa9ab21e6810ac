"""What is heard, by name: a second of sound to a probability for each kind."""

from __future__ import annotations

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avsl.engines.networks.parts import Block, Front, conv

RATE = 16_000
TARGET_DB, LOUDER_DB = -22.0, 15.0
"""A window is brought to this level (RMS, dBFS) before it is heard, but made louder by no more than
this: in hiss at the level of speech, vehicles are heard."""


class Patch(Front):
    """YAMNet's log-mel patch (Hershey et al. 2017) of a window's last 15 600 samples: `[B, S]` to
    `[B, 1, 96, 64]`. Frames of 25 ms every 10 ms, Hann, magnitudes, 64 triangles from 125 to 7500
    Hz, ln(x + 0.001). The DFT is a convolution: TensorRT's STFT is young, and ONNX Runtime's slow.
    """

    def __init__(self) -> None:
        super().__init__()
        t = torch.arange(400, dtype=torch.float64)
        f = torch.arange(257, dtype=torch.float64)[:, None]
        hann = 0.5 - 0.5 * torch.cos(2 * math.pi * t / 400)
        turn = 2 * math.pi * f * t / 512
        self.basis = nn.Buffer(
            torch.cat([turn.cos() * hann, turn.sin() * hann])[:, None].float(), persistent=False
        )
        self.hann = nn.Buffer(hann.float(), persistent=False)
        mel = 1127 * torch.log1p(f[:, 0] * RATE / 512 / 700)
        low, high = (1127 * math.log1p(edge / 700) for edge in (125, 7500))
        edges = torch.linspace(low, high, 66, dtype=torch.float64)
        up = (mel - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
        down = (edges[2:, None] - mel) / (edges[2:] - edges[1:-1])[:, None]
        bands = torch.minimum(up, down).clamp_min(0)
        bands[:, 0] = 0
        self.mel = nn.Buffer(bands.float(), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        x = samples[:, -15_600:]
        power = x.square().mean(1, keepdim=True).clamp_min(1e-10)
        gain = 10 ** (TARGET_DB / 20) / power.sqrt()
        x = x * gain.clamp_max(10 ** (LOUDER_DB / 20))
        if torch.compiler.is_exporting():
            wave = F.conv1d(x[:, None], self.basis, stride=160)
            real, imaginary = wave.chunk(2, dim=1)
            size = (real.square() + imaginary.square()).clamp_min(1e-12).sqrt()
            bands = F.conv1d(size, self.mel[..., None]).transpose(1, 2)
        else:  # the same numbers, in a fifth of the time where torch runs
            frames = x.unfold(1, 400, 160)[:, :96] * self.hann
            bands = torch.fft.rfft(frames, 512).abs() @ self.mel.T
        return (bands[:, None, :96] + 0.001).log()


class Hearing(nn.Module):
    """Log-mel patch `[B, 1, 96, 64]` to logits: of each kind by its own sounds and by the truth of
    mixes, of each family (see `avsl.train.teach.kinds`), and of all classes of the teacher, which
    help in training and are left out of the graph."""

    def __init__(self, kinds: int, families: int, classes: int, width: int = 24) -> None:
        super().__init__()
        w = width
        self.body = nn.Sequential(
            conv(1, w, 2),
            conv(w, 2 * w, 2),
            Block(2 * w),
            conv(2 * w, 4 * w, 2),
            Block(4 * w),
            conv(4 * w, 7 * w, 2),
            Block(7 * w),
        )
        self.sizes = kinds, kinds, families, classes
        self.head = nn.Linear(2 * 7 * w, sum(self.sizes))

    def forward(self, patch: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Own sounds `[B, K]`, truth `[B, K]`, families `[B, P]`, classes `[B, C]`."""
        x = self.body((patch + 4) / 3)
        x = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1)
        own, truth, family, classes = self.head(x).split(self.sizes, 1)
        return own, truth, family, cast(Tensor, classes)


class Hears(nn.Module):
    """Samples `[B, S]` to how likely each kind is heard `[B, K]`: heard_k = sigmoid(own_k's logit,
    the truth's and its family's, weighed, and a bias), calibrated beside what is seen."""

    family_of: Tensor

    def __init__(self, network: Hearing, family_of: Tensor) -> None:
        """
        Args:
            family_of: `[K, P]`, 1 for the family that a kind belongs to; none for those without.
        """
        super().__init__()
        self.front, self.network = Patch(), network
        self.register_buffer("family_of", family_of)
        self.weights = nn.Parameter(torch.zeros(3))
        self.bias = nn.Parameter(torch.zeros(len(family_of)))

    def evidence(self, samples: Tensor) -> Tensor:
        """Logits `[B, K, 3]` of own sounds, truth and family; a kind without family is its own."""
        patch = self.front(samples).to(self.network.head.weight.dtype)
        own, truth, family, _ = (x.float() for x in self.network(patch))
        alone = 1 - self.family_of.sum(1)
        return torch.stack([own, truth, F.linear(family, self.family_of) + alone * own], 2)

    def forward(self, samples: Tensor) -> Tensor:
        """How likely each kind is heard."""
        return (self.evidence(samples) @ self.weights + self.bias).sigmoid()
