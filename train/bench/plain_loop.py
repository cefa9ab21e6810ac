"""DMT's step as it is against a plain loop over the same four networks.

The plain loop is eager, in single precision, each network called for itself on the labelled and on
the unlabelled clips, teachers averaged tensor by tensor. Both in one run, taking turns, on the same
batches of scenes; and the share of a step that is spent waiting for its batch.
"""

from __future__ import annotations

import copy
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from avsl.demos.scenes import BENCH
from avsl.engines.networks import Network
from avsl.train.data.batches import Clips, Step, Steps, loader
from avsl.train.data.material import Material, PackSource, Part, spec_of
from avsl.train.data.pack import pack_scenes
from avsl.train.fit import Stage, Trainer
from avsl.train.methods.dmt import pseudo_labels
from avsl.train.methods.method import named
from avsl.train.methods.objectives import contrastive_loss, pixel_loss
from avsl.train.recipe import Recipe

SCENES = 300
ROUNDS = 5
STEPS = 6
"""Steps a round, each for ours and for the plain loop."""


class PlainLoop:
    """DMT's unbiased step as one would first write it."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.students = [Network(spec_of(recipe, k)) for k in range(len(recipe.sounds))]
        self.teachers = copy.deepcopy(self.students)
        parameters = [p for network in self.students for p in network.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=recipe.lr, foreach=False)

    def learn(self, step: Step) -> None:
        recipe = self.recipe
        few, many = step.labelled[0], step.unlabelled
        assert many is not None
        with torch.no_grad():
            maps = [t.eval()(many.weak_pictures, many.samples).sigmoid() for t in self.teachers]
        labels = pseudo_labels(maps, recipe)
        loss = torch.zeros(())
        for student, target in zip(self.students, labels.targets, strict=True):
            carried, seen = many.weak.carry(target.float(), many.strong)
            seen = seen * labels.accepted[:, None, None]
            loss = loss + self._loss(student, few, few.target, torch.ones_like(few.target))
            loss = loss + self._loss(student, many, carried * seen, seen)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        with torch.no_grad():
            for teacher, student in zip(self.teachers, self.students, strict=True):
                for mean, value in zip(
                    teacher.state_dict().values(), student.state_dict().values(), strict=True
                ):
                    if mean.is_floating_point():
                        mean.mul_(recipe.ema).add_(value, alpha=1 - recipe.ema)

    def _loss(self, student: Network, clips: Clips, target: Tensor, seen: Tensor) -> Tensor:
        recipe = self.recipe
        features = student.features(clips.strong_pictures)
        embedding = student.embed(clips.strong_samples)
        logits = student.logits(features, embedding)
        pixels = pixel_loss(logits, target, seen, recipe.positive_weight, recipe.peak_weight)
        similarity = named(recipe.base).similarities(features, embedding, recipe)
        contrast = contrastive_loss(similarity, clips.sounds.float())
        return recipe.pixel_weight * pixels.mean() + recipe.contrastive_weight * contrast


def compare(recipe: Recipe, folder: Path) -> dict[str, float]:
    """Samples a second of both, their ratio (the median of rounds), and the loader's share."""
    scenes = pack_scenes(
        folder / "scenes", 1, SCENES, (recipe.size, recipe.size), cast=BENCH, seconds=1.5
    )
    source = PackSource(scenes, spec_of(recipe, 0).window)
    ids = np.arange(SCENES)
    parts = Part(source, ids[: SCENES // 3]), Part(source, ids[SCENES // 3 :])
    material = Material(*parts, scenes, ids[:0], (scenes, ids[:0]))
    trainer = Trainer(recipe, folder, material)
    stage = Stage("unbiased", 0, 1_000_000)
    trainer.enter(stage)
    plain = PlainLoop(recipe)
    batches = iter(loader(Steps(material, recipe, False), 0, 2 * STEPS * ROUNDS + 2, 1))
    trainer.learn(stage, [next(batches)], 0)  # the first of each allocates
    plain.learn(next(batches))
    ours: list[float] = []
    theirs: list[float] = []
    waited = 0.0
    for _ in range(ROUNDS):
        for seconds, learn in (
            (ours, lambda step: trainer.learn(stage, [step], 0)),
            (theirs, plain.learn),
        ):
            spent = 0.0
            for _ in range(STEPS):
                asked = time.perf_counter()
                step = next(batches)
                began = time.perf_counter()
                learn(step)
                spent += time.perf_counter() - began
                if seconds is ours:
                    waited += began - asked
            seconds.append(spent)
    clips = recipe.batch * STEPS
    return {
        "ours": clips / statistics.median(ours),
        "plain": clips / statistics.median(theirs),
        "ratio": statistics.median(t / o for t, o in zip(theirs, ours, strict=True)),
        "waiting": waited / (waited + sum(ours)),
    }
