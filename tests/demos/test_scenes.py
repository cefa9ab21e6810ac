"""Drawn scenes: reproducible, true about themselves, and varied."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from avsl.demos.scenes import BENCH, DRAWN, Scene, boxes, make_scene
from avsl.demos.scenes.cast import SIZES
from avsl.demos.scenes.clips import demo_scene
from avsl.demos.scenes.looks import BENCH_FAMILIES, FAMILIES
from avsl.demos.scenes.scene import KINDS


@pytest.mark.parametrize("index", range(4))
def test_any_part_is_reproducible_by_itself(index: int) -> None:
    first, second = make_scene(5, index, moving=True), make_scene(5, index, moving=True)
    whole = first.sound(-1.0, 3.0)
    assert np.array_equal(second.sound(0.25, 0.5), whole[20_000:28_000])
    picture, masks = first.render(1.5, 90, 160)
    first.render(0.3, 90, 160)
    again, masks_again = second.render(1.5, 90, 160)
    assert np.array_equal(picture, again)
    assert np.array_equal(masks, masks_again)


def test_other_index_other_scene() -> None:
    sounds = [make_scene(5, i, kind="one").sound(-1, 1) for i in range(6)]
    assert all(not np.allclose(a, b) for a, b in pairwise(sounds))


def test_masks_are_where_the_things_are() -> None:
    """Without the thing the picture differs inside its mask, and nowhere else."""
    import dataclasses

    for index in range(12):
        scene = make_scene(8, index, count=3)
        picture, masks = scene.render(0, 180, 320)
        for i in range(len(scene.things)):
            without = dataclasses.replace(scene, things=scene.things[:i] + scene.things[i + 1 :])
            other, _ = without.render(0, 180, 320)
            changed = (picture != other).any(-1)
            assert not changed[masks[i] == 0].any()
            if (masks[i] > 0.5).sum() > 30:
                assert changed[masks[i] > 0.5].mean() > 0.9


def test_boxes_are_exact() -> None:
    masks = np.zeros((2, 10, 20), np.float32)
    masks[0, 2:5, 4:10] = 1
    assert boxes(masks) == [(0.2, 0.2, 0.5, 0.5), (0.0, 0.0, 0.0, 0.0)]


def test_sizes_and_counts() -> None:
    scenes = [make_scene(1, i) for i in range(300)]
    sizes = [thing.size for scene in scenes for thing in scene.things]
    assert SIZES[0] <= min(sizes) < 0.14
    assert 0.42 < max(sizes) <= SIZES[1]
    logs = np.log(sizes)
    assert np.median(logs) == pytest.approx(np.log(SIZES).mean(), abs=0.1), "log-uniform"
    assert {len(scene.things) for scene in scenes} == {1, 2, 3, 4}
    for kind in KINDS:
        assert any(scene.kind == kind for scene in scenes)
    for scene in scenes:
        names = [thing.family for thing in scene.things]
        assert len(set(names)) == len(names)


def test_kinds_sound_as_they_say() -> None:
    for index in range(10):
        assert not make_scene(2, index, kind="silence").sound(-1, 1).any()
        assert make_scene(2, index, kind="noise").sounding(0) == ()
        assert make_scene(2, index, kind="noise").sound(-1, 1).any()
        assert make_scene(2, index, kind="outside").sounding(0) == ()
        assert len(make_scene(2, index, kind="one").sounding(0)) == 1
        assert len(make_scene(2, index, kind="two").sounding(0)) == 2


def spectrum(samples: np.ndarray) -> np.ndarray:
    """Log energy in 24 bands, without loudness."""
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    edges = np.geomspace(60, len(power) - 1, 25).astype(int)
    bands = np.log([power[a:b].sum() + 1e-9 for a, b in pairwise(edges)])
    return bands - bands.mean()


def test_families_differ_more_than_their_members() -> None:
    """A listener who knows a few members of each family names most new ones by their spectrum."""
    t = np.arange(16_000) / 16_000
    known = [
        np.mean([spectrum(f.voice(np.random.default_rng((1, i, k)))(t)) for k in range(6)], axis=0)
        for i, f in enumerate(DRAWN.families)
    ]
    right = 0
    for i, family in enumerate(DRAWN.families):
        for k in range(4):
            heard = spectrum(family.voice(np.random.default_rng((2, i, k)))(t))
            right += int(np.argmin([np.square(heard - mean).sum() for mean in known]) == i)
    assert len(FAMILIES) >= 12
    assert right / (4 * len(FAMILIES)) > 0.8


def test_bench_families_are_distinct_and_have_look_alikes() -> None:
    assert len(set(BENCH_FAMILIES)) == len({f.name for f in BENCH.families}) == 16
    shapes, textures = zip(*BENCH_FAMILIES, strict=True)
    assert {shapes.count(shape) for shape in shapes} == {2}, "its twin differs in texture only"
    assert {textures.count(texture) for texture in textures} == {4}, "others in shape only"


@pytest.mark.parametrize("family", range(0, 16, 2))
def test_bench_twins_have_one_outline_and_two_textures(family: int) -> None:
    def painted(which: int) -> tuple[np.ndarray, np.ndarray]:
        canvas = np.zeros((80, 80, 3), np.float32)
        paint = BENCH.families[which].look(np.random.default_rng(2))
        cover, where = paint(canvas, 0.5, 0.5, 0.6, (80.0, 80.0))
        return cover, canvas[where][cover == 1].mean(-1)

    (outline, texture), (same, other) = painted(family), painted(family + 1)
    assert np.array_equal(outline, same)
    assert not np.array_equal(outline, painted((family + 2) % 16)[0])
    assert abs(np.corrcoef(texture, other)[0, 1]) < 0.9


def test_bench_things_have_their_sizes_and_may_cover_each_other() -> None:
    scenes = [make_scene(4, i, cast=BENCH) for i in range(200)]
    assert {scene.aspect for scene in scenes} == {1.0}
    assert not any(scene.strangers for scene in scenes)
    sizes = [thing.size for scene in scenes for thing in scene.things]
    assert 0.20 <= min(sizes) < 0.22
    assert 0.54 < max(sizes) <= 0.58

    def touch(scene: Scene) -> bool:
        pairs = combinations(scene.things, 2)
        return any(np.hypot(a.x - b.x, a.y - b.y) < 0.4 * (a.size + b.size) for a, b in pairs)

    four = [scene for scene in scenes if len(scene.things) == 4]
    assert np.mean([touch(scene) for scene in four]) > 0.2, "there is not room for four"


def loudness(scene: Scene, start: float, stop: float) -> float:
    return float(np.sqrt(np.mean(scene.sound(start, stop - start) ** 2)))


def test_the_demo_has_turns_silence_and_two_at_once() -> None:
    scene = demo_scene()
    who = [scene.sounding(t) for t in np.arange(0, 10, 0.1)]
    assert {(0,), (1,), (2,), (3,), (1, 3), ()} == set(who)
    assert loudness(scene, 4.3, 4.9) < 0.02 * loudness(scene, 1, 2)
