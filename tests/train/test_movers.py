"""Animated scenes, and what is measured on them."""

from __future__ import annotations

import numpy as np
import pytest

from avsl.demos.scenes import RATE
from avsl.demos.scenes.movers import SECONDS, make_moving_scene
from avsl.train.scoring.movers import COLUMNS, CONDITIONS, SHAKY, evaluate_movers, movers_lines


def test_a_scene_is_a_function_of_time() -> None:
    scene, again = (make_moving_scene(5, 3, **SHAKY) for _ in range(2))
    late = [scene.render(t, 90, 160) for t in (9.0, 2.0)]
    early = [again.render(t, 90, 160) for t in (2.0, 9.0)]
    for (picture, boxes), (same, likewise) in zip(late, early[::-1], strict=True):
        assert np.array_equal(picture, same)
        assert boxes == likewise
    whole = scene.sound(0, 4.0)
    assert np.allclose(whole[RATE : 2 * RATE], again.sound(1.0, 1.0), atol=1e-6)
    assert not np.array_equal(whole, make_moving_scene(5, 4, **SHAKY).sound(0, 4.0))


@pytest.mark.parametrize("index", range(6))
def test_what_sounds_moves_with_it(index: int) -> None:
    scene = make_moving_scene(6, index)
    for turn in scene.turns:
        mover = scene.movers[turn.things[0]]
        t = np.arange(turn.start, turn.stop, 0.01)
        level = mover.envelope(t)
        heard = np.abs(scene.sound(turn.start, turn.stop - turn.start)).reshape(len(t), -1).max(1)
        assert np.corrcoef(level, heard)[0, 1] > 0.5
        x0, y0, x1, y1 = scene.render(turn.start, 180, 320)[1][turn.things[0]]
        assert 0 <= x0 < mover.x < x1 <= 1
        assert y1 - y0 > 0.05


def test_out_of_view_nothing_in_view_sounds() -> None:
    scene = make_moving_scene(6, 0, outside=True)
    assert {scene.sounding(t) for t in np.arange(0, SECONDS, 0.1)} == {(), (-1,)}
    assert np.abs(scene.sound(2.0, 1.0)).max() > 10 * np.abs(scene.sound(0.0, 0.9)).max()


def test_an_engine_is_measured_beside_baselines() -> None:
    chosen = tuple(CONDITIONS[i] for i in (0, 6))
    told: list[tuple[int, int]] = []
    rows = evaluate_movers("motion", 3, conditions=chosen, progress=lambda *step: told.append(step))
    own, shuffled = rows.values()
    assert own["peak"] > max(60, own["centre"], own["correlation"])
    assert own["said"] > 10 > shuffled["said"]
    assert 0 < own["lock_s"] < 6
    assert own["loss_s"] < 3
    assert np.isnan(shuffled["peak"])
    assert told[-1] == (6, 6)
    lines = movers_lines(rows)
    assert len(lines) == 4
    assert all(line.count("|") == len(COLUMNS) + 2 for line in lines)
