"""What is shown stays where a glance finds it: glow, state and names over time."""

from dataclasses import replace
from itertools import pairwise

import av
import numpy as np
import pytest

from avsl.engines import Localization, Thresholds, describe
from avsl.realtime.drawing import label, names
from avsl.realtime.drawing.canvas import Canvas
from avsl.realtime.drawing.overlay import Overlay
from avsl.realtime.drawing.steady import Name, Steady

T = Thresholds(glow=0.5, unseen=0.5, sounding=0.6, gate_db=-60, gate_margin_db=6)
GLOW, BEGIN = 0.5, 0.35


def at(time: float, *spots: tuple[int, int, float, str], silent: bool = False) -> Localization:
    """Things of two by two cells: (row, column, p, name)."""
    map_ = np.full((20, 20), 0.02, np.float32)
    for row, column, p, _ in spots:
        map_[row : row + 2, column : column + 2] = p
    found = describe(time, map_, -20.0, silent, T)
    kinds = tuple(
        name
        for x, y, _ in found.peaks
        for row, column, _, name in spots
        if 0 <= 20 * y - row < 2 and 0 <= 20 * x - column < 2
    )
    return replace(found, kinds=kinds)


def switches(on: list[bool]) -> int:
    return int(np.sum(np.diff(np.array(on, int)) != 0))


@pytest.mark.parametrize("rate", [5, 25, 60])
def test_a_steady_source_does_not_flicker(rate: int) -> None:
    """As engines really waver: over and under the threshold several times a second."""
    rng = np.random.default_rng(3)
    wavering = 0.5 + 0.12 * rng.standard_normal(240)
    steady, plain, shown = Steady(T), [], []
    for k in range(20 * rate):
        found = at(k / rate, (4, 4, float(np.clip(wavering[k * 12 // rate], 0.1, 0.9)), "dog"))
        plain.append(bool(found.peaks))
        shown.append(bool(steady(found, GLOW, BEGIN).parts))
    assert switches(plain) / 20 > 2
    assert switches(shown) / 20 <= 0.2
    assert any(shown)


@pytest.mark.parametrize("rate", [10, 30])
def test_what_ends_goes_dark_after_a_time_not_after_pictures(rate: int) -> None:
    steady, lit = Steady(T), []
    for k in range(3 * rate):
        time = k / rate
        found = at(time, (4, 4, 0.9 if time < 1 else 0.05, "dog"))
        shown = steady(found, GLOW, BEGIN)
        lit.append(time if shown.parts else 0.0)
        if shown.parts:
            assert shown.localization.map.max() >= GLOW
    assert max(lit) == pytest.approx(1 + 0.8, abs=1.5 / rate + 0.02)


def test_it_fades_while_it_lingers() -> None:
    steady = Steady(T)
    steady(at(0.0, (4, 4, 0.9, "dog")), GLOW, BEGIN)
    shown = [
        steady(at(t, (4, 4, 0.05, "dog")), GLOW, BEGIN).localization.map.max() for t in (0.2, 0.5)
    ]
    assert 0.9 > shown[0] > shown[1] > GLOW


def test_where_something_else_glows_it_is_soon_gone() -> None:
    steady = Steady(T)
    for time in (0.0, 0.1):
        steady(at(time, (4, 4, 0.9, "dog")), GLOW, BEGIN)
    other = [
        len(steady(at(t, (14, 14, 0.9, "cat")), GLOW, BEGIN).parts) for t in (0.2, 0.3, 0.4, 0.5)
    ]
    assert other == [2, 2, 1, 1]


def test_what_moves_leaves_no_trail() -> None:
    steady = Steady(T)
    for k in range(15):
        shown = steady(at(k / 25, (4, k, 0.9, "dog")), GLOW, BEGIN)
        assert len(shown.parts) == 1
        assert int((shown.localization.map > BEGIN).sum()) == 4


def test_silence_is_dark_at_once() -> None:
    steady = Steady(T)
    steady(at(0.0, (4, 4, 0.9, "dog")), GLOW, BEGIN)
    shown = steady(at(0.04, silent=True), GLOW, BEGIN)
    assert not shown.parts and not shown.names
    assert shown.localization.state == "silent"
    assert not steady(at(0.08, (4, 4, 0.4, "dog")), GLOW, BEGIN).parts


@pytest.mark.parametrize("later", [-1.0, 5.0])
def test_another_film_begins_anew(later: float) -> None:
    steady = Steady(T)
    steady(at(2.0, (4, 4, 0.9, "dog")), GLOW, BEGIN)
    assert not steady(at(2.0 + later, (4, 4, 0.45, "dog")), GLOW, BEGIN).parts


def test_a_moment_may_be_drawn_again() -> None:
    steady = Steady(T)
    steady(at(0.0, (4, 4, 0.9, "dog")), GLOW, BEGIN)
    once, twice = (steady(at(0.5, (4, 4, 0.1, "dog")), GLOW, BEGIN) for _ in range(2))
    assert once.parts == twice.parts and once.names == twice.names
    assert np.array_equal(once.localization.map, twice.localization.map)


def test_what_is_found_stays_as_it_is() -> None:
    steady = Steady(T)
    steady(at(0.0, (4, 4, 0.9, "dog")), GLOW, BEGIN)
    found = at(0.1, (4, 4, 0.1, "dog"))
    before = found.map.copy()
    assert steady(found, GLOW, BEGIN).localization is not found
    assert np.array_equal(found.map, before) and found.state == "unseen"


def test_numbers_can_be_read() -> None:
    steady = Steady(T)
    said = [
        steady(at(k / 25, (4, 4, 0.7 + 0.01 * (k % 9), "dog")), GLOW, BEGIN).localization.score
        for k in range(100)
    ]
    assert len(set(said[:6])) == 1
    assert 8 <= sum(a != b for a, b in pairwise(said)) <= 16


def test_a_name_stays_unless_another_is_right_for_a_while() -> None:
    steady, seen = Steady(T), []
    for k in range(50):
        kind = "banjo" if k % 3 == 0 or k > 30 else "guitar"
        shown = steady(at(k / 25, (4, 4, 0.9, kind)), GLOW, BEGIN)
        seen.append([name.text for name in shown.names])
    assert seen[0] == ["banjo"]
    assert all(len(one) == 1 for one in seen)
    assert switches([one == ["banjo"] for one in seen]) <= 2
    assert seen[-1] == ["banjo"]


def test_each_thing_has_its_name_and_a_part_but_one_of_a_kind() -> None:
    steady = Steady(T)
    apart = steady(at(0.0, (4, 2, 0.9, "dog"), (4, 14, 0.8, "dog")), GLOW, BEGIN)
    assert [name.text for name in apart.names] == ["dog", "dog"]
    near = Steady(T)(at(0.0, (4, 4, 0.9, "dog"), (8, 4, 0.8, "dog")), GLOW, BEGIN)
    assert len(near.parts) == 2 or len(near.names) == 1
    assert not Steady(T)(at(0.0, (4, 4, 0.9, "")), GLOW, BEGIN).names


def test_a_name_glides_after_its_thing() -> None:
    steady, lefts = Steady(T), []
    for k in range(26):
        shown = steady(at(k / 25, (4, 4 if k < 5 else 5, 0.9, "dog")), GLOW, BEGIN)
        lefts.append(shown.names[0].box[0])
    steps = np.diff(lefts)
    assert (steps >= 0).all() and steps.max() < 0.5 / 20
    assert lefts[-1] == pytest.approx(5 / 20, abs=0.006)


# Where names are put, and that they can be read.


def canvas(width: int, height: int, value: int = 90) -> tuple[av.VideoFrame, Canvas]:
    rgb = np.full((height, width, 3), value, np.uint8)
    frame = av.VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format="yuv420p")
    frame.make_writable()
    return frame, Canvas(frame)


def touched(frame: av.VideoFrame, value: int) -> np.ndarray:
    return np.abs(frame.to_ndarray(format="rgb24").astype(int) - value).max(-1) > 12


def named(*boxes: tuple[float, float, float, float], text: str = "electric guitar") -> list[Name]:
    return [Name(text, box, float(k), 0.0) for k, box in enumerate(boxes)]


CORNERS = [(x, y, x + 0.1, y + 0.1) for x in (0.0, 0.45, 0.9) for y in (0.0, 0.45, 0.9)]


@pytest.mark.parametrize("size", [(320, 180), (640, 360), (360, 640), (1281, 721), (120, 120)])
@pytest.mark.parametrize("box", [*CORNERS, (0.0, 0.0, 1.0, 1.0)])
def test_a_name_is_whole_and_inside(size: tuple[int, int], box) -> None:
    """As many pixels as in the middle of a picture with room all around."""
    frame, place = canvas(*size)
    names.draw(place, named(box))
    roomy, wide = canvas(size[0] * 3, size[1] * 3)
    letters = names._letters(wide.coding, "electric guitar", label.size_on(place))
    wide.stick(letters, size[0], size[1])
    assert touched(frame, 90).sum() == pytest.approx(touched(roomy, 90).sum(), rel=0.02)


@pytest.mark.parametrize("size", [(320, 180), (640, 360), (1280, 720)])
def test_names_keep_clear_of_each_other_and_of_the_label(size: tuple[int, int]) -> None:
    frame, place = canvas(*size)
    crowd = named(*[(0.1, 0.7, 0.2, 0.8)] * 4, *[(0.11, 0.72, 0.19, 0.78)] * 2)
    names.draw(place, crowd)
    every = touched(frame, 90)
    one, single = canvas(*size)
    names.draw(single, crowd[:1])
    assert every.sum() == pytest.approx(6 * touched(one, 90).sum(), rel=0.02)
    left, top, right, bottom = label.area(place)
    assert not every[top:bottom, left:right].any()


def test_names_look_the_same_at_every_size() -> None:
    shares = []
    for width, height in ((640, 360), (1280, 720), (3840, 2160)):
        frame, place = canvas(width, height)
        names.draw(place, named((0.4, 0.4, 0.6, 0.6)))
        rows, columns = np.nonzero(touched(frame, 90))
        shares.append((np.ptp(rows) / height, np.ptp(columns) / width))
    assert np.ptp(np.array(shares), axis=0).max() < 0.02
    small, place = canvas(320, 180)
    names.draw(place, named((0.4, 0.4, 0.6, 0.6)))
    rows, _ = np.nonzero(touched(small, 90))
    assert 11 <= np.ptp(rows) + 1 <= 0.09 * 180


@pytest.mark.parametrize("value", [0, 90, 160, 255])
def test_letters_stand_out_from_anything(value: int) -> None:
    frame, place = canvas(640, 360, value)
    names.draw(place, named((0.4, 0.4, 0.6, 0.6)))
    luma = frame.to_ndarray(format="gray").astype(int)
    rows, columns = np.nonzero(touched(frame, value))
    patch = luma[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert patch.max() > 220 and patch.min() < 70


def test_a_picture_too_small_for_a_name_has_none() -> None:
    frame, place = canvas(64, 16)
    names.draw(place, named((0.2, 0.2, 0.6, 0.6)))
    assert not touched(frame, 90).any()


def test_the_overlay_writes_names_where_it_glows_and_only_there() -> None:
    pictures = []
    for kind in ("", "dog"):
        frame, _ = canvas(640, 360)
        Overlay(T).draw(frame, at(0.0, (8, 12, 0.9, kind)))
        pictures.append(frame.to_ndarray(format="rgb24").astype(int))
    rows, columns = np.nonzero(np.abs(pictures[0] - pictures[1]).max(-1) > 12)
    assert 0.2 < rows.mean() / 360 < 0.45
    assert columns.mean() / 640 == pytest.approx(13 / 20, abs=0.03)


def test_the_label_says_what_is_heard_where_nothing_glows() -> None:
    unseen = replace(at(0.0), heard=(("church bell", 0.9), ("dog", 0.2)))
    assert label.words(unseen) == "UNSEEN: CHURCH BELL"
    assert label.words(replace(unseen, heard=(("dog", 0.3),))) == "UNSEEN"
