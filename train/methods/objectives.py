"""Losses, as functions of maps and targets."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def pixel_loss(
    logits: Tensor, target: Tensor, seen: Tensor, positive_weight: float, peak_weight: float
) -> Tensor:
    """Of each clip: cross entropy of its cells against how much of each sounds, and, where
    something sounds, the cross entropy of the map's peak: -log of the share of softmax(logits)
    that lies inside.

    Args:
        logits, target, seen: `[B, m, n]`; cells where `seen` is 0 don't count.

    Returns:
        `[B]`.
    """
    weight = torch.tensor(positive_weight, device=logits.device)
    cells = F.binary_cross_entropy_with_logits(
        logits, target, weight=seen, pos_weight=weight, reduction="none"
    )
    inside = target.flatten(1).clamp_min(1e-4).log()
    share = logits.masked_fill(seen == 0, -1e4).flatten(1).log_softmax(1)
    peak = -torch.logsumexp(share + inside, 1)
    return cells.mean((1, 2)) + peak_weight * peak * (target.amax((1, 2)) > 0.5)


def cosines(features: Tensor, embeddings: Tensor) -> Tensor:
    """Of each cell of picture b with sound b', `[B, m * n, B']`.

    Args:
        features: `[B, E, m, n]`, unit vectors.
        embeddings: `[B', E]`, unit vectors.
    """
    b, e, m, n = features.shape
    cosine = features.flatten(2).transpose(1, 2).reshape(b * m * n, e) @ embeddings.T
    return cosine.view(b, m * n, -1)


def contrastive_loss(similarity: Tensor, sounds: Tensor) -> Tensor:
    """InfoNCE both ways (EZ-VSL, eq. 3): each picture picks its own sound out of the batch's, each
    sound its picture. A clip that was made silent has no pair, but is a negative for the others.

    Args:
        similarity: `[B, B]` over the temperature.
        sounds: `[B]`, whether the clip has kept its sound.
    """
    own = torch.arange(len(similarity), device=similarity.device)
    each = F.cross_entropy(similarity, own, reduction="none") + F.cross_entropy(
        similarity.T, own, reduction="none"
    )
    return (each * sounds).sum() / sounds.sum().clamp_min(1)
