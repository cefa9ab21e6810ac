"""Who speaks: faces held still to parts of a pixel, followed, and lips held against the voice."""

from __future__ import annotations

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from avsl.engines.bundle import Thresholds
from avsl.engines.localization import Named, Track
from avsl.engines.pictures import luma
from avsl.engines.speakers import lips
from avsl.engines.speakers.answer import told
from avsl.engines.speakers.crop import EYES, Cutter, Place, Template
from avsl.engines.speakers.sight import Sight
from avsl.engines.speakers.speakers import Speakers
from avsl.engines.speakers.tracks import GAP_S, LOST_S, MOST, Head, Row, Tracks
from avsl.engines.speakers.voice import BINS_PER_S, RATE, Voice, voice_bins
from avsl.engines.windows import SoundTimeline, WindowSpec
from avsl.realtime.demo import FILM
from avsl.realtime.drawing.label import names

Luma = NDArray[np.uint8]
SKIN = np.random.default_rng(4).normal(0, 1, (4, 60))


def face(size: tuple[int, int], *places: Place, lift: float = 0.0, ground: int = 0) -> Luma:
    """A picture with a smooth pattern like a face at each place, on a ground of its own."""
    h, w = size
    y, x = np.mgrid[0:h, 0:w].astype(np.float64)
    out = 90 + 20 * np.sin(x / 23 + ground) * np.cos(y / 31 - ground)
    for place in places:
        k = place.eyes / EYES
        c, s = np.cos(place.roll) / k, np.sin(place.roll) / k
        u, v = c * (x - place.x) + s * (y - place.y), c * (y - place.y) - s * (x - place.x)
        skin = sum(
            a * np.sin(u * (0.06 + 0.012 * i) + b) * np.cos(v * (0.05 + 0.014 * i) + c_)
            for i, (a, b, c_) in enumerate(zip(*SKIN[:3, :12], strict=True))
        )
        mouth = -60 * np.exp(-(((u) / 14) ** 2) - ((v - 44) / (3 + 4 * lift)) ** 2)
        inside = 1 / (1 + np.exp((np.hypot(u / 60, (v - 20) / 75) - 1) * 40))
        out += inside * (40 + 14 * skin + mouth - (out - 90))
    return np.clip(out, 0, 255).astype(np.uint8)


class Known:
    """Sight that knows where faces are, and sees their points where they should be."""

    def __init__(self, *places: Place) -> None:
        self.places = places
        self.logit = 3.0
        self.looked = 0
        across = np.linspace(20, 92, 36)
        self.face = np.stack([across, 38 + 0 * across, 0 * across], 1).astype(np.float32)
        self.face[[0, 1, 2, 3], 0] = 26, 46, 66, 86  # eyes level, 40 apart
        self.face[[25, 26, 31], 1] = 80, 84, 108
        self.face[[12, 34, 35], 0] = 56, 10, 102

    def heads(self, luma: Luma) -> list[tuple[Place, float]]:
        self.looked += 1
        return [(place, 0.9) for place in self.places]

    def points(self, crops: list[NDArray[np.float32]]) -> tuple[NDArray, NDArray]:
        return np.stack([self.face] * len(crops)), np.full(len(crops), self.logit, np.float32)


@pytest.mark.parametrize("eyes", [18.0, 40.0, 130.0])
def test_a_face_is_found_again_to_a_part_of_a_pixel(eyes: float) -> None:
    size = (480, 640)
    before = Place(320.0, 200.0, eyes, 0.05)
    after = Place(320 + 0.08 * eyes, 200 - 0.05 * eyes, eyes * 1.02, 0.02)
    template = Template(Cutter(face(size, before), before)(before))
    found = template.find(Cutter(face(size, after, lift=1.0), before), before)
    assert found is not None
    off = np.array([found.x - after.x, found.y - after.y]) / (after.eyes / EYES)
    assert np.hypot(*off) < 0.35, "pixels of a crop"
    assert found.eyes == pytest.approx(after.eyes, rel=0.01)
    assert found.roll == pytest.approx(after.roll, abs=0.01)


def test_another_place_or_picture_is_no_face_that_moved() -> None:
    before = Place(320.0, 200.0, 40.0, 0.0)
    template = Template(Cutter(face((480, 640), before), before)(before))
    away = face((480, 640), Place(380.0, 200.0, 40.0, 0.0))
    found = template.find(Cutter(away, before), before)
    assert found is None or np.hypot(found.x - 380, found.y - 200) > 20


def test_ten_bits_and_rgb_are_cut_as_eight_are() -> None:
    place = Place(100.0, 80.0, 30.0, 0.1)
    eight = face((200, 240), place)
    crop = Cutter(eight, place)(place)
    ten = Cutter(eight.astype(np.uint16) << 2, place)(place)
    assert np.abs(crop - ten).max() < 1e-3
    frame = av.VideoFrame.from_ndarray(np.repeat(eight[..., None], 3, 2), format="bgr24")
    assert np.array_equal(luma(frame), eight)
    planar = av.VideoFrame.from_ndarray(np.repeat(eight[..., None], 3, 2), format="rgb24")
    grey = luma(planar.reformat(format="yuvj420p"))
    assert grey.shape == eight.shape and np.abs(grey.astype(int) - eight).max() <= 2


def watched(tracks: Tracks, sight: Known, path: list[list[Place]], start: float = 0.0) -> None:
    for number, places in enumerate(path):
        sight.places = tuple(places)
        tracks.watch(start + number / 25, face((360, 480), *places))


def test_two_heads_are_followed_each_as_itself() -> None:
    sight = Known()
    tracks = Tracks(sight)
    path = [
        [Place(120 + 0.8 * n, 120.0, 30.0, 0.0), Place(350 - 0.8 * n, 200.0, 36.0, 0.002 * n)]
        for n in range(40)
    ]
    watched(tracks, sight, path)
    one, two = sorted(tracks.heads, key=lambda head: head.place.x)
    assert {one.number, two.number} == {1, 2} and len(one.rows) == 39
    for head, place in ((one, path[-1][0]), (two, path[-1][1])):
        assert np.hypot(head.place.x - place.x, head.place.y - place.y) < 1.5
    assert sight.looked < 8, "heads are looked for now and then only"


def test_of_two_that_ran_into_one_face_the_first_stays() -> None:
    sight = Known()
    tracks = Tracks(sight)
    apart = [Place(150.0, 150.0, 36.0, 0.0), Place(330.0, 150.0, 36.0, 0.0)]
    watched(tracks, sight, [apart] * 3)
    first, second = tracks.heads
    second.place, second.crop, second.template = first.place, first.crop, first.template
    watched(tracks, sight, [apart[:1]] * 2, start=0.12)
    assert [head.number for head in tracks.heads] == [first.number] == [1]


def test_a_cut_ends_all_tracks_and_numbers_are_not_given_again() -> None:
    sight = Known(Place(200.0, 150.0, 36.0, 0.0))
    tracks = Tracks(sight)
    watched(tracks, sight, [[sight.places[0]]] * 5)
    tracks.watch(5 / 25, 255 - face((360, 480), *sight.places, ground=3))
    assert [head.number for head in tracks.heads] == [2] and not tracks.heads[0].rows
    watched(tracks, sight, [[sight.places[0]]] * 2, start=1.0 + GAP_S)
    assert [head.number for head in tracks.heads] == [3], "a gap is as good as a cut"


def test_who_is_lost_keeps_the_number_for_a_while() -> None:
    place = Place(200.0, 150.0, 36.0, 0.0)
    sight = Known(place)
    tracks = Tracks(sight)
    watched(tracks, sight, [[place]] * 10)
    sight.logit = -3.0  # turned away
    here = face((360, 480), place)
    for n in range(10, 10 + int(25 * LOST_S) - 1):
        tracks.watch(n / 25, here)
        assert [head.number for head in tracks.heads] == [1]
    for n in range(10 + int(25 * LOST_S) - 1, 45):
        tracks.watch(n / 25, here)
    assert tracks.heads == []


def test_no_more_than_there_is_time_for() -> None:
    sight = Known(
        *(Place(60.0 + 90 * (k % 4), 60.0 + 100 * (k // 4), 24.0, 0.0) for k in range(12))
    )
    tracks = Tracks(sight)
    tracks.watch(0.0, face((360, 480)))
    assert len(tracks.heads) == MOST


def spoken(seconds: float, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Syllables, 16 kHz, and how open a mouth is that makes them, 25 times a second."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    at = np.cumsum(rng.uniform(0.13, 0.45, int(seconds * 5)))
    loud = sum(
        np.exp(-(((t - a) / 0.06) ** 2)) * s
        for a, s in zip(at, rng.uniform(0.3, 1, len(at)), strict=True)
    )
    tone = sum(np.sin(2 * np.pi * f * t) for f in (160, 480, 1300, 2100, 2900)) / 5
    sound = (0.3 * loud * tone + rng.normal(0, 0.001, len(t))).astype(np.float32)
    return sound, loud[320::640]


def rows_of(opening: NDArray[np.float64], base_motion: float = 0.03) -> list[Row]:
    rng = np.random.default_rng(0)
    base = rng.uniform(0.2, 0.5, 14)
    rows = []
    for n, value in enumerate(opening):
        shape = base + 0.15 * value * np.r_[np.ones(4), np.zeros(2), np.ones(3), np.zeros(5)]
        change = abs(value - opening[max(0, n - 1)])
        rows.append(
            Row(
                (n + 0.5) / 25, 0.04, base_motion + 0.4 * change, 0.02, 0.1 + 0.2 * value,
                (shape + rng.normal(0, 0.004, 14)).astype(np.float32), 0.0, 5.0,
            )
        )  # fmt: skip
    return rows


def bins_of(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    line = SoundTimeline(RATE, len(sound) / RATE + 1)
    line.write(0, sound)
    return voice_bins(line, 0, len(sound) // 640 - 2)


def test_lips_agree_with_their_own_voice_and_no_other() -> None:
    own, other, late, still = [], [], [], []
    for seed in range(6):
        sound, opening = spoken(5.0, seed)
        heard, strange = bins_of(sound), bins_of(spoken(5.0, seed + 50)[0])
        moved = lips.moves(rows_of(opening), 0, len(heard))
        own.append(lips.speaks(moved, heard))
        other.append(lips.speaks(moved, strange))
        late.append(lips.speaks(moved, np.roll(heard, 25, 0)))
        still.append(lips.speaks(lips.moves(rows_of(0 * opening), 0, len(heard)), heard))
    print(np.round([own, other, late, still], 2))
    assert min(own) > 0.6
    assert max(still) < 0.2
    assert np.median(other) < 0.3 and np.median(late) < 0.3


def test_a_camera_half_as_fast_says_the_same() -> None:
    _, opening = spoken(5.0, 1)
    rows = rows_of(opening)
    every, half = (lips.moves(rows[::step], 5, 100) for step in (1, 2))
    assert np.corrcoef(every[:, 3], half[:, 3])[0, 1] > 0.85


def test_a_voice_is_the_same_however_it_comes() -> None:
    sound, _ = spoken(3.0, 2)
    line, voice = SoundTimeline(RATE, 4.0), Voice()
    for start in range(0, len(sound), 700):
        line.write(start, sound[start : start + 700])
        voice.listen(line, min(start + 700, len(sound)))
    assert voice.end == 3 * BINS_PER_S - 1
    assert np.array_equal(voice.bins(0, voice.end), voice_bins(line, 0, voice.end))
    click = np.zeros(RATE, np.float32)
    click[10 * 640 + 320] = 0.5
    assert bins_of(click)[:, 0].argmax() in (10, 11)
    voice.listen(line, RATE)  # a step back
    assert voice.start == voice.end - 1 == BINS_PER_S - 2


LIMITS = Thresholds(glow=0.5, unseen=0.5, sounding=0.6, gate_db=-60.0, gate_margin_db=6.0)


def said(*tracks: Track, heard: float = 0.9, guitar: bool = False, right: float = 0.8):  # type: ignore[no-untyped-def]
    """Two heads, left and right, that the engine takes both for the voice."""
    map_ = np.zeros((8, 16), np.float32)
    map_[2:4, 2:4], map_[2:4, 11:13] = 0.8, right
    kinds = np.zeros((8, 16), np.int32)
    if guitar:
        map_[6, 6:9], kinds[6, 6:9] = 0.9, 1
    named = Named(("voice", "guitar"), kinds, np.array([heard, 0.9 * guitar], np.float32))
    return told(1.0, map_, -20.0, False, LIMITS, lambda peak: "network", named, tracks)


LEFT, RIGHT = (0.1, 0.2, 0.27, 0.55), (0.66, 0.2, 0.84, 0.55)


def test_whose_lips_agree_glows_and_the_other_is_dark() -> None:
    found = said(Track(1, LEFT, 0.05), Track(2, RIGHT, 0.93))
    assert found.state == "sounding" and found.evidence == ("lips",) and found.kinds == ("voice",)
    assert np.hypot(found.peaks[0][0] - 0.75, found.peaks[0][1] - 0.375) < 0.07, "its middle"
    assert found.score == pytest.approx(0.93) and [t.person for t in found.tracks] == [1, 2]
    both = said(Track(1, LEFT, 0.9), Track(2, RIGHT, 0.93))
    assert len(both.peaks) == 2
    assert len(said(Track(1, LEFT, 0.5), Track(2, RIGHT, 0.97)).peaks) == 1, "compared"


def test_no_head_that_agrees_is_unseen_and_what_else_sounds_stays() -> None:
    assert said(Track(1, LEFT, 0.1), Track(2, RIGHT, 0.2)).state == "unseen"
    found = said(Track(1, LEFT, 0.1), Track(2, RIGHT, 0.2), guitar=True)
    assert found.kinds == ("guitar",) and found.state == "sounding"


def test_who_can_not_be_told_is_as_the_map_says_but_unsure() -> None:
    found = said(Track(1, LEFT, None))
    assert found.score == pytest.approx(0.8), "nobody is followed on the right"
    found = said(Track(1, LEFT, None), Track(2, RIGHT, None))
    assert found.state == "unsure" and len(found.peaks) == 2
    likelier = said(Track(1, LEFT, None), Track(2, RIGHT, None), right=0.95)
    assert likelier.state == "unsure" and likelier.peaks[0][0] > 0.5, "of two the likelier one"


def test_lips_light_nothing_where_no_voice_is_heard() -> None:
    found = said(Track(1, LEFT, 0.97), Track(2, RIGHT, 0.2), heard=0.1)
    assert found.evidence == ("network",) and found.score == pytest.approx(0.8)


def test_a_small_head_is_the_cell_it_lies_in() -> None:
    small = (0.51, 0.51, 0.53, 0.54)
    found = said(Track(1, LEFT, 0.1), Track(2, RIGHT, 0.1), Track(3, small, 0.9))
    assert [peak[:2] for peak in found.peaks] == [(8.5 / 16, 4.5 / 8)]
    assert found.evidence == ("lips",) and names(found) == ("person 3",)


def test_the_networks_that_ship_find_the_woman_in_the_demo_and_nobody_else() -> None:
    sight = Sight()
    with av.open(str(FILM)) as film:
        frame = next(film.decode(video=0))
    heads = sight.heads(luma(frame))
    assert heads and heads[0][0].x < 320 and heads[0][0].y < 180
    tracks = Tracks(sight)
    tracks.watch(0.0, luma(frame))
    (head,) = tracks.heads  # a dog's face is looked at, and is none
    assert head.logit > 0 and 30 < head.place.eyes < 70
    left, right = head.place.moved(head.points)[[0, 3], 0]
    assert left < head.place.x < right
    noise = np.random.default_rng(0).integers(0, 255, (360, 640)).astype(np.uint8)
    tracks.watch(5.0, noise)
    tracks.watch(9.0, np.full((360, 640), 90, np.uint8))
    assert tracks.heads == []


class Mouths:
    """Heads whose mouths open as is wanted, in place of `Tracks`."""

    def __init__(self, *opening: NDArray[np.float64]) -> None:
        self.heads = [Head(n, Place(100.0 * n, 80.0, 40.0, 0.0), Known().face, 3.0) for n in (1, 2)]
        for head, opens in zip(self.heads, opening, strict=True):
            head.template = Template(np.zeros((112, 112), np.float32))
            head.rows.extend(rows_of(opens, 0.016))
        self._all = [list(head.rows) for head in self.heads]

    def until(self, time: float) -> None:
        for head, rows in zip(self.heads, self._all, strict=True):
            head.rows.clear()
            head.rows.extend(row for row in rows if row.time <= time)


def test_who_takes_over_is_not_held_to_what_was_heard_before() -> None:
    """One speaks for four seconds and is still, then the other; half the time nobody does."""
    sound, opening = spoken(8.0, 3)
    half = len(opening) // 2
    first, second = opening.copy(), opening.copy()
    first[half:], second[:half] = 0, 0
    mouths = Mouths(first, second)
    speakers = Speakers(WindowSpec(RATE, RATE, 800, 0), mouths)  # type: ignore[arg-type]
    line = SoundTimeline(RATE, 10.0)
    line.write(0, sound)
    picture = av.VideoFrame(320, 160, "gray")
    said = {}
    for number in range(1, 200):
        mouths.until(number / 25)
        speakers.watch(number / 25, picture, line)
        said[number / 25] = [track.speaking for track in speakers.tracks]
    one, two = said[4.0]
    assert one is not None and one > 0.6 and two is not None and two < 0.5
    one, two = said[5.4]
    assert one is not None and one < 0.5, "still within a second and a half"
    assert two is None or two > 0.5, "not held to what was heard while it was still"
    one, two = said[6.6]
    assert one is not None and one < 0.5 and two is not None and two > 0.6
