"""Teaches the sound network: YAMNet says what it hears in mixes of which the parts are known, and
the network learns to hear it through noise that YAMNet was spared: in hiss, YAMNet hears water."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from avsl.engines.networks.hearing import Hearing, Patch
from avsl.train.data.workers import live_with_parent
from avsl.train.run import append_metrics
from avsl.train.teach.kept import keep, take_up
from avsl.train.teach.kinds import AUDIOSET, Kind, belongs, families, most
from avsl.train.teach.sounds import Mixer, read_recordings
from avsl.train.teach.teachers import YAMNET, YamNet, find

BATCH = 64
LR = 2e-3
WEIGHTS = {"own": 1.0, "truth": 1.0, "family": 1.0, "classes": 0.2}
"""What each loss counts; each is a sum over its classes."""
VALIDATION = 1024
CHECKPOINT_EVERY, VALIDATE_EVERY, LOG_EVERY = 100, 500, 25
LAST, METRICS = "hearing.safetensors", "hearing.jsonl"
Batch = tuple[Tensor, ...]


@dataclass(frozen=True)
class Mixes(IterableDataset[Batch]):
    """Batches of mixes with what YAMNet hears in them; each mix depends on (seed, step, place)
    alone."""

    mixer: Mixer
    kinds: tuple[Kind, ...]
    teachers: Path
    belongs: NDArray[np.float32]
    seed: int
    steps: range

    def __iter__(self) -> Iterator[Batch]:
        yamnet = YamNet(self.teachers)
        for step in self.steps:
            rows = [self._one(yamnet, (self.seed, step, i)) for i in range(BATCH)]
            yield tuple(torch.from_numpy(np.stack(part)) for part in zip(*rows, strict=True))

    def _one(self, yamnet: YamNet, seed: tuple[int, int, int]) -> tuple[NDArray[np.float32], ...]:
        samples, clean, truth = self.mixer.mix(np.random.default_rng(seed))
        truth = np.minimum(truth @ self.belongs, 1)
        heard = yamnet(clean)
        own = most(heard, tuple(kind.own for kind in self.kinds))
        return samples, own, truth, most(heard, families(self.kinds)), heard


def teach_hearing(
    prepared: Path,
    teachers: Path,
    run: Path,
    kinds: tuple[Kind, ...],
    steps: int,
    *,
    seed: int = 1,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Hearing:
    """Trains a sound network of `steps` steps into `run`, or goes on with what lies there.

    Raises:
        UserError: a teacher is missing, there are no sounds, or `run` can't be written.
    """
    find(teachers, YAMNET)
    torch.manual_seed(seed)
    network = Hearing(len(kinds), len(families(kinds)), AUDIOSET)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), LR, weight_decay=0.02)
    front = Patch()
    run.mkdir(parents=True, exist_ok=True)
    done = take_up(run / LAST, run / METRICS, network, optimizer)
    if done >= steps:
        return network.eval()
    mixers = {
        split: Mixer(read_recordings(prepared, kinds, split), len(kinds))
        for split in ("train", "validation")
    }
    within = belongs(kinds)
    held_out = Mixes(
        mixers["validation"], kinds, teachers, within, seed + 1, range(VALIDATION // BATCH)
    )
    validation = list(held_out)
    mixes = Mixes(mixers["train"], kinds, teachers, within, seed, range(done, steps))
    loader = DataLoader(
        mixes, batch_size=None, num_workers=1, prefetch_factor=4, worker_init_fn=live_with_parent
    )
    sums: dict[str, float] = {}
    for step, (samples, *targets) in enumerate(loader, done):
        for group in optimizer.param_groups:
            group["lr"] = LR * min((step + 1) / 200, 0.5 + 0.5 * math.cos(math.pi * step / steps))
        network.train()
        losses = _losses(network, front(samples), targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0.0) + float(loss.detach()) / LOG_EVERY
        progress("hearing", step + 1, steps)
        if (step + 1) % LOG_EVERY == 0:
            append_metrics(run / METRICS, {"step": step + 1, **sums})
            sums = {}
        if (step + 1) % VALIDATE_EVERY == 0 or step + 1 == steps:
            found = _validate(network, front, validation)
            append_metrics(run / METRICS, {"step": step + 1, **found})
        if (step + 1) % CHECKPOINT_EVERY == 0 or step + 1 == steps:
            keep(run / LAST, network, optimizer, step + 1)
    return network.eval()


def _losses(network: Hearing, patch: Tensor, targets: list[Tensor]) -> dict[str, Tensor]:
    names = zip(WEIGHTS, network(patch), targets, strict=True)
    return {
        name: WEIGHTS[name]
        * F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
        / len(patch)
        for name, logits, target in names
    }


@torch.no_grad()
def _validate(network: Hearing, front: Patch, batches: list[Batch]) -> dict[str, float]:
    """Losses on held-out mixes, and how far the log odds of what YAMNet is fairly sure of (0.1 and
    more) lie from its own."""
    network.eval()
    found: dict[str, float] = {}
    off, count = 0.0, 0
    for samples, *targets in batches:
        patch = front(samples)
        for name, loss in _losses(network, patch, targets).items():
            found[f"val_{name}"] = found.get(f"val_{name}", 0.0) + float(loss) / len(batches)
        logits, own = network(patch)[0], targets[0]
        sure = own > 0.1
        off += float((logits[sure] - own[sure].logit(1e-3)).abs().sum())
        count += int(sure.sum())
    return found | {"val_off": off / max(count, 1)}
