"""Views: what is drawn depends on the clip alone, and where things are is known in each of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")

# Beside others on two cores, threads that wait for each other spin for minutes.
torch.set_num_threads(1)

import torch.nn.functional as F  # noqa: E402
from torch import Tensor  # noqa: E402

from avsl.train.data.batches import Clips  # noqa: E402
from avsl.train.data.views import (  # noqa: E402
    CROP,
    HIDDEN_S,
    SOUND_DRAWS,
    STRONG,
    WEAK,
    Geometry,
    cells_of,
    strong_pictures,
    strong_samples,
)

SIZE, CELLS = (64, 80), (8, 10)
RATE = 16_000


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def geometries(count: int, flip: bool, seed: int = 0) -> Geometry:
    u = random(count, WEAK, seed=seed)
    u[:, 3] = 0.2 if flip else 0.8
    return Geometry.of(u)


def box_of(left: int, top: int, right: int, bottom: int) -> Tensor:
    """A box given in pixels, `[1, 1, 4]`."""
    h, w = SIZE
    return torch.tensor([[[left / w, top / h, right / w, bottom / h]]])


def clips(count: int) -> Clips:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 1, (count, 2, 2, 2)).astype(np.float32)
    corners.sort(2)
    return Clips(
        CELLS,
        [str(i) for i in range(count)],
        torch.from_numpy(rng.integers(0, 256, (count, *SIZE, 3), np.uint8)),
        torch.from_numpy(rng.uniform(-1, 1, (count, RATE)).astype(np.float32)),
        torch.from_numpy(corners.reshape(count, 2, 4)),
        torch.ones(count, dtype=torch.bool),
        torch.ones(count, dtype=torch.bool),
        random(count, WEAK + STRONG),
    )


VIEWS = (
    "weak_pictures",
    "strong_pictures",
    "strong_samples",
    "weak_target",
    "target",
)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("box", [(10, 8, 42, 37), (0, 30, 25, 64), (60, 0, 80, 9)])
def test_a_box_moves_with_its_picture(flip: bool, box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    picture = torch.zeros(1, 1, *SIZE)
    picture[:, :, top:bottom, left:right] = 1
    views = geometries(40, flip)
    drawn = F.avg_pool2d(views.pictures(picture.expand(40, -1, -1, -1)), 8)[:, 0]
    target = views.target(box_of(*box).expand(40, -1, -1), CELLS)
    assert (drawn - target).abs().max() < 0.06
    assert (target.mean((1, 2)) > 0).all()


def test_views_are_cropped_by_little_and_flipped_half_of_the_time() -> None:
    views = Geometry.of(random(400, WEAK))
    assert 150 < (views.scale[:, 0] < 0).sum() < 250
    size = views.scale.abs()
    assert (size >= 1 - CROP).all()
    assert size.min() < 1 - 0.9 * CROP
    assert ((size + views.offset.abs()) <= 1 + 1e-6).all(), "nothing from outside the picture"
    assert views.offset.abs().max() > 0.8 * CROP


@pytest.mark.parametrize("weak_flip", [False, True])
@pytest.mark.parametrize("strong_flip", [False, True])
def test_maps_are_carried_from_view_to_view(weak_flip: bool, strong_flip: bool) -> None:
    weak, strong = geometries(60, weak_flip, 1), geometries(60, strong_flip, 2)
    for axis, count in (0, CELLS[1]), (1, CELLS[0]):
        # A map that says where in the source its cells are.
        centres = (torch.arange(count) + 0.5) / count * 2 - 1
        places = [
            g.scale[:, axis, None] * centres + g.offset[:, axis, None] for g in (weak, strong)
        ]
        across = (lambda x: x[:, None]) if axis == 0 else (lambda x: x[:, :, None])
        maps, wanted = (across(x).expand(-1, *CELLS).contiguous() for x in places)
        carried, seen = weak.carry(maps, strong)
        half_a_cell = weak.scale[:, axis, None, None].abs() / count
        assert (((carried - wanted).abs() <= half_a_cell + 1e-5) | (seen == 0)).all()
        out = ((wanted - weak.offset[:, axis, None, None]).abs()) > half_a_cell * count + 1e-5
        assert out.any()
        assert (seen[out] == 0).all(), "the weak view has not seen this"
        assert (carried[seen == 0] == 0).all()
        assert 0.8 < seen.mean() < 1


@pytest.mark.parametrize("weak_flip", [False, True])
@pytest.mark.parametrize("strong_flip", [False, True])
def test_a_carried_target_is_that_of_the_other_view(weak_flip: bool, strong_flip: bool) -> None:
    weak, strong = geometries(60, weak_flip, 1), geometries(60, strong_flip, 2)
    box = box_of(4, 6, 40, 44).expand(60, -1, -1)
    carried, seen = weak.carry((weak.target(box, CELLS) > 0.5).float(), strong)
    target = strong.target(box, CELLS)
    inside = -F.max_pool2d(-target, 3, 1, 1) > 0.999
    outside = F.max_pool2d(target, 3, 1, 1) == 0
    assert inside.any()
    assert outside.any()
    assert (carried[inside & (seen == 1)] == 1).all()
    assert (carried[outside] == 0).all()


def test_a_view_depends_on_its_own_draws_alone() -> None:
    whole = clips(20)
    rows = list(range(15, 0, -2))
    few = replace(
        whole,
        names=[whole.names[i] for i in rows],
        **{name: getattr(whole, name)[rows] for name in Clips.TENSORS},
    )
    before = whole.pictures.clone(), whole.samples.clone()
    for name in VIEWS:
        assert torch.allclose(getattr(few, name), getattr(whole, name)[rows], atol=1e-5), name
        assert torch.equal(getattr(clips(20), name), getattr(whole, name)), name
    assert torch.equal(whole.pictures, before[0])
    assert torch.equal(whole.samples, before[1]), "views don't change the clip"
    other = replace(whole, draws=random(20, WEAK + STRONG, seed=1))
    for name in VIEWS:
        assert not torch.allclose(getattr(other, name), getattr(whole, name), atol=1e-2), name


def test_strong_pictures_change_but_things_stay_where_they_are() -> None:
    picture = torch.full((1, 3, *SIZE), -0.5)
    picture[:, :, 10:50, 6:36] = 0.5
    inside = torch.zeros(SIZE, dtype=torch.bool)
    inside[10:50, 6:36] = True
    x = picture.repeat(200, 1, 1, 1)
    strong = strong_pictures(x.clone(), random(200, STRONG - WEAK - SOUND_DRAWS))
    assert ((strong - x).abs().amax((1, 2, 3)) > 0).float().mean() > 0.9
    grey = strong.mean(1)
    middle = (grey[:, inside].median(1).values + grey[:, ~inside].median(1).values) / 2
    right = ((grey > middle[:, None, None]) == inside).float().mean((1, 2))
    assert right.min() > 0.85, "a cut-out may hide some"
    assert right.median() > 0.97


@pytest.mark.parametrize("level", [0, 255])
def test_pictures_stay_in_their_range(level: int) -> None:
    views = replace(clips(64), pictures=torch.full((64, *SIZE, 3), level, dtype=torch.uint8))
    for x in (views.weak_pictures, views.strong_pictures, clips(64).strong_pictures):
        assert x.abs().max() <= 1
        assert x.isfinite().all()


def sound_draws(count: int, **values: float) -> Tensor:
    """No band, no stretch of time, the least noise and no gain, but for `values`."""
    u = {
        "low": 0.5,
        "band": 0.0,
        "begin": 0.5,
        "hidden": 0.0,
        "noise": 1.0,
        "place": 0.5,
        "gain": 0.0,
    }
    u |= values
    return torch.tensor([list(u.values())] * count)


def test_a_stretch_of_time_is_hidden_but_never_the_end() -> None:
    x = random(300, RATE) * 2 - 1
    u = sound_draws(300)
    u[:, 2:4] = random(300, 2, seed=1)
    u[:20, 2:4] = 1.0
    level = strong_samples(x, u).view(300, 100, -1).square().mean(2).sqrt()
    hidden = level < 0.3 * x.square().mean().sqrt()
    assert not hidden[:, 85:].any(), "what counts is what sounds at the window's end"
    assert hidden[:20, 76:84].all()
    assert hidden.float().mean(1).max() <= HIDDEN_S
    assert hidden.float().mean() > 0.06


def test_where_pictures_are_of_the_middle_the_middle_is_never_hidden() -> None:
    x = random(300, RATE) * 2 - 1
    u = sound_draws(300)
    u[:, 2:4] = random(300, 2, seed=1)
    middle = replace(clips(300), samples=x, moment=0.5)
    middle.draws[:, -SOUND_DRAWS:] = u
    level = middle.strong_samples.view(300, 100, -1).square().mean(2).sqrt()
    hidden = level < 0.3 * x.square().mean().sqrt()
    assert not hidden[:, 35:65].any()
    assert hidden[:, :35].any() and hidden[:, 85:].any()


@pytest.mark.parametrize(("low", "band"), [(0.5, 1.0), (0.7, 0.6), (0.9, 1.0)])
def test_a_band_is_gone_from_the_spectrum(low: float, band: float) -> None:
    x = random(4, RATE) * 2 - 1
    before, after = (
        torch.fft.rfft(s)[:, 1:].abs().square().mean(0)
        for s in (x, strong_samples(x, sound_draws(4, low=low, band=band)))
    )
    octaves = np.log2(8000 / 60)
    height = torch.log2(torch.arange(1, 8001) / 8000) / octaves + 1
    start = low * 1.25 - 0.25
    inside = (height > start + 0.002) & (height < start + 0.25 * band - 0.002)
    outside = (height < start - 0.002) | (height > start + 0.25 * band + 0.002)
    assert after[inside].sum() < 0.005 * before[inside].sum()
    assert float(after[outside].sum() / before[outside].sum()) == pytest.approx(1, abs=0.02)


def test_gain_and_noise_are_what_is_drawn() -> None:
    x = torch.sin(torch.arange(RATE) * 0.1)[None]
    same, soft, noisy = (
        strong_samples(x, sound_draws(1, **u)) for u in ({}, {"gain": 0.5}, {"noise": 0.0})
    )
    assert torch.allclose(soft, same * 10**-0.5, atol=1e-4)
    for heard, db in (same, -30), (noisy, -10):
        noise = (heard - x).square().mean() / x.square().mean()
        assert float(10 * noise.log10()) == pytest.approx(db, abs=0.3)


def test_cells_say_how_much_of_them_lies_in_a_box() -> None:
    nothing = torch.full((1, 2, 4), torch.nan)
    assert (cells_of(nothing, CELLS) == 0).all()
    box = torch.tensor([[[0.25, 0.0, 0.625, 0.5], [torch.nan] * 4]])
    expected = torch.tensor([[0.0, 1.0, 0.5, 0.0], [0.0] * 4])
    assert torch.allclose(cells_of(box, (2, 4))[0], expected)
    overlapping = torch.tensor([[[0.1, 0.1, 0.7, 0.7], [0.3, 0.2, 0.9, 0.8]]])
    both, one, two = (
        cells_of(b, (10, 10)) for b in (overlapping, overlapping[:, :1], overlapping[:, 1:])
    )
    assert float(both.max()) == pytest.approx(1)
    assert torch.allclose(both, torch.maximum(one, two))
