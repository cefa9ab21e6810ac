"""Light-ASD and LR-ASD, networks that say when a face speaks, of a state-dict that a person has.

Liao et al., *A Light Weight Model for Active Speaker Detection* (CVPR 2023), and *LR-ASD* (IJCV
2025). Both see grey crops of a face and hear MFCC (`crops.py`), in layers that look across a
picture (or a spectrum) or along time; what is seen and heard then goes both ways through time.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MEAN, DEVIATION = 0.4161, 0.1688
"""Of grey faces, white being 1."""
WIDTHS = (1, 32, 64, 128)
FEATURES = WIDTHS[-1]


class Layer(nn.Module):
    """Convolution, batch norm, ReLU: of pictures `[B, C, T, h, w]`, or of a spectrum in time
    `[B, C, M, T]`; across what is there at one time, or along time."""

    def __init__(
        self,
        before: int,
        width: int,
        size: int,
        *,
        seen: bool,
        along: bool = False,
        stride: int = 1,
    ) -> None:
        super().__init__()
        half = size // 2
        self.conv: nn.Module
        self.norm: nn.Module
        if seen:
            kernel, padding = (
                ((size, 1, 1), (half, 0, 0)) if along else ((1, size, size), (0, half, half))
            )
            self.conv = nn.Conv3d(before, width, kernel, (1, stride, stride), padding, bias=False)
            self.norm = nn.BatchNorm3d(width, eps=1e-3)
        else:
            flat, edge = ((1, size), (0, half)) if along else ((size, 1), (half, 0))
            self.conv = nn.Conv2d(before, width, flat, 1, edge, bias=False)
            self.norm = nn.BatchNorm2d(width, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x)).relu()
        return out


class Twin(nn.Module):
    """Light-ASD's block: a narrow and a wide pair of layers side by side, summed and mixed."""

    def __init__(self, before: int, width: int, seen: bool, stride: int) -> None:
        super().__init__()
        self.across3 = Layer(before, width, 3, seen=seen, stride=stride)
        self.along3 = Layer(width, width, 3, seen=seen, along=True)
        self.across5 = Layer(before, width, 5, seen=seen, stride=stride)
        self.along5 = Layer(width, width, 5, seen=seen, along=True)
        self.last = Layer(width, width, 1, seen=seen)

    def forward(self, x: Tensor) -> Tensor:
        narrow, wide = self.along3(self.across3(x)), self.along5(self.across5(x))
        out: Tensor = self.last(narrow + wide)
        return out


class Chain(nn.Module):
    """LR-ASD's block: four layers in a row, the first with half the channels."""

    def __init__(self, before: int, width: int, seen: bool, stride: int) -> None:
        super().__init__()
        self.across1 = Layer(before, width // 2, 5, seen=seen, stride=stride)
        self.across2 = Layer(width // 2, width, 3, seen=seen)
        self.along1 = Layer(width, width, 5, seen=seen, along=True)
        self.along2 = Layer(width, width, 3, seen=seen, along=True)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.along2(self.along1(self.across2(self.across1(x))))
        return out


class Encoder(nn.Module):
    """Pictures `[B, 1, T, h, w]` or MFCC `[B, 1, M, 4T]` to features `[B, T, F]`."""

    def __init__(self, block: type[Twin] | type[Chain], seen: bool) -> None:
        super().__init__()
        self.seen = seen
        self.block1 = block(WIDTHS[0], WIDTHS[1], seen, 2)
        self.block2 = block(WIDTHS[1], WIDTHS[2], seen, 1)
        self.block3 = block(WIDTHS[2], WIDTHS[3], seen, 1)
        # Sound has four steps a picture, and is pooled twice along time.
        self.pool: nn.Module = (
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1))
            if seen
            else nn.MaxPool2d((1, 3), (1, 2), (0, 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.block3(self.pool(self.block2(self.pool(self.block1(x)))))
        return (x.amax((3, 4)) if self.seen else x.mean(2)).transpose(1, 2)


class Gate(nn.Module):
    """Two sorts of features `[B, T, F]` joined, each let through as far as all of them say."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(size, size, 1, bias=False)
        self.norm = nn.BatchNorm1d(size, eps=1e-3)

    def forward(self, one: Tensor, other: Tensor) -> Tensor:
        x = torch.cat((one, other), 2).transpose(1, 2)
        return (x * self.norm(self.conv(x)).sigmoid()).transpose(1, 2)


class LightASD(nn.Module):
    """Pictures `[B, T, 112, 112]` uint8, 25 a second, and MFCC `[B, 4T, 13]` float32 to scores
    `[B, T]`: by what is seen and heard, and by what is seen alone. They are the second of two
    logits, as published: over 0 is speaking, more or less."""

    title = "Light-ASD"
    source = "github.com/Junhua-Liao/Light-ASD"
    licence = "MIT, (c) 2023 Liao Junhua"
    sign = "model.GRU."
    block: type[Twin] | type[Chain] = Twin

    def __init__(self) -> None:
        super().__init__()
        self.seen, self.heard = Encoder(self.block, True), Encoder(self.block, False)
        self.speaks, self.looks = nn.Linear(FEATURES, 2), nn.Linear(FEATURES, 2)
        self.add_joint()

    def add_joint(self) -> None:
        """Adds what `joint` needs."""
        self.onward = nn.GRU(FEATURES, FEATURES, batch_first=True)
        self.back = nn.GRU(FEATURES, FEATURES, batch_first=True)

    def joint(self, heard: Tensor, seen: Tensor) -> Tensor:
        """Both, through time: onward, and what comes of it back."""
        x = nn.functional.gelu(self.onward(heard + seen)[0])
        return nn.functional.gelu(self.back(x.flip(1))[0].flip(1))

    def forward(self, pictures: Tensor, mfcc: Tensor) -> tuple[Tensor, Tensor]:
        seen = self.seen((pictures.float()[:, None] / 255 - MEAN) / DEVIATION)
        heard = self.heard(mfcc.transpose(1, 2)[:, None])
        return self.speaks(self.joint(heard, seen))[..., 1], self.looks(seen)[..., 1]


class LRASD(LightASD):
    """As Light-ASD, with other blocks and gates; onward and back side by side."""

    title = "LR-ASD"
    source = "github.com/Junhua-Liao/LR-ASD"
    licence = "MIT, (c) 2025 Liao Junhua"
    sign = "model.detector."
    block = Chain

    def add_joint(self) -> None:
        self.pair, self.join = Gate(2 * FEATURES), Gate(FEATURES)
        self.onward = nn.GRU(2 * FEATURES, FEATURES // 2, batch_first=True)
        self.back = nn.GRU(2 * FEATURES, FEATURES // 2, batch_first=True)

    def joint(self, heard: Tensor, seen: Tensor) -> Tensor:
        x = self.pair(heard, seen)
        out: Tensor = self.join(self.onward(x)[0], self.back(x.flip(1))[0].flip(1))
        return out
