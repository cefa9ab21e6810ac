"""From maps to states, peaks and boxes, and the gate that tells sound from silence."""

import numpy as np
import pytest

from avsl.engines import Thresholds, level_db
from avsl.engines.localization import FLOOR_DB, Gate, describe

T = Thresholds(glow=0.5, unseen=0.3, sounding=0.6, gate_db=-60, gate_margin_db=6)


def spots(*cells: tuple[int, int, float]) -> np.ndarray:
    map_ = np.full((10, 20), 0.01, np.float32)
    for y, x, p in cells:
        map_[y, x] = p
    return map_


@pytest.mark.parametrize(
    ("p", "state"), [(0.1, "unseen"), (0.3, "unsure"), (0.59, "unsure"), (0.6, "sounding")]
)
def test_state_follows_the_score(p: float, state: str) -> None:
    found = describe(1.0, spots((4, 5, p)), -20, False, T)
    assert (found.state, round(found.score, 4)) == (state, p)


def test_silence_has_no_map() -> None:
    found = describe(1.0, spots((4, 5, 0.9)), -80, True, T)
    assert found.state == "silent"
    assert (found.score, found.peaks, found.boxes) == (0.0, (), ())
    assert not found.map.any()


def test_each_region_has_its_peak_and_box_strongest_first() -> None:
    map_ = spots((1, 2, 0.7), (1, 3, 0.6), (7, 15, 0.9), (8, 15, 0.55), (5, 9, 0.49))
    found = describe(0.0, map_, -20, False, T)
    assert [tuple(round(v, 4) for v in peak) for peak in found.peaks] == [
        (15.5 / 20, 7.5 / 10, 0.9),
        (2.5 / 20, 1.5 / 10, 0.7),
    ]
    assert [tuple(round(v, 4) for v in box) for box in found.boxes] == [
        (15 / 20, 0.7, 16 / 20, 0.9, 0.9),
        (2 / 20, 0.1, 4 / 20, 0.2, 0.7),
    ]


def test_the_peak_lies_where_the_map_is_highest() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        map_ = rng.random((10, 20)).astype(np.float32)
        x, y, p = describe(0.0, map_, -20, False, T).peaks[0]
        assert map_[int(y * 10), int(x * 20)] == map_.max() == np.float32(p)


def test_level() -> None:
    assert level_db(np.zeros(100, np.float32)) == FLOOR_DB
    assert level_db(np.ones(100, np.float32)) == pytest.approx(0)
    assert level_db(np.full(100, 0.1, np.float32)) == pytest.approx(-20)
    assert level_db(np.zeros(0, np.float32)) == FLOOR_DB


def run(levels: list[float]) -> list[bool]:
    gate = Gate(T, hop_s=0.05)
    return [gate.update(level) for level in levels]


def test_gate_opens_at_once_and_holds_for_half_a_second() -> None:
    heard = run([-90.0] * 10 + [-30.0] + [-90.0] * 20)
    assert heard.index(True) == 10
    assert heard[10:20] == [True] * 10
    assert not any(heard[20:])


def test_a_lasting_hum_becomes_the_room_and_a_sound_above_it_is_heard() -> None:
    hum = run([-52.0] * 2000 + [-30.0] * 10)
    assert hum[5], "new noise is sound at first"
    assert not any(hum[1900:2000]), "after a while it is the room"
    assert all(hum[2000:])


def test_lasting_music_stays_sound() -> None:
    assert all(run([-25.0] * 20 * 120))


def test_ticking_doesn_t_flicker() -> None:
    ticks = ([-30.0] + [-80.0] * 8) * 20
    assert all(run(ticks))


def test_mirrored_is_the_other_way_round_and_twice_is_as_before() -> None:
    found = describe(1.0, spots((4, 5, 0.9)), -20, False, T, lambda peak: "network")
    turned = found.mirrored()
    assert np.array_equal(turned.map, found.map[:, ::-1])
    (x, y, p), (other_x, other_y, other_p) = found.peaks[0], turned.peaks[0]
    assert (other_x, other_y, other_p) == (1 - x, y, p)
    x0, y0, x1, y1, p = turned.boxes[0]
    assert x0 <= other_x <= x1 and y0 <= other_y <= y1
    again = turned.mirrored()
    assert np.array_equal(again.map, found.map)
    assert np.allclose(again.boxes, found.boxes)
    assert (turned.evidence, turned.state, turned.time) == (("network",), found.state, found.time)
