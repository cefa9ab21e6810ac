"""What moves with the sound: the motion engine, its parts, and it together with a network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import ToneEngine

from avsl.demos.scenes import RATE, make_scene
from avsl.demos.scenes.clips import write_clip
from avsl.demos.scenes.movers import SECONDS, MovingScene, make_moving_scene
from avsl.engines import DEFAULT, Localization, Localizer, SoundTimeline, UserError, choose_engine
from avsl.engines.both import BothEngine, combined
from avsl.engines.motion.engine import BINS_PER_S, MotionEngine, MotionMaps
from avsl.engines.motion.steady import luma, moved
from avsl.realtime.films import annotate
from avsl.realtime.verify import verify

CELLS = (20, 20)
SPEC = MotionEngine.spec


def textured(seed: int = 0) -> np.ndarray:
    """A smooth random RGB picture, larger than the engine's."""
    rng = np.random.default_rng(seed)
    grid = rng.uniform(30, 220, (25, 25, 3)).repeat(8, 0).repeat(8, 1)
    kernel = np.ones(9) / 9
    for axis in (0, 1):
        grid = np.apply_along_axis(lambda x: np.convolve(x, kernel, "same"), axis, grid)
    return grid


def crop(picture: np.ndarray, down: float = 0, across: float = 0) -> np.ndarray:
    """160 x 160 pixels of it, from parts of a pixel on, bilinear."""
    y, x = int(np.floor(down)), int(np.floor(across))
    dy, dx = down - y, across - x
    part = picture[20 + y : 181 + y, 20 + x : 181 + x]
    rows = part[:-1] * (1 - dy) + part[1:] * dy
    return np.rint(rows[:, :-1] * (1 - dx) + rows[:, 1:] * dx).astype(np.uint8)


def heard(scene: MovingScene, engine, sound: np.ndarray | None = None) -> list[Localization]:
    """A whole scene at 25 pictures a second through an engine, with its own or another sound."""
    timeline = SoundTimeline(RATE, SECONDS)
    timeline.write(0, scene.sound(0, SECONDS) if sound is None else sound)
    localize = Localizer(engine)
    times = np.arange(0, SECONDS, 1 / 25)
    return [localize(t, scene.render(t, 160, 160)[0], timeline) for t in times.tolist()]


def right(found: list[Localization], scene: MovingScene) -> float:
    """Share of the moments, 1.5 s after a sound starts, at which the peak lies in what sounds."""
    hits = []
    for turn in scene.turns:
        for one in found:
            if turn.start + 1.5 <= one.time < turn.stop:
                x0, y0, x1, y1 = scene.render(one.time, 160, 160)[1][turn.things[0]]
                y, x = divmod(int(one.map.argmax()), 20)
                hits.append(x0 - 0.05 < (x + 0.5) / 20 < x1 + 0.05)
                hits[-1] &= y0 - 0.05 < (y + 0.5) / 20 < y1 + 0.05
    return float(np.mean(hits))


@pytest.mark.parametrize(("down", "across"), [(0, 0), (0.4, -0.7), (2.3, 1.1), (-3.0, 2.5)])
def test_the_camera_and_the_light_are_no_motion(down: float, across: float) -> None:
    picture = textured()
    before = luma(crop(picture))
    bright = np.clip(crop(picture, down, across) * 1.06 + 3, 0, 255).astype(np.uint8)
    change, shift = moved(before, luma(bright), CELLS)
    assert change[1:-1, 1:-1].mean() < 0.4
    assert shift[:2] == pytest.approx((-down, -across), abs=0.15)
    assert abs(shift.growth) < 0.002
    changed = bright.copy()
    changed[64:88, 96:120] = 255 - changed[64:88, 96:120]
    there, _ = moved(before, luma(changed), CELLS)
    assert there[8:11, 12:15].mean() > 20 * max(0.05, np.median(there))


def test_without_motion_nothing_has_moved() -> None:
    rng = np.random.default_rng(0)
    still = crop(textured()).astype(float)
    grainy = [np.clip(still + rng.normal(0, 2, still.shape), 0, 255) for _ in range(2)]
    change, _ = moved(*(luma(np.rint(p).astype(np.uint8)) for p in grainy), CELLS)
    assert change.max() < 0.3


@pytest.mark.parametrize("fps", [12, 25, 30, 60])
def test_motion_is_shared_out_over_time_whatever_the_frame_rate(fps: int) -> None:
    maps = MotionMaps(SPEC)
    quiet = SoundTimeline(RATE, 4.0)
    one, other = crop(textured(1)), crop(textured(1))
    other[80:96, 80:96] = 255 - other[80:96, 80:96]
    for k in range(2 * fps + 1):  # from one to the other in half a second, and there it stays
        t = k / fps
        mix = np.clip((t - 0.5) * 2, 0, 1)
        maps.watch(t, np.rint(one * (1 - mix) + other * mix).astype(np.uint8), quiet)
    motion = maps._motion.reshape(*CELLS, -1)[10:12, 10:12].mean((0, 1))
    assert motion[:12].sum() < 0.2 * motion.sum()
    assert motion[13:25].sum() > 0.75 * motion.sum()
    assert maps._pictured == 2 * BINS_PER_S - 1


def test_it_finds_what_moves_with_the_sound_and_listens() -> None:
    """The same pictures with their own sound, with another scene's, and with silence."""
    scenes = [make_moving_scene(31, i) for i in range(4)]
    own, others = [], []
    for scene, other in zip(scenes, scenes[1:] + scenes[:1], strict=True):
        own.append(heard(scene, MotionEngine()))
        others += heard(scene, MotionEngine(), other.sound(0, SECONDS))
    assert np.mean([right(f, s) for f, s in zip(own, scenes, strict=True)]) > 0.7
    sounding = np.mean([one.state == "sounding" for found in own for one in found])
    assert sounding > 0.15
    assert np.mean([one.state == "sounding" for one in others]) < 0.25 * sounding
    assert {e for found in own for one in found for e in one.evidence} == {"motion"}
    silent = heard(scenes[0], MotionEngine(), np.zeros(1, np.float32))
    assert {one.state for one in silent} == {"silent"}


def test_a_camera_that_shakes() -> None:
    scenes = [make_moving_scene(32, i, count=3, shake=0.006, flicker=0.03) for i in range(3)]
    assert np.mean([right(heard(s, MotionEngine()), s) for s in scenes]) > 0.55


def test_a_steady_sound_and_a_still_picture_say_nothing() -> None:
    tone = 0.3 * np.sin(np.arange(int(SECONDS * RATE)) * 0.2).astype(np.float32)
    scene = make_moving_scene(33, 0)
    assert "sounding" not in {one.state for one in heard(scene, MotionEngine(), tone)}
    timeline = SoundTimeline(RATE, SECONDS)
    timeline.write(0, scene.sound(0, SECONDS))
    localize, picture = Localizer(MotionEngine()), crop(textured())
    for t in np.arange(0, 7, 0.04).tolist():
        assert localize(t, picture, timeline).score < 0.05


def test_it_begins_anew_after_a_seek_or_a_long_gap() -> None:
    scene = make_moving_scene(31, 0)
    timeline = SoundTimeline(RATE, SECONDS)
    timeline.write(0, scene.sound(0, SECONDS))
    fresh, used = MotionMaps(SPEC), MotionMaps(SPEC)
    for t in np.arange(9, 12, 0.04).tolist():
        used.watch(t, scene.render(t, 160, 160)[0], timeline)
    assert used.map().max() > 0.05
    for t in np.arange(2, 6, 0.04).tolist():  # back
        picture = scene.render(t, 160, 160)[0]
        fresh.watch(t, picture, timeline)
        used.watch(t, picture, timeline)
        assert np.array_equal(fresh.map(), used.map())
    assert fresh.map().max() > 0.05
    fresh.watch(6.04, 255 - scene.render(6, 160, 160)[0], timeline)  # a cut
    used.watch(14.0, scene.render(14, 160, 160)[0], timeline)  # and far ahead
    assert not fresh.map().any()
    assert not used.map().any()


def test_both_adds_evidence_and_leaves_the_network_its_word() -> None:
    knows = np.array([[0.001, 0.3, 0.9, 0.999]], np.float32)
    nothing = np.zeros_like(knows)
    assert np.array_equal(combined(knows, nothing), knows)
    assert np.array_equal(combined(knows, nothing + 0.05), knows)
    assert (combined(knows, nothing + 0.6) >= knows).all()
    # A thing that the network doesn't know is as likely as its motion says, unless the network is
    # sure of another.
    unknown = combined(np.array([[0.001, 0.002]], np.float32), np.full((1, 2), 0.6, np.float32))
    assert unknown == pytest.approx(0.6, abs=0.01)
    beside = [
        float(combined(np.array([[0.001, sure]], np.float32), np.array([[0.6, 0]]))[0, 0])
        for sure in (0.1, 0.5, 0.9, 0.99)
    ]
    assert beside == sorted(beside, reverse=True)
    assert beside[0] > 0.5 and beside[-1] < 0.06
    assert (combined(np.ones_like(knows), np.ones_like(knows)) <= 1).all()


def test_both_finds_a_known_still_thing_and_an_unknown_moving_one() -> None:
    engine = choose_engine("both:drawn")
    still = make_scene(2_000_000, 2, kind="one")
    timeline = SoundTimeline(RATE, 4.0)
    timeline.write(-RATE, still.sound(-1, 3))
    alone, together = Localizer(choose_engine("drawn")), Localizer(engine)
    picture = still.render(0, 160, 160)[0]
    for t in (0.1, 0.5, 0.9):
        one, other = alone(t, picture, timeline), together(t, picture, timeline)
        assert np.array_equal(one.map, other.map)
        assert one.peaks == other.peaks
        assert set(other.evidence) <= {"network"}
    scene = make_moving_scene(31, 0)
    found = heard(scene, engine)
    by_motion = [one for one in found if "motion" in one.evidence]
    assert right(found, scene) > max(0.7, right(heard(scene, choose_engine("drawn")), scene) + 0.2)
    assert len(by_motion) > 20


def test_names_of_engines(tmp_path: Path) -> None:
    assert choose_engine("motion").spec.name == "motion"
    assert choose_engine("both:drawn").spec.name == "drawn + motion"
    assert choose_engine().spec == choose_engine("both").spec
    assert choose_engine().spec.name == "real + motion"
    assert choose_engine("real").spec == choose_engine(DEFAULT).spec
    real, small = choose_engine("real").spec, choose_engine("both:small").spec
    assert small.name == "small + motion" and small.kinds == real.kinds
    assert np.prod(small.picture_size) < 0.5 * np.prod(real.picture_size)
    for name in ("moton", "both:nowhere", tmp_path):
        with pytest.raises(UserError, match="engine"):
            choose_engine(name)
    tones = ToneEngine()
    assert BothEngine(tones).spec.map_size == (8, 8)
    tones.spec = replace(tones.spec, map_size=(7, 7))
    with pytest.raises(UserError, match="7 cells"):
        BothEngine(tones)


def test_a_film(tmp_path: Path) -> None:
    """A real file, at another size and rate: annotated, its events, and --verify."""
    scene = make_moving_scene(31, 1)
    film = tmp_path / "film.mp4"
    write_clip(scene, film, SECONDS, size=(180, 320), rate=30)
    report = annotate(film, tmp_path / "out.mp4", MotionEngine(), events=tmp_path / "events.jsonl")
    assert report.frames == round(SECONDS * 30)
    schema, *lines = (json.loads(line) for line in (tmp_path / "events.jsonl").open())
    assert schema["engine"]["name"] == "motion"
    assert {"silent", "sounding"} <= {line["state"] for line in lines}
    assert {e for line in lines for e in line["evidence"]} == {"motion"}
    assert all(len(line["evidence"]) == len(line["peaks"]) for line in lines)
    with av.open(str(film)) as before, av.open(str(tmp_path / "out.mp4")) as after:
        pairs = zip(before.decode(video=0), after.decode(video=0), strict=True)
        changed = [np.abs(a.to_ndarray().astype(int) - b.to_ndarray()).max() for a, b in pairs]
    glows = [line["state"] == "sounding" for line in lines]
    assert np.mean(np.array(changed)[glows] > 40) > 0.95
    assert verify(film, None, MotionEngine(), tmp_path / "strip.png").listens is True
