"""Heard and seen, calibrated together: a score of 0.2 alone means little; given that the thing is
in view, it tells much."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avsl.engines.localization import level_db
from avsl.engines.networks.hearing import Hears
from avsl.engines.networks.kinds import joined
from avsl.engines.networks.seeing import Seeing, normalised
from avsl.train.teach.kinds import Kind
from avsl.train.teach.moments import SLACK, Moment
from avsl.train.teach.see import BIAS, GAIN

WEIGHTS, HEARD = (0.2, 0.2, 0.34), 1.1
"""Where the fit begins, and what draws it: weights of what is heard (own sounds, truth of mixes,
family) and its bias, which fitted the teachers on composed scenes."""
SEEN = ((GAIN, BIAS), (GAIN, BIAS), (1.0, 0.0))
"""Gain and bias of what is seen: of classes of ImageNet, of the head for things, of that for
people."""
PULL, ALONE, FIRM, LOOSE = 0.15, 0.5, 3.0, 0.2
"""What it costs, squared, to move a group's bias, a kind's own, a weight of a score and any other
number."""
QUIET_DB = -55.0
"""Moments with less sound are the gate's."""


@dataclass(frozen=True)
class Evidence:
    """What the networks make of a moment: logits `[K, 3]` of what is heard, z `[K, m, n]` of what
    is seen, and which cells lie in what sounds."""

    heard: Tensor
    z: Tensor
    inside: Tensor
    alone: bool
    weight: float


class Joint(nn.Module):
    """The numbers to fit: weights of scores, gains, biases of each group of kinds and each kind."""

    def __init__(self, kinds: tuple[Kind, ...], sees: Seeing) -> None:
        super().__init__()
        groups = sorted({kind.group for kind in kinds})
        self.group = torch.tensor([groups.index(kind.group) for kind in kinds])
        thing, person = (of.sum(1) > 0 for of in (sees.things_of, sees.people_of))
        self.way = torch.where(person, 2, thing.long())
        self.weights = nn.Parameter(torch.tensor(WEIGHTS))
        self.heard = nn.Parameter(torch.tensor(HEARD))
        self.seen = nn.Parameter(torch.tensor(SEEN))
        self.groups = nn.Parameter(torch.zeros(2, len(groups)))
        self.kinds = nn.Parameter(torch.zeros(2, len(kinds)))

    def numbers(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights `[3]` and biases `[K]` of hearing, gains and biases `[K]` of seeing."""
        heard, seen = self.groups[:, self.group] + self.kinds
        gain, bias = self.seen[self.way].T
        return self.weights, self.heard + heard, gain, bias + seen

    def forward(self, evidence: Evidence) -> Tensor:
        """The map `[m, n]` of a moment."""
        weights, bias, gain, unseen = self.numbers()
        heard = (evidence.heard @ weights + bias).sigmoid()
        seen = (gain[:, None, None] * evidence.z + unseen[:, None, None]).sigmoid()
        return joined(seen[None], heard[None])[0][0]

    def pull(self) -> Tensor:
        """What the numbers cost."""
        return (
            PULL * self.groups.square().sum()
            + ALONE * self.kinds.square().sum()
            + FIRM * (self.weights - torch.tensor(WEIGHTS)).square().sum()
            + LOOSE * (self.heard - HEARD).square()
            + LOOSE * (self.seen - torch.tensor(SEEN)).square().sum()
        )


@torch.no_grad()
def gather(moments: list[Moment], hears: Hears, sees: Seeing) -> list[Evidence]:
    """What the networks make of moments that have sound; a clip's count together."""
    counts = Counter(moment.clip for moment in moments)
    found = []
    for moment in moments:
        if level_db(moment.samples) < QUIET_DB:
            continue
        heard = hears.evidence(torch.from_numpy(moment.samples)[None])[0]
        picture = torch.from_numpy(np.ascontiguousarray(moment.picture))[None]
        z = sees.evidence(normalised(picture))[0]
        inside = torch.from_numpy(inside_of(moment.boxes, (z.shape[1], z.shape[2])))
        weight = counts[moment.clip] ** -0.5
        found.append(Evidence(heard, z, inside, moment.alone, weight))
    return found


def inside_of(boxes: NDArray[np.float32], cells: tuple[int, int]) -> NDArray[np.bool_]:
    """Cells `[m, n]` whose middle lies in a box, or near enough."""
    m, n = cells
    y, x = (np.arange(m) + 0.5)[:, None] / m, (np.arange(n) + 0.5)[None] / n
    inside = np.zeros((m, n), bool)
    for x0, y0, x1, y1 in boxes:
        inside |= (x0 - SLACK <= x) & (x <= x1 + SLACK) & (y0 - SLACK <= y) & (y <= y1 + SLACK)
    return inside


def calibrate_kinds(
    evidence: list[Evidence], kinds: tuple[Kind, ...], hears: Hears, sees: Seeing
) -> float:
    """Fits the numbers of `hears` and `sees`, so that the highest cell in what sounds is high and
    the highest elsewhere low, and sets them; returns the loss a moment."""
    joint = Joint(kinds, sees)
    optimizer = torch.optim.LBFGS(joint.parameters(), max_iter=60, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = joint.pull()
        for one in evidence:
            map_ = joint(one).clamp(1e-4, 1 - 1e-4)
            if one.inside.any():
                loss = loss - one.weight * map_[one.inside].max().log()
            if one.alone and not one.inside.all():
                loss = loss - one.weight * (1 - map_[~one.inside].max()).log()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    last = optimizer.step(closure).item()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        targets = hears.weights, hears.bias, sees.gain, sees.bias
        for target, value in zip(targets, joint.numbers(), strict=True):
            target.copy_(value)
    return float(last) / max(1, len(evidence))
