"""What a method is to the trainer (`fit.py`), and the networks that it works on.

A method is a file that defines `METHOD`, and has a line in registry.py. The recipe's `base` names
it; DMT (dmt.py) stands over every method that has no stages of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from avsl.engines.networks import Ensemble, Network
from avsl.train.data.batches import Clips, Steps
from avsl.train.data.material import Material, spec_of
from avsl.train.methods.objectives import contrastive_loss
from avsl.train.methods.registry import DMT, METHODS
from avsl.train.recipe import Recipe
from avsl.train.scoring.validate import validate

Gather = Callable[[Tensor], Tensor]
"""Joins what the processes have along dimension 0; with one process the same tensor."""
LoadBest = Callable[[str, list[Network]], None]
"""load_best(stage, networks): gives networks what did best in a stage, if it was run."""
Log = dict[str, Tensor]


@dataclass
class Networks:
    """The networks of a training, in the stage that it is in."""

    students: list[Network]
    """What is trained."""
    teachers: list[Network] = field(default_factory=list)
    """What teaches the students, without a gradient of its own."""
    averages: list[Network] = field(default_factory=list)
    """What is validated, kept and exported: the students themselves, or what follows them."""


class Students(nn.Module):
    """Networks that are trained together, in one forward pass for DistributedDataParallel."""

    def __init__(self, networks: list[Network]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(
        self, views: list[tuple[Tensor, Tensor]], crossed: bool = False
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """A view (pictures `[B, 3, h, w]`, samples `[B, S]`) for each network, to its features
        `[B, E, m, n]`, embeddings `[B, E]` and logits `[B, m, n]`; `crossed`, those of each picture
        with each sound, `[B, B', m, n]`."""
        out = []
        for network, (pictures, samples) in zip(self.members, views, strict=True):
            features, embedding = network.features(pictures), network.embed(samples)
            logits = network.crossed_logits if crossed else network.logits
            out.append((features, embedding, logits(features, embedding)))
        return out

    @property
    def members(self) -> list[Network]:
        return cast(list[Network], list(self.networks))


class Method(Protocol):
    """A method of the field. `similarities` is what each defines; the rest is as for networks that
    are what they learn, and a method with `stages` of its own overrides what differs."""

    def network(self, recipe: Recipe, k: int) -> Network:
        """How a picture and a sound become a map: network `k` of the training (0 is A), its weights
        drawn from torch's generator."""
        return Network(spec_of(recipe, k))

    def similarities(self, features: Tensor, embeddings: Tensor, recipe: Recipe) -> Tensor:
        """How a map becomes a similarity: `[B, B']`, how well picture b and sound b' go together,
        over `recipe.temperature`.

        Args:
            features: `[B, E, m, n]`, unit vectors.
            embeddings: `[B', E]`, unit vectors.
        """
        ...

    def stages(self, recipe: Recipe) -> dict[str, int]:
        """Steps of each stage, in order. None: the method is trained by DMT's stages."""
        return {}

    def enter(self, stage: str, networks: Networks, load_best: LoadBest) -> None:
        """Makes the networks of a stage out of those of the stage before, in place."""
        return None

    def batches(
        self, stage: str, material: Material, recipe: Recipe, rank: int, world: int
    ) -> Dataset[Any]:
        """A stage's batches by step, of several processes the share of one. A batch has `names` of
        its clips and `to(device)`."""
        return Steps(material, recipe, False, rank, world)

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
        """The loss of a batch at step `at` of a stage, and what is logged, `loss` among it; unless
        a method says otherwise, the contrastive loss of all clips by `similarities`.

        Args:
            model: the students as one module, `Students`; its forward pass is what has the
                gradient, in half precision and over several processes where the recipe says so.
        """
        parts: list[Clips] = [*batch.labelled, *filter(None, [batch.unlabelled])]
        pictures = torch.cat([clips.strong_pictures for clips in parts])
        samples = torch.cat([clips.strong_samples for clips in parts])
        sounds = gather(torch.cat([clips.sounds for clips in parts]).float())
        loss = torch.zeros((), device=samples.device)
        for features, embedding, _ in model([(pictures, samples)] * len(networks.students)):
            # Negatives come from all processes: each fills the rows of its own pictures.
            rows = self.similarities(features, gather(embedding), recipe)
            loss = loss + contrastive_loss(gather(rows), sounds)
        return loss, {"loss": loss.detach()}

    def after_step(self, networks: Networks, at: int, recipe: Recipe) -> None:
        """After the weights have moved: momentum, averages."""
        return None

    def examples(
        self, stage: str, networks: Networks, batch: Any
    ) -> tuple[list[Network], Clips] | None:
        """Teachers, and clips whose pseudo-labels the run folder shows."""
        return None

    def validate(
        self, networks: list[Network], material: Material, device: torch.device
    ) -> dict[str, float]:
        """Scores of networks on the clips set aside; the one called `mean` chooses the best."""
        return validate(networks, material, device)

    def export(self, networks: list[Network], combine: str) -> Ensemble:
        """What is calibrated and frozen: A, B, or the mean or the product of both maps."""
        if len(networks) == 1 or combine == "A":
            return Ensemble(networks[:1]).eval()
        if combine == "B":
            return Ensemble(networks[1:]).eval()
        return Ensemble(networks, "product" if combine == "product" else "mean").eval()


def named(name: str) -> Method:
    """The method of a name in `METHODS`."""
    return _in(METHODS[name])


def method_of(recipe: Recipe) -> Method:
    """What trains by a recipe: its `base` in stages of its own, or else DMT over it."""
    base = named(recipe.base)
    return base if base.stages(recipe) else _in(DMT)


def _in(module: str) -> Method:
    return cast(Method, import_module(module).METHOD)
