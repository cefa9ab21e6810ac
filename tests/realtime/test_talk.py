"""Who spoke when: turns out of what the lips of those in view say, as RTTM and as subtitles, and
names of persons in the picture."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import ToneEngine
from talking import BOXES, Heard, VoiceEngine, at, turns

from avsl.engines import Localization, UserError, describe
from avsl.engines.engine import knows_voices
from avsl.engines.localization import Evidence, Named, Peak, Track
from avsl.engines.speakers.answer import told
from avsl.realtime.drawing import label
from avsl.realtime.drawing.steady import Steady
from avsl.realtime.sinks.events import EventWriter
from avsl.realtime.sinks.talk import LINES, Talk


def written(path: Path, moments: Iterator[Localization] | list[Localization]) -> list[Heard]:
    writer = EventWriter(path, VoiceEngine.spec, "a film.mp4")
    for moment in moments:
        writer.write(moment)
    writer.close()
    return sorted(turns(path), key=lambda turn: turn[1])


def speech(
    rate: float, until: float, *spans: tuple[int, float, float], start: float = 0.0
) -> Iterator[Localization]:
    """At an even rate, all persons that there are in view."""
    for k in range(round((until - start) * rate)):
        time = start + k / rate
        now = {n for n, begin, end in spans if begin - 1e-6 <= time < end - 1e-6}
        yield at(time, {n: 0.9 if n in now else 0.1 for n, _, _ in spans})


def test_the_files_are_as_their_readers_want_them(tmp_path: Path) -> None:
    """Two at once, one in the other's words; written as they end; hours count."""
    spans = (1, 3601.0, 3604.0), (2, 3602.0, 3603.0)
    for suffix in (".rttm", ".SRT"):
        written(tmp_path / f"talk{suffix}", speech(25, 3605, *spans, start=3600))
    assert (tmp_path / "talk.rttm").read_text() == (
        "SPEAKER a_film 1 3602.000 1.000 <NA> <NA> person2 <NA> <NA>\n"
        "SPEAKER a_film 1 3601.000 3.000 <NA> <NA> person1 <NA> <NA>\n"
    )
    assert (tmp_path / "talk.SRT").read_text() == (
        "1\n01:00:02,000 --> 01:00:03,000\nperson 2\n\n"
        "2\n01:00:01,000 --> 01:00:04,000\nperson 1\n\n"
    )


@pytest.mark.parametrize("suffix", LINES)
@pytest.mark.parametrize("rate", [5, 12.5, 30_000 / 1001, 60])
def test_two_at_once_at_any_rate(tmp_path: Path, suffix: str, rate: float) -> None:
    spans = (1, 1.0, 4.0), (2, 2.0, 5.0), (1, 6.0, 7.0)
    found = written(tmp_path / f"talk{suffix}", speech(rate, 7.0, *spans))
    assert [who for who, _, _ in found] == ["person 1", "person 2", "person 1"]
    for (_, *ours), (_, *theirs) in zip(found, spans, strict=True):
        assert ours == pytest.approx(theirs, abs=1 / rate + 0.001)


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        ([(1.0, 2.0), (2.45, 3.0)], [(1.0, 3.0)]),
        ([(1.0, 2.0), (2.5, 3.0)], [(1.0, 2.0), (2.5, 3.0)]),
        ([(1.0, 1.2)], []),
        ([(1.0, 1.25)], [(1.0, 1.25)]),
        ([(1.0, 1.1), (1.5, 1.6)], [(1.0, 1.6)]),  # a gap is closed before what is short goes
        ([(0.0, 1.0)], [(0.0, 1.0)]),
        ([(3.0, 4.0)], [(3.0, 4.0)]),  # the film ends as somebody speaks
        ([(3.5, 3.7), (3.9, 4.0)], [(3.5, 4.0)]),
    ],
)
def test_pauses_are_closed_and_what_is_short_is_none(
    tmp_path: Path, spans: list[tuple[float, float]], said: list[tuple[float, float]]
) -> None:
    moments = speech(20, 4.0, *((1, *span) for span in spans))
    found = written(tmp_path / "talk.rttm", moments)
    assert found == [("person 1", *span) for span in said]


def test_after_a_cut_all_are_others(tmp_path: Path) -> None:
    moments = [at(k / 25, {1 if k < 50 else 3: 0.9, 2 if k < 50 else 4: 0.1}) for k in range(100)]
    assert written(tmp_path / "talk.rttm", moments) == [("person 1", 0, 2), ("person 3", 2, 4)]


def test_over_a_gap_of_the_stream_nobody_goes_on(tmp_path: Path) -> None:
    """The camera was pulled out for a minute; then somebody's clock was set back."""
    times = [*np.arange(0, 2, 0.1), *np.arange(60, 62, 0.1), *np.arange(30, 32, 0.1)]
    found = written(tmp_path / "talk.rttm", [at(float(time), {1: 0.9}) for time in times])
    assert found == [("person 1", 0, 2.9), ("person 1", 30, 32), ("person 1", 60, 62)]


@pytest.mark.parametrize(
    ("change", "who"),
    [
        ({}, [1]),
        ({"state": "silent"}, []),
        ({"state": "unseen"}, [1]),  # off the map's edge
        ({"heard": (("dog", 0.9), ("voice", 0.2))}, []),
        ({"heard": (("dog", 0.9),)}, []),
        ({"heard": (("dog", 0.9),), "evidence": ("lips",)}, [1]),  # the fourth of four kinds
        ({"tracks": ()}, []),
        ({"tracks": tuple(Track(n, BOXES[n], p) for n, p in ((1, 0.61), (2, 0.65)))}, [1, 2]),
        ({"tracks": tuple(Track(n, BOXES[n], p) for n, p in ((1, 0.61), (2, 0.95)))}, [2]),
        ({"tracks": tuple(Track(n, BOXES[n], p) for n, p in ((1, 0.59), (2, None)))}, []),
    ],
)
def test_who_speaks_at_a_moment(tmp_path: Path, change: dict[str, object], who: list[int]) -> None:
    moment = replace(at(0.0, {1: 0.9, 2: 0.1}), **change)  # type: ignore[arg-type]
    found = written(tmp_path / "talk.rttm", [replace(moment, time=k / 10) for k in range(10)])
    assert [name for name, _, _ in found] == [f"person {n}" for n in who]


def test_who_is_written_is_who_glows(tmp_path: Path) -> None:
    """Of what lips say, the map and the turns are one answer."""
    boxes = [(x, 0.2, x + 0.25, 0.6) for x in (0.0, 0.375, 0.75)]
    rng = np.random.default_rng(2)
    for _ in range(200):
        tracks = tuple(Track(n, box, float(rng.uniform(0.3, 1))) for n, box in enumerate(boxes, 1))
        heard = np.array([rng.uniform(0, 1), 0], np.float32)
        named = Named(("voice", "dog"), np.zeros((8, 8), np.int32), heard)
        dark = np.full((8, 8), 0.02, np.float32)
        by: Callable[[Peak], Evidence] = lambda peak: "network"  # noqa: E731
        found = told(0.0, dark, -20.0, False, VoiceEngine.spec.thresholds, by, named, tracks)
        lit = {t.person for t in tracks if any(t.away(peak) == 0 for peak in found.peaks)}
        talk = Talk(LINES[".rttm"], "x")
        text = "".join(talk.add(replace(found, time=k / 10)) for k in range(5)) + talk.end()
        assert {int(line.split()[7][6:]) for line in text.splitlines()} == lit


def test_a_day_is_written_as_it_passes_and_nothing_of_it_kept() -> None:
    talk, sizes, count = Talk(LINES[".srt"], "camera 0"), [], 0
    for k in range(40_000):  # somebody new each two seconds, who speaks for one
        text = talk.add(at(k / 10, {1 + k // 20: 0.9 if k % 20 < 10 else 0.1}))
        count += text.count("-->")
        assert count == (k + 5) // 20  # half a second after each turn
        if k % 10_000 == 9_999:
            sizes.append(len(pickle.dumps(talk)))
    assert max(sizes) - min(sizes) < 20


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    writer = EventWriter(tmp_path / "talk.rttm", VoiceEngine.spec, "film.mp4")
    for moment in speech(25, 1.0, (1, 0.0, 1.0)):
        writer.write(moment)
    writer._file.close()
    writer._file = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115
    with pytest.raises(UserError, match="No space left"):
        writer.close()
    assert not [*tmp_path.iterdir()]


def test_an_engine_without_voices_gives_no_turns(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"talk\.srt: tone hears no voices"):
        EventWriter(tmp_path / "talk.srt", ToneEngine.spec, "film.mp4")
    assert not [*tmp_path.iterdir()]


def test_who_hears_voices() -> None:
    spec = VoiceEngine.spec
    assert knows_voices(spec)
    assert not knows_voices(replace(spec, unheard=("voice",)))
    assert not knows_voices(replace(spec, kinds=("dog",)))


# Names in the picture.


def glowing(*spots: tuple[float, float, str, Evidence], **more: object) -> Localization:
    """Peaks at x, y in 0..1, each with its kind and what carried it."""
    map_ = np.full((20, 20), 0.02, np.float32)
    for x, y, _, _ in spots:
        map_[int(20 * y), int(20 * x)] = 0.9
    found = describe(0.0, map_, -20.0, False, VoiceEngine.spec.thresholds)
    of = {(int(20 * x), int(20 * y)): (kind, by) for x, y, kind, by in spots}
    pairs = [of[int(20 * x), int(20 * y)] for x, y, _ in found.peaks]
    kinds, evidence = tuple(kind for kind, _ in pairs), tuple(by for _, by in pairs)
    return replace(found, kinds=kinds, evidence=evidence, heard=(("voice", 0.9),), **more)  # type: ignore[arg-type]


def test_a_voice_by_lips_has_the_person_s_name() -> None:
    left, right = (0.05, 0.2, 0.3, 0.6), (0.6, 0.2, 0.9, 0.6)
    spots = (0.15, 0.3, "voice", "lips"), (0.7, 0.3, "voice", "lips"), (0.5, 0.9, "dog", "network")
    found = glowing(*spots, tracks=(Track(7, left, 0.9), Track(2, right, 0.8)))
    shown = Steady(VoiceEngine.spec.thresholds)(found, 0.5, 0.35)
    assert {name.text: name.box[0] for name in shown.names} == {
        "person 7": pytest.approx(0.15),
        "person 2": pytest.approx(0.7),
        "dog": pytest.approx(0.5),
    }
    assert set(found.kinds) == {"voice", "dog"}
    other = label.names(found.mirrored())
    assert sorted(other) == sorted(label.names(found)) and "voice" not in other


def test_a_voice_that_lips_did_not_make_is_a_voice() -> None:
    box = (0.05, 0.2, 0.3, 0.6)
    unknown = glowing((0.15, 0.3, "voice", "network"), tracks=(Track(1, box, 0.9),))
    assert label.names(unknown) == ("voice",)
    beside = (0.25, 0.5, "dog", "network")
    both = glowing((0.15, 0.3, "voice", "lips"), beside, tracks=(Track(1, box, 0.9),))
    assert sorted(label.names(both)) == ["dog", "person 1"]
    # In two boxes at once, it is who speaks; and there the surer one.
    for said, who in (((0.1, 0.9), "person 2"), ((0.9, 0.7), "person 1")):
        tracks = tuple(Track(n, box, p) for n, p in zip((1, 2), said, strict=True))
        assert label.names(glowing((0.15, 0.3, "voice", "lips"), tracks=tracks)) == (who,)
