"""What is seen and where, by name: a picture to a probability for each kind in each cell.

The trunk is EfficientNet-Lite0 (Liu 2020; Tan & Le 2019), whose thousand classes of ImageNet say
what things are; kinds are sums over its classes. What it has no class for, as heads and bodies of
people, and what is too small for its cells, small heads find at half the stride.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from avsl.engines.networks.kinds import joined
from avsl.engines.networks.parts import conv

STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Repeats, kernel, stride of the first, expansion and width of each of Lite0's stages."""
FINE = 5
"""After so many stages the stride is 16."""
NEVER = 20.0
"""Log odds against what can't be."""
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Same(nn.Conv2d):
    """A convolution padded as TensorFlow's "same": at stride 2, on even sizes, one row and column
    less at the top and left than at the bottom and right."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        if stride == 2:
            self.padding = (0, 0)

    def forward(self, x: Tensor) -> Tensor:
        if self.stride[0] == 2:
            k = self.kernel_size[0]
            x = F.pad(x, ((k - 2) // 2, k // 2, (k - 2) // 2, k // 2))
        return super().forward(x)


def _same(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True
) -> nn.Sequential:
    norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01)
    parts: list[nn.Module] = [Same(inputs, outputs, kernel, stride, groups), norm]
    return nn.Sequential(*parts, *([nn.ReLU6(inplace=True)] if act else []))


class Inverted(nn.Module):
    """An inverted residual: out to `expansion` times the width, depthwise, and back."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        inside = inputs * expansion
        out = [_same(inputs, inside, 1)] if expansion > 1 else []
        deep = _same(inside, inside, kernel, stride, inside)
        self.layers = nn.Sequential(*out, deep, _same(inside, outputs, 1, act=False))
        self.skips = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        out = self.layers(x)
        return cast(Tensor, x + out if self.skips else out)


class Lite0(nn.Module):
    """EfficientNet-Lite0 without its pooling: pictures `[B, 3, h, w]`, normalised, to features at
    stride 16 `[B, 112, h/16, w/16]` and at stride 32, and those to logits of ImageNet's classes."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _same(3, 32, 3, 2)
        stages, width = [], 32
        for repeats, kernel, stride, expansion, outputs in STAGES:
            blocks = []
            for i in range(repeats):
                blocks.append(Inverted(width, outputs, kernel, stride if i == 0 else 1, expansion))
                width = outputs
            stages.append(nn.Sequential(*blocks))
        self.fine = nn.Sequential(*stages[:FINE])
        self.coarse = nn.Sequential(*stages[FINE:])
        self.top = _same(320, 1280, 1)
        self.classes = nn.Conv2d(1280, 1000, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Features at both strides, the second `[B, 320, h/32, w/32]`."""
        fine = self.fine(self.stem(x))
        return fine, self.coarse(fine)

    def logits(self, coarse: Tensor) -> Tensor:
        """Of features at stride 32, the logits of ImageNet's classes as kinds are read off them:
        averaged over 3x3 cells."""
        logits = self.classes(self.top(coarse)).float()
        return F.avg_pool2d(logits, 3, 1, 1, count_include_pad=False)


class FineHead(nn.Module):
    """Lite0's features at both strides to logits `[B, outputs, h/16, w/16]`."""

    def __init__(self, outputs: int, width: int) -> None:
        super().__init__()
        self.fine = nn.Sequential(nn.Conv2d(112, width, 1, bias=False), nn.BatchNorm2d(width))
        self.coarse = nn.Sequential(nn.Conv2d(320, width, 1, bias=False), nn.BatchNorm2d(width))
        self.head = nn.Sequential(
            nn.ReLU(inplace=True),
            conv(width, width),
            conv(width, width),
            nn.Conv2d(width, outputs, 1),
        )

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        up = F.interpolate(self.coarse(coarse), scale_factor=2.0, mode="nearest")
        return cast(Tensor, self.head(self.fine(fine) + up))


class Seeing(nn.Module):
    """Pictures `[B, h, w, 3]` uint8 and what is heard `[B, K]` to the map `[B, m, n]` and the kind
    that carries each cell most, int32 `[B, m, n]` (see `joined`).

    seen_k = sigmoid(gain_k z_k + bias_k), where z_k is the largest of what three say: the log odds
    of a kind's share of the softmax over ImageNet's classes in a cell, their logits averaged over
    3x3 cells; the logit of the head for people; that of the head for other things.
    """

    members: Tensor
    people_of: Tensor
    things_of: Tensor
    not_members: Tensor
    not_people_of: Tensor
    not_things_of: Tensor
    named: Tensor

    def __init__(
        self, members: Tensor, people_of: Tensor, things_of: Tensor, named: Tensor
    ) -> None:
        """
        Args:
            members: `[K, 1000]`, 1 where a class of ImageNet shows a kind.
            people_of: `[K, 2]`, what heads and bodies count for a kind, 1 together.
            things_of: `[K, T]`, 1 where an output of the head for things is a kind.
            named: `[K]`, what a kind counts where cells get their names: families less than what
                belongs to them.
        """
        super().__init__()
        self.trunk, self.people = Lite0(), FineHead(2, 48)
        self.things = FineHead(things_of.shape[1], 96)
        for name, of in (("members", members), ("people_of", people_of), ("things_of", things_of)):
            self.register_buffer(name, of)
            none = NEVER * (of.sum(1) == 0).float()[:, None, None]
            self.register_buffer(f"not_{name}", none, persistent=False)
        self.register_buffer("named", named)
        self.gain = nn.Parameter(torch.ones(len(members)))
        self.bias = nn.Parameter(torch.zeros(len(members)))

    def by_class(self, coarse: Tensor) -> Tensor:
        """What ImageNet's classes say, `[B, K, h/16, w/16]`, of features at stride 32."""
        classes = self.trunk.logits(coarse).softmax(1)
        share = F.conv2d(classes, self.members[:, :, None, None]).clamp(1e-4, 1 - 1e-4)
        z = F.interpolate((share / (1 - share)).log(), scale_factor=2.0, mode="bilinear")
        return z - self.not_members

    def evidence(self, x: Tensor) -> Tensor:
        """z `[B, K, h/16, w/16]` of normalised pictures; of kinds that can't be seen, -`NEVER` and
        less."""
        fine, coarse = self.trunk(x)
        z = self.by_class(coarse)
        for head, of, none in (
            (self.people, self.people_of, self.not_people_of),
            (self.things, self.things_of, self.not_things_of),
        ):
            found = F.conv2d(head(fine, coarse).float(), of[:, :, None, None])
            z = torch.maximum(z, found - none)
        return z

    def forward(self, picture: Tensor, heard: Tensor) -> tuple[Tensor, Tensor]:
        """Map and kinds."""
        x = normalised(picture).to(self.trunk.classes.weight.dtype)
        gain, bias = self.gain[:, None, None], self.bias[:, None, None]
        seen = (gain * self.evidence(x) + bias).sigmoid()
        return joined(seen, heard, self.named)


def normalised(picture: Tensor) -> Tensor:
    """Pictures `[B, h, w, 3]` uint8 to what Lite0 takes, `[B, 3, h, w]`."""
    mean, std = (torch.tensor(v, device=picture.device) * 255 for v in (MEAN, STD))
    return ((picture.float() - mean) / std).permute(0, 3, 1, 2)


def load_lite0(network: Lite0, weights: dict[str, Tensor]) -> None:
    """Takes over the published weights, which lie in the same order under other names.

    Raises:
        ValueError: they are another network's.
    """
    mine = network.state_dict()
    if [w.numel() for w in weights.values()] != [w.numel() for w in mine.values()]:
        raise ValueError("not the weights of EfficientNet-Lite0")
    pairs = zip(mine.items(), weights.values(), strict=True)
    network.load_state_dict({name: w.reshape(old.shape) for (name, old), w in pairs})
