"""A network is two encoders and the cosine between them: training fits it, export freezes it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from avsl.engines.networks.backbones import PictureResNet, SoundNet, SoundResNet, VGGish
from avsl.engines.networks.parts import SoundEncoder, unit
from avsl.engines.networks.small import LogMelEncoder, PictureEncoder, WaveEncoder

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
        return PictureResNet(spec.embedding)
    return PictureEncoder(spec.width, spec.embedding, 3 if spec.picture == "medium" else 2)


def _sound_encoder(spec: NetworkSpec) -> SoundEncoder:
    if spec.sound == "log-mel":
        return LogMelEncoder(spec.rate, spec.width, spec.embedding)
    if spec.sound == "wave":
        return WaveEncoder(spec.width, spec.embedding)
    backbones: dict[str, type[VGGish | SoundNet | SoundResNet]] = {
        "vggish": VGGish,
        "soundnet": SoundNet,
        "resnet18": SoundResNet,
    }
    return backbones[spec.sound](spec.embedding)


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
