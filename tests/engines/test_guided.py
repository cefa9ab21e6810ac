"""Motion as evidence beside a network with kinds: it says which of two, makes what is half sure
glow, lights a stranger, and says nothing while the camera moves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import ToneEngine
from numpy.typing import NDArray

from avsl.demos.scenes import RATE
from avsl.demos.scenes.movers import SECONDS, make_moving_scene
from avsl.engines import Localization, Localizer, SoundTimeline
from avsl.engines.both import BothEngine, guided
from avsl.engines.engine import NetworkMaps, Seen
from avsl.engines.motion.engine import Lately, MotionEngine, MotionMaps
from avsl.engines.pictures import Picture

SIZE, CELLS = (256, 256), (16, 16)
"""Cells of sixteen pixels, as the engine of kinds has them: motion halves the picture."""
NONE = np.zeros((1, 3), np.float32)
RESTS, MOVES = Lately(NONE, camera_rests=True), Lately(NONE, camera_rests=False)
SURE = 0.6


class Knowing(ToneEngine):
    """A network with two kinds that hears them, and sees them everywhere, as one says."""

    def __init__(self, heard: tuple[float, float], seen: float) -> None:
        self.heard, self.seen = np.array(heard, np.float32), seen
        self.spec = self.bundle = replace(
            ToneEngine.bundle,
            picture_size=SIZE,
            map_size=CELLS,
            embedding_size=None,
            kinds=("dog", "bell"),
            thresholds=replace(ToneEngine.bundle.thresholds, sounding=SURE),
        )

    def maps(self) -> NetworkMaps:
        return NetworkMaps(self)

    def embed(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.heard

    def localize_kinds(self, picture: Picture, heard: NDArray[np.float32]) -> Seen:
        known = np.full(CELLS, heard.max() * self.seen, np.float32)
        return Seen(known, np.full(CELLS, heard.argmax(), np.int32))


def found_in(scene, engine, sound: NDArray[np.float32] | None = None) -> list[Localization]:  # type: ignore[no-untyped-def]
    timeline = SoundTimeline(RATE, SECONDS)
    timeline.write(0, scene.sound(0, SECONDS) if sound is None else sound)
    localize = Localizer(engine)
    times = np.arange(0, 9, 1 / 25).tolist()
    return [localize(t, scene.render(t, *SIZE)[0], timeline) for t in times]


def test_where_nothing_moves_the_map_is_the_networks() -> None:
    knows = np.array([[0.03, 0.4, 0.93]], np.float32)
    assert np.array_equal(guided(knows, NONE, RESTS, 0.9, SURE), knows)
    assert np.array_equal(guided(NONE, NONE, RESTS, 0.9, SURE), NONE)


def test_of_two_that_fit_the_one_that_moves() -> None:
    knows = np.array([[0.02, 0.93, 0.9]], np.float32)
    lately = Lately(np.array([[9.0, 0.1, 4.0]], np.float32), camera_rests=True)
    for camera in (True, False):
        found = guided(knows, NONE, lately._replace(camera_rests=camera), 0.9, SURE)
        assert found.argmax() == 2 and found.max() == np.float32(0.93)
        assert found[0, 0] < 0.05  # what moves most, but fits nothing


def test_what_is_half_sure_glows_where_it_moves_with_the_sound_and_is_never_called_sure() -> None:
    knows = np.array([[0.1, 0.4, 0.9]], np.float32)
    moves = np.array([[0.7, 0.7, 0.7]], np.float32)
    found = guided(knows, moves, RESTS, 0.9, SURE)
    assert 0.5 < found[0, 1] < SURE
    assert found[0, 0] == knows[0, 0] and found[0, 2] == knows[0, 2]
    assert np.array_equal(guided(knows, moves, MOVES, 0.9, SURE), knows)
    little = guided(knows, np.full_like(moves, 0.1), RESTS, 0.9, SURE)
    assert np.array_equal(little, knows)


@pytest.mark.parametrize(("heard", "seen", "glows"), [(0.2, 0.1, True), (0.9, 0.1, False)])
def test_a_stranger_glows_only_where_nothing_known_is_heard(
    heard: float, seen: float, glows: bool
) -> None:
    scene = make_moving_scene(31, 0)
    found = found_in(scene, BothEngine(Knowing((heard, 0.0), seen)))
    by_motion = [one for one in found if "motion" in one.evidence]
    assert (len(by_motion) > 20) is glows
    assert all(name == "" for one in by_motion for name in one.kinds)


def test_another_scenes_sound_lights_less() -> None:
    """It listens: the stranger's own sound, another's, silence."""
    scene, other = make_moving_scene(31, 0), make_moving_scene(31, 1)
    engine = BothEngine(Knowing((0.2, 0.0), 0.1))
    own, swapped, hush = (
        sum(bool(one.peaks) for one in found_in(scene, engine, sound))
        for sound in (None, other.sound(0, SECONDS), np.zeros(1, np.float32))
    )
    assert own > 3 * swapped and hush == 0


@pytest.mark.parametrize(("how", "far"), [("pans", 80), ("zooms", 10), ("zooms", 40)])
def test_a_camera_that_moves_lights_nothing(how: str, far: int) -> None:
    """Eight seconds over a still place, back and forth in time with the sound."""
    rng = np.random.default_rng(5)
    large = np.clip(rng.normal(110, 60, (60, 90, 3)), 0, 255).astype(np.uint8)
    large = large.repeat(12, 0).repeat(12, 1)
    sound = rng.normal(0, 0.1, 8 * RATE).astype(np.float32)
    sound *= np.sin(np.arange(len(sound)) / RATE * 2 * np.pi * 1.3) > 0
    timeline = SoundTimeline(RATE, 8.0)
    timeline.write(0, sound)
    localize = Localizer(BothEngine(Knowing((0.2, 0.0), 0.1)))
    lit = []
    for t in np.arange(0, 8, 1 / 25).tolist():
        by = round(far * (0.5 - 0.5 * np.cos(2 * np.pi * 0.65 * t)))
        if how == "pans":
            picture = large[200 : 200 + SIZE[0], by : by + SIZE[1]]
        else:
            side = SIZE[0] + 2 * by
            rows = np.arange(SIZE[0]) * side // SIZE[0] + 360 - side // 2
            picture = large[np.ix_(rows, rows + 150)]
        lit.append(bool(localize(t, np.ascontiguousarray(picture), timeline).peaks))
    assert np.mean(lit) < 0.01


def test_motion_halves_pictures_of_large_cells_and_finds_the_same() -> None:
    scene = make_moving_scene(31, 0)
    spec = replace(MotionEngine.spec, picture_size=(320, 320))
    small, large = MotionMaps(MotionEngine.spec), MotionMaps(spec)
    timeline = SoundTimeline(RATE, SECONDS)
    timeline.write(0, scene.sound(0, SECONDS))
    same = []
    for t in np.arange(0, 4, 1 / 25).tolist():
        small.watch(t, scene.render(t, 160, 160)[0], timeline)
        large.watch(t, scene.render(t, 320, 320)[0], timeline)
        if small.map().max() > 0.5:
            places = [np.unravel_index(maps.map().argmax(), (20, 20)) for maps in (small, large)]
            same.append(np.abs(np.subtract(*places)).max() <= 1)
    assert len(same) > 20 and np.mean(same) > 0.9
