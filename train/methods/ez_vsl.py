"""EZ-VSL (Mo & Morgado, ECCV 2022, arXiv 2203.09324).

S(b, b') = max over the map of cos(b, b') / temperature (eq. 2), and InfoNCE both ways over S (eq.
3, `objectives.contrastive_loss`). The paper's temperature is 0.03.
"""

from __future__ import annotations

from torch import Tensor

from avsl.train.methods.method import Method
from avsl.train.methods.objectives import cosines
from avsl.train.recipe import Recipe


class EzVsl(Method):
    """The maximum of the cosines."""

    def similarities(self, features: Tensor, embeddings: Tensor, recipe: Recipe) -> Tensor:
        return cosines(features, embeddings).amax(1) / recipe.temperature


METHOD = EzVsl()
