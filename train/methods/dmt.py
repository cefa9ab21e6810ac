"""Dual Mean-Teacher (Guo et al., NeurIPS 2023, arXiv 2403.03145): the first open implementation.

Two student-teacher pairs A and B of different make learn from D_l, few clips with boxes, and D_u,
many without.

Stage 1, warm-up: each student by itself on D_l; the teachers begin as copies of the students.
Stage 2, unbiased learning, each step:
    M_A, M_B  = [teacher's map of the weakly augmented clip >= delta]
    accepted  = IoU(M_A, M_B) >= tau                    noise filtering
    G         = M_A * M_B                               IPL, the intersection of pseudo-labels
    L         = L_sup(boxes on D_l, G on the accepted of D_u; strong views) + lambda_u L_unsup(all)
    teachers <- EMA of the students
Two empty masks are no agreement on a thing: their IoU is 0. The teachers' maps, and so the
decisions, are absolute probabilities. Where the paper says nothing, `Recipe` says what we took.

It stands over another method (the recipe's `base`), whose networks it trains and whose similarity
the contrastive loss L_unsup is made of. The class at the end is DMT as the trainer sees it, with a
stage 0 before (kinds.py) and a stage 3 behind it, both ours: one network learns from both teachers.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from avsl.engines.networks import Network
from avsl.train.data.batches import Clips, Step, Steps
from avsl.train.data.material import Material
from avsl.train.methods.kinds import KindSteps, kinds_loss
from avsl.train.methods.method import Gather, LoadBest, Log, Method, Networks, named
from avsl.train.methods.objectives import contrastive_loss, pixel_loss
from avsl.train.recipe import Recipe


@dataclass(frozen=True)
class Labels:
    """What the teachers make of unlabelled clips, as their weak views have it."""

    masks: list[Tensor]
    """M_A and M_B, bool `[B, m, n]`."""
    targets: list[Tensor]
    """The pseudo-label of each student, bool `[B, m, n]`; IPL is one for both."""
    accepted: Tensor
    """Bool `[B]`."""
    iou: Tensor
    """Of the teachers' masks, `[B]`."""


def iou(a: Tensor, b: Tensor) -> Tensor:
    """Of bool masks `[B, m, n]`; 0 where both are empty."""
    union = (a | b).sum((1, 2))
    return (a & b).sum((1, 2)) / union.clamp_min(1)


def pseudo_labels(maps: list[Tensor], recipe: Recipe) -> Labels:
    """Binarises the teachers' maps (probabilities `[B, m, n]`), filters, and makes the labels. With
    one teacher the intersection is its own mask, and agreement means that it is not empty."""
    masks = [p >= recipe.delta for p in maps]
    both, either = masks[0] & masks[-1], masks[0] | masks[-1]
    agreement = iou(masks[0], masks[-1])
    targets = {"own": masks, "union": [either] * len(masks)}.get(recipe.label, [both] * len(masks))
    filled = torch.stack([t.any((1, 2)) for t in targets]).all(0)
    if recipe.accept == "agreement":
        accepted = agreement >= recipe.tau
    elif recipe.accept == "not-empty":
        accepted = filled
    elif recipe.accept == "confident":
        mean = torch.stack(maps).mean(0)
        inside = (mean * targets[0]).sum((1, 2)) / targets[0].sum((1, 2)).clamp_min(1)
        accepted = filled & (inside >= recipe.confidence)
    else:
        accepted = torch.ones_like(filled)
    return Labels(masks, targets, accepted, agreement)


@torch.no_grad()
def teach(teachers: list[Network], clips: Clips, recipe: Recipe) -> list[Tensor]:
    """The teachers' maps of the clips' weak views: probabilities `[B, m, n]`."""
    pictures, device = clips.weak_pictures, clips.samples.device.type
    with torch.autocast(device, torch.bfloat16, enabled=recipe.precision == "bf16"):
        maps = [teacher.eval()(pictures, clips.samples) for teacher in teachers]
    return [logits.float().sigmoid() for logits in maps]


@torch.no_grad()
def follow(teachers: list[Network], students: list[Network], decay: float, step: int) -> None:
    """EMA: theta_t <- decay theta_t + (1 - decay) theta_s, batch norm's statistics included. Early
    on the students move too fast for a long memory, so the decay grows from 0 with the step."""
    if decay == 1:
        return
    decay = min(decay, (step + 1) / (step + 10))
    for teacher, student in zip(teachers, students, strict=True):
        ours, theirs = (list(n.state_dict().values()) for n in (teacher, student))
        floats = [i for i, t in enumerate(ours) if t.is_floating_point()]
        torch._foreach_lerp_([ours[i] for i in floats], [theirs[i] for i in floats], 1 - decay)
        for mean, value in zip(ours, theirs, strict=True):
            if not mean.is_floating_point():
                mean.copy_(value)


def warm_up_loss(
    students: nn.Module, step: Step, recipe: Recipe, gather: Gather
) -> tuple[Tensor, Log]:
    """Stage 1: each student has labelled clips, an order and views of its own."""
    clips = step.labelled
    seen = students([(c.strong_pictures, c.strong_samples) for c in clips])
    loss = torch.zeros((), device=seen[0][2].device)
    for c, (features, embedding, logits) in zip(clips, seen, strict=True):
        loss = loss + _supervised(logits, c.target, torch.ones_like(c.target), recipe, gather)
        loss = loss + _unsupervised(features, embedding, c.sounds, recipe, gather)
    return loss, {"loss": loss.detach()}


def unbiased_loss(
    students: nn.Module,
    teachers: list[Network],
    step: Step,
    at: int,
    recipe: Recipe,
    gather: Gather,
) -> tuple[Tensor, Log]:
    """Stage 2, at step `at` of it. The students see one batch: labelled clips and all unlabelled
    ones; of these, the accepted have a target, and so have those that were made silent."""
    few, many = step.labelled[0], step.unlabelled
    if many is None:
        return warm_up_loss(students, Step([few] * len(teachers), None), recipe, gather)
    views = [joined(few, many)] * len(teachers)
    sounds = torch.cat([few.sounds, many.sounds])
    log: Log = {}
    targets: list[Tensor] | None = None
    ramp = recipe.pseudo_weight * min(1.0, (at + 1) / max(1, recipe.pseudo_ramp))
    if recipe.label != "none":
        labels = pseudo_labels(teach(teachers, many, recipe), recipe)
        used = labels.accepted & many.sounds
        carried = [many.weak.carry(t.float(), many.strong) for t in labels.targets]
        targets = [c[0] for c in carried]
        known = carried[0][1] * used[:, None, None]
        log |= quality(labels, many, gather)
    loss = torch.zeros((), device=sounds.device)
    n = len(few.target)
    nothing = torch.zeros_like(many.target)
    hushed = (~many.sounds)[:, None, None].expand_as(nothing).float()
    for k, (features, embedding, logits) in enumerate(students(views)):
        boxes = _supervised(logits[:n], few.target, torch.ones_like(few.target), recipe, gather)
        silence = _supervised(logits[n:], nothing, hushed, recipe, gather)
        loss = loss + boxes + silence
        if targets is not None:
            pseudo = _supervised(logits[n:], targets[k] * known, known, recipe, gather)
            loss = loss + ramp * pseudo
        loss = loss + _unsupervised(features, embedding, sounds, recipe, gather)
    return loss, {"loss": loss.detach(), **log}


def distill_loss(
    student: nn.Module, teachers: list[Network], step: Step, recipe: Recipe, gather: Gather
) -> tuple[Tensor, Log]:
    """One network learns the mean of the teachers' maps where their masks agree on a thing, or on
    none, and the boxes."""
    few, many = step.labelled[0], step.unlabelled
    assert many is not None
    maps = teach(teachers, many, recipe)
    masks = [p >= recipe.delta for p in maps]
    neither = ~(masks[0] | masks[-1]).any(2).any(1)
    agreed = (iou(masks[0], masks[-1]) >= recipe.tau) | neither
    target, known = many.weak.carry(torch.stack(maps).mean(0), many.strong)
    known = known * (agreed & many.sounds)[:, None, None] + (~many.sounds)[:, None, None]
    target = target * known * many.sounds[:, None, None]
    sounds = torch.cat([few.sounds, many.sounds])
    ((features, embedding, logits),) = student([joined(few, many)])
    targets = torch.cat([few.target, target])
    weights = torch.cat([torch.ones_like(few.target), known])
    loss = _supervised(logits, targets, weights, recipe, gather)
    loss = loss + _unsupervised(features, embedding, sounds, recipe, gather)
    return loss, {"loss": loss.detach(), "accepted": gather(agreed.float()).mean()}


def joined(few: Clips, many: Clips) -> tuple[Tensor, Tensor]:
    """The strong views of both as one batch."""
    return (
        torch.cat([few.strong_pictures, many.strong_pictures]),
        torch.cat([few.strong_samples, many.strong_samples]),
    )


def _supervised(
    logits: Tensor, target: Tensor, seen: Tensor, recipe: Recipe, gather: Gather
) -> Tensor:
    losses = pixel_loss(logits, target, seen, recipe.positive_weight, recipe.peak_weight)
    return recipe.pixel_weight * gather(losses).mean()


def _unsupervised(
    features: Tensor, embedding: Tensor, sounds: Tensor, recipe: Recipe, gather: Gather
) -> Tensor:
    if not recipe.contrastive_weight:
        return torch.zeros((), device=features.device)
    # Negatives come from all processes: each fills the rows of its own pictures.
    base = named(recipe.base)
    rows = base.similarities(features, gather(embedding), recipe)
    return recipe.contrastive_weight * contrastive_loss(gather(rows), gather(sounds.float()))


@torch.no_grad()
def quality(labels: Labels, clips: Clips, gather: Gather) -> Log:
    """How the pseudo-labels fare: share accepted, agreement, area, and, over clips whose truth is
    known, their IoU with it: all of them and the accepted, and other ways to make the label."""
    accepted = gather(labels.accepted.float())
    label = labels.masks[0] & labels.masks[-1]
    log = {
        "accepted": accepted.mean(),
        "teachers_iou": gather(labels.iou).mean(),
        "area": gather(label.float().mean((1, 2))).mean(),
    }
    truth = clips.weak_target > 0.5
    counts = gather(clips.known & truth.any(2).any(1)).float()
    ways = {
        "intersection": label,
        "A": labels.masks[0],
        "B": labels.masks[-1],
        "union": labels.masks[0] | labels.masks[-1],
    }
    for name, mask in ways.items():
        fit = gather(iou(mask, truth))
        log[f"quality_{name}"] = _mean(fit, counts)
        log[f"quality_{name}_accepted"] = _mean(fit, counts * accepted)
    # Accepted although nothing in view sounds.
    none = gather(clips.known & ~truth.any(2).any(1)).float()
    log["accepted_negatives"] = _mean(accepted, none)
    return log


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Not a number where nothing counts."""
    return (values * weights).sum() / weights.sum()


class Dmt(Method):
    """DMT over the method that a recipe's `base` names."""

    def network(self, recipe: Recipe, k: int) -> Network:
        return named(recipe.base).network(recipe, k)

    def similarities(self, features: Tensor, embeddings: Tensor, recipe: Recipe) -> Tensor:
        return named(recipe.base).similarities(features, embeddings, recipe)

    def stages(self, recipe: Recipe) -> dict[str, int]:
        return {
            "kinds": recipe.kinds_steps,
            "warm-up": recipe.warm_up_steps,
            "unbiased": recipe.steps,
            "distill": recipe.distill_steps * recipe.distill,
        }

    def enter(self, stage: str, networks: Networks, load_best: LoadBest) -> None:
        if stage == "unbiased":
            load_best("warm-up", networks.students)
            networks.teachers = copy.deepcopy(networks.students)
            networks.averages = networks.teachers
        elif stage == "distill":  # the teachers teach, and follow no longer
            if not networks.teachers:
                networks.teachers = copy.deepcopy(networks.students)
            load_best("unbiased", networks.teachers)
            networks.students = [copy.deepcopy(networks.teachers[0])]
            networks.averages = copy.deepcopy(networks.students)

    def batches(
        self, stage: str, material: Material, recipe: Recipe, rank: int, world: int
    ) -> Dataset[Any]:
        if stage == "kinds":
            return KindSteps(material.labelled, recipe, rank, world)
        return Steps(material, recipe, stage == "warm-up", rank, world)

    def loss(
        self,
        stage: str,
        model: nn.Module,
        networks: Networks,
        batch: Any,
        at: int,
        recipe: Recipe,
        gather: Gather,
    ) -> tuple[Tensor, Log]:
        if stage == "kinds":
            return kinds_loss(model, batch, recipe)
        if stage == "warm-up":
            return warm_up_loss(model, batch, recipe, gather)
        if stage == "unbiased":
            return unbiased_loss(model, networks.teachers, batch, at, recipe, gather)
        return distill_loss(model, networks.teachers, batch, recipe, gather)

    def after_step(self, networks: Networks, at: int, recipe: Recipe) -> None:
        if networks.averages is not networks.students:
            follow(networks.averages, networks.students, recipe.ema, at)

    def examples(
        self, stage: str, networks: Networks, batch: Any
    ) -> tuple[list[Network], Clips] | None:
        if stage == "unbiased" and batch.unlabelled is not None:
            return networks.teachers, batch.unlabelled
        return None


METHOD = Dmt()
