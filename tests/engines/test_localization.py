"""From maps to states, peaks and boxes, and the gate that tells sound from silence."""

import time

import numpy as np
import pytest

from avsl.engines import Thresholds, level_db
from avsl.engines.localization import FLOOR_DB, Gate, Localization, Named, describe

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


# By name

WORDS = "voice", "acoustic guitar", "dog", "cat"
HEARD = np.array([0.9, 0.8, 0.05, 0.1], np.float32)


def of_kinds(picture: str, **cells: float) -> Localization:
    """From a drawing: letters are kinds, capital ones glow at 0.9 and others at 0.6; a number is
    what the one cell of its letter glows at."""
    lines = picture.split()
    map_ = np.full((len(lines), len(lines[0])), 0.01, np.float32)
    kinds = np.full(map_.shape, 3, np.int32)
    for y, line in enumerate(lines):
        for x, letter in enumerate(line):
            if letter != ".":
                map_[y, x] = cells.get(letter, 0.9 if letter.isupper() else 0.6)
                kinds[y, x] = -1 if letter in "?" else "vgdc".index(letter.lower())
    return describe(0.0, map_, -20, False, T, lambda peak: "network", Named(WORDS, kinds, HEARD))


def test_what_touches_is_two_where_it_is_of_two_kinds() -> None:
    found = of_kinds("""
        ..vV..
        ..vv..
        .gggg.
        .gGgg.
    """, V=0.95)  # fmt: skip
    assert found.kinds == ("voice", "acoustic guitar")
    assert [box[:4] for box in found.boxes] == [(2 / 6, 0, 4 / 6, 0.5), (1 / 6, 0.5, 5 / 6, 1)]
    assert found.heard == (
        ("voice", pytest.approx(0.9)), ("acoustic guitar", pytest.approx(0.8)),
        ("cat", pytest.approx(0.1)),
    )  # fmt: skip


def test_two_of_one_kind_are_two_only_apart() -> None:
    found = of_kinds("vV.Vv")
    assert found.kinds == ("voice", "voice")
    assert of_kinds("vVvVv").kinds == ("voice",)
    between = of_kinds("vVgGgVv")
    assert sorted(between.kinds) == ["acoustic guitar", "voice", "voice"]


def test_a_stray_cell_is_no_thing_and_splits_none() -> None:
    found = of_kinds("""
        .ggdg.
        .gGdg.
        .gg.g.
        .gggg.
    """)  # fmt: skip
    assert found.kinds == ("acoustic guitar",)
    assert found.boxes[0][:4] == (1 / 6, 0, 5 / 6, 1), "what glows is in it all the same"
    assert of_kinds("GGg\nggd").kinds == ("acoustic guitar",)
    # One as strong, one that is large, and one that stands alone are things.
    assert sorted(of_kinds("GGg\nggD").kinds) == ["acoustic guitar", "dog"]
    assert sorted(of_kinds("GGgd\nggdd").kinds) == ["acoustic guitar", "dog"]
    assert sorted(of_kinds("GG.\n..d").kinds) == ["acoustic guitar", "dog"]


def test_what_has_no_name_is_said_to_have_none() -> None:
    assert of_kinds("VV..??", **{"?": 0.8}).kinds == ("voice", "")
    plain = describe(0.0, spots((4, 5, 0.9)), -20, False, T, lambda peak: "network")
    assert (plain.kinds, plain.heard) == ((), ())
    named = Named(WORDS, np.zeros((10, 20), np.int32), HEARD)
    moved = describe(0.0, spots((4, 5, 0.9)), -20, False, T, lambda peak: "motion", named)
    assert moved.kinds == ("",)
    silent = describe(0.0, spots((4, 5, 0.9)), -20, True, T, None, named)
    assert (silent.kinds, silent.heard) == ((), ())


def test_mirrored_it_has_the_names_that_it_had() -> None:
    found = of_kinds("V..G", V=0.8)
    turned = found.mirrored()
    assert turned.kinds == found.kinds == ("acoustic guitar", "voice")
    assert turned.heard == found.heard
    assert turned.peaks[0][0] < 0.5 < found.peaks[0][0]


def test_telling_kinds_apart_costs_little() -> None:
    """A map that glows all over, in patches: a picture takes milliseconds."""
    kinds = (np.add.outer(np.arange(16) // 4, np.arange(28) // 4) % 3).astype(np.int32)
    map_ = np.full(kinds.shape, 0.9, np.float32)
    began = time.perf_counter()
    for _ in range(20):
        found = describe(0.0, map_, -20, False, T, None, Named(WORDS, kinds, HEARD))
    assert len(found.peaks) == 28
    assert (time.perf_counter() - began) / 20 < 0.02


@pytest.mark.parametrize(
    ("heard", "said"),
    [
        ([0.9, 0.05, 0.02, 0.0], ["voice"]),
        ([0.2, 0.3, 0.4, 0.5], ["cat", "dog", "acoustic guitar"]),
        ([0.0, 0.0, 0.0, 0.09], []),
    ],
)
def test_the_three_that_are_heard_most(heard: list[float], said: list[str]) -> None:
    named = Named(WORDS, np.zeros((10, 20), np.int32), np.array(heard, np.float32))
    found = describe(0.0, spots(), -20, False, T, None, named)
    assert [kind for kind, _ in found.heard] == said
