"""How far a training has come: its networks' maps on the clips set aside."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from avsl.engines.networks import Network, combined
from avsl.train.data.material import Material
from avsl.train.data.pack import Pack
from avsl.train.data.views import pictures_to_input
from avsl.train.scoring.metrics import truth_masks, upsample

THRESHOLDS = np.arange(0.05, 1, 0.05)
SIDE = 112
"""Half the side that scores are measured on: this is done again and again."""


@torch.no_grad()
def logits_on(
    networks: list[Network],
    pack: Pack,
    ids: NDArray[np.int64],
    sounds: NDArray[np.int64] | None = None,
    device: torch.device | None = None,
) -> list[torch.Tensor]:
    """Each network's log odds `[N, m, n]` of clips of a pack, with their own sounds or those of
    other clips."""
    sounds = ids if sounds is None else sounds
    window = networks[0].spec.window
    out: list[list[torch.Tensor]] = [[] for _ in networks]
    for at in range(0, len(ids), 64):
        pictures = torch.from_numpy(pack.pictures[ids[at : at + 64]]).to(device)
        heard = np.stack([pack.window(int(i), window) for i in sounds[at : at + 64]])
        samples = torch.from_numpy(heard).to(device)
        for network, rows in zip(networks, out, strict=True):
            rows.append(network(pictures_to_input(pictures), samples).cpu())
    return [torch.cat(rows) for rows in out]


def validate(networks: list[Network], material: Material, device: torch.device) -> dict[str, float]:
    """cIoU (success at 0.5, in percent) of A, B and their mean on the validation clips in which
    something sounds, at the threshold that is best for each."""
    pack, ids = material.validation, material.validation_ids
    sounding = ids[~np.isnan(pack.boxes[ids, 0, 0])]
    if not len(sounding):
        return {"mean": 0.0}
    modes = [network.training for network in networks]
    for network in networks:
        network.eval()
    logits = logits_on(networks, pack, sounding, device=device)
    for network, mode in zip(networks, modes, strict=True):
        network.train(mode)
    truth = truth_masks(pack.boxes[sounding], SIDE)
    maps = {"A": logits[0], "B": logits[-1], "mean": combined(logits, "mean")}
    return {
        name: round(100 * best_threshold(x.sigmoid().numpy(), truth)[1], 2)
        for name, x in maps.items()
    }


def best_threshold(maps: NDArray[np.float32], truth: NDArray[np.float32]) -> tuple[float, float]:
    """The absolute threshold at which most maps `[N, m, n]` have a cIoU of 0.5 with their truth
    `[N, SIDE, SIDE]`, and that share."""
    large, inside = upsample(maps, SIDE), truth > 0
    area = np.count_nonzero(inside, (1, 2))
    shares = []
    for t in THRESHOLDS:
        predicted = large >= t
        hit = np.count_nonzero(predicted & inside, (1, 2))
        union = area + np.count_nonzero(predicted, (1, 2)) - hit
        shares.append(float((2 * hit >= np.maximum(union, 1)).mean()))
    best = int(np.argmax(shares))
    return float(THRESHOLDS[best]), shares[best]
