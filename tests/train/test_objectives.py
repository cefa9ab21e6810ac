"""Losses, against loops and figures worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")

# Beside others on two cores, threads that wait for each other spin for minutes.
torch.set_num_threads(1)

from torch import Tensor  # noqa: E402

from avsl.engines.networks.parts import unit  # noqa: E402
from avsl.train.methods.method import named  # noqa: E402
from avsl.train.methods.objectives import contrastive_loss, pixel_loss  # noqa: E402
from avsl.train.recipe import Recipe  # noqa: E402


def random_units(*shape: int) -> Tensor:
    return unit(torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape))))


def test_similarities_are_those_of_the_loop() -> None:
    features, embeddings = random_units(3, 5, 2, 4), random_units(4, 5)
    cosines = np.zeros((3, 4, 2, 4))
    for b in range(3):
        for other in range(4):
            for y in range(2):
                for x in range(4):
                    cosines[b, other, y, x] = features[b, :, y, x] @ embeddings[other]
    recipe = replace(Recipe(), temperature=0.07)
    largest = named("ez-vsl").similarities(features, embeddings, recipe)
    assert np.allclose(largest, cosines.max((2, 3)) / 0.07, atol=1e-4)
    own = named("own").similarities(features, embeddings, recipe).numpy()
    wanted = 0.1 * np.log(np.exp(cosines / 0.1).sum((2, 3))) / 0.07
    assert np.allclose(own - own[0, 0], wanted - wanted[0, 0], atol=1e-4)


def test_the_contrastive_loss_is_infonce_both_ways() -> None:
    s = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    e = np.exp(s.double().numpy())
    each = [-np.log(e[i, i] / e[i].sum()) - np.log(e[i, i] / e[:, i].sum()) for i in range(4)]
    assert float(contrastive_loss(s, torch.ones(4))) == pytest.approx(np.mean(each), abs=1e-5)
    sounds = torch.tensor([1.0, 0.0, 1.0, 1.0])
    wanted = (each[0] + each[2] + each[3]) / 3
    assert float(contrastive_loss(s, sounds)) == pytest.approx(wanted, abs=1e-5)
    assert contrastive_loss(s, torch.zeros(4)) == 0


def test_silent_clips_have_no_pair_but_are_negatives() -> None:
    s = torch.zeros(3, 3, requires_grad=True)
    contrastive_loss(s, torch.tensor([1.0, 0.0, 1.0])).backward()
    pulled = s.grad < 0
    assert torch.equal(pulled, torch.diag(torch.tensor([True, False, True])))
    assert s.grad[0, 1] > 0, "its sound is not that of another's picture"
    assert s.grad[1, 0] > 0, "nor its picture that of another's sound"
    assert s.grad[1, 1] == 0


def test_the_pixel_loss_is_cross_entropy_of_cells_and_peak() -> None:
    logits, target = torch.randn(2, 3, 4), torch.rand(2, 3, 4).round()
    target[1] = 0
    p = logits.sigmoid()
    cells = -(3 * target * p.log() + (1 - target) * (1 - p).log()).mean((1, 2))
    whole = torch.ones_like(target)
    assert torch.allclose(pixel_loss(logits, target, whole, 3.0, 0.0), cells, atol=1e-5)
    inside = (logits[0].exp() * target[0].clamp_min(1e-4)).sum() / logits[0].exp().sum()
    found = pixel_loss(logits, target, whole, 3.0, 0.5)
    assert float(found[0]) == pytest.approx(float(cells[0] - 0.5 * inside.log()), abs=1e-4)
    assert float(found[1]) == pytest.approx(float(cells[1]), abs=1e-5)


def test_cells_that_were_not_seen_count_for_nothing() -> None:
    logits = torch.randn(2, 4, 4, requires_grad=True)
    target, seen = torch.zeros(2, 4, 4), torch.ones(2, 4, 4)
    target[:, 1:3, 1:3] = 1
    seen[0, :, 3] = 0
    seen[1], target[1] = 0, 0
    loss = pixel_loss(logits, target, seen, 2.0, 1.0)
    loss.sum().backward()
    assert ((logits.grad != 0) == (seen == 1)).all()
    assert loss[1] == 0
    other = torch.where(seen == 1, logits, 5.0)
    assert torch.allclose(pixel_loss(other, target, seen, 2.0, 1.0), loss)
