"""The sound of films as they are found: none is lost, and the right one is heard."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from helpers import ToneEngine, Wave, make_video, switching, tone

from avsl.engines import UserError
from avsl.realtime.films import annotate
from avsl.realtime.sources.film_sound import Sound

RATE = 16_000


def events_of(source: Path) -> list[dict[str, Any]]:
    path = source.with_suffix(".jsonl")
    annotate(source, source.with_suffix(".out.mkv"), ToneEngine(), events=path, overwrite=True)
    return [json.loads(line) for line in path.read_text().splitlines()][1:]


def sides(events: list[dict[str, Any]], start: float, stop: float) -> set[str]:
    """Where the peaks are, of the pictures between two times: left, right or dark."""
    found = [event["peaks"] for event in events if start <= event["time"] < stop]
    return {"dark" if not p else "left" if p[0][0] < 0.5 else "right" for p in found}


def heard(path: Path, seconds: float, **more: Any) -> tuple[np.ndarray, Sound]:
    sound = Sound(path, RATE, seconds + 1, **more)
    end = round(seconds * RATE)
    samples = sound.listen(seconds).read(end, end)
    sound.close()
    return samples, sound


def channels(*waves: Wave) -> Wave:
    return lambda t: np.stack([wave(t) for wave in waves])


def none(t: np.ndarray) -> np.ndarray:
    return np.zeros_like(t)


def turned(wave: Wave) -> Wave:
    return lambda t: -wave(t)


LOW_THEN_HIGH = switching((1.0, 400), (2.0, 2000), (3.0, 0))
LAYOUTS = {
    "mono": LOW_THEN_HIGH,
    "the same in both": channels(LOW_THEN_HIGH, LOW_THEN_HIGH),
    "opposite phase": channels(LOW_THEN_HIGH, turned(LOW_THEN_HIGH)),
    "left alone": channels(LOW_THEN_HIGH, none),
    "right alone": channels(none, LOW_THEN_HIGH),
    "surround, centre alone": channels(none, none, LOW_THEN_HIGH, none, none, none),
    "surround, behind, opposite": channels(
        none, none, none, none, LOW_THEN_HIGH, turned(LOW_THEN_HIGH)
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_map_follows_what_is_in_any_channel(tmp_path: Path, name: str) -> None:
    """Left for the low tone, right for the high one, dark in the silence at the end."""
    wave = LAYOUTS[name]
    count = np.atleast_2d(wave(np.zeros(1))).shape[0]
    layout = {1: "mono", 2: "stereo", 6: "5.1"}[count]
    path = make_video(tmp_path / "film.mp4", seconds=3.0, waves=(wave,), layout=layout)
    events = events_of(path)
    assert sides(events, 0.3, 1.0) == {"left"}
    assert sides(events, 1.4, 2.0) == {"right"}
    assert sides(events, 2.7, 3.0) == {"dark"}


# Which track.

LOW, HIGH = tone(400), tone(2000)
TRACKS = {
    "one": ((LOW,), "left", []),
    "both sound": ((LOW, HIGH), "left", []),
    "the first is silent": ((none, HIGH), "right", ["track 1 is silent; sound track 2 is heard"]),
    "the last of three": ((none, none, LOW), "left", ["track 1 is silent; sound track 3"]),
    "all silent": ((none, none), "dark", ["sound track 1 is silent; nothing is heard"]),
    "one, silent": ((none,), "dark", []),
}


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("name", TRACKS)
def test_the_first_track_that_sounds_is_heard(tmp_path: Path, name: str, suffix: str) -> None:
    waves, side, said = TRACKS[name]
    path = make_video(tmp_path / f"film{suffix}", seconds=1.5, waves=waves)
    assert sides(events_of(path), 0.5, 1.5) == {side}
    _, sound = heard(path, 1.4)
    assert len(sound.notes) == len(said)
    assert all(part in note for part, note in zip(said, sound.notes, strict=True))


def test_a_later_track_gives_way_as_soon_as_one_before_it_sounds(tmp_path: Path) -> None:
    late = switching((2.0, 0), (9.0, 400))
    path = make_video(tmp_path / "film.mkv", seconds=4.0, waves=(late, HIGH), sound_codec="flac")
    events = events_of(path)
    assert sides(events, 0.5, 1.9) == {"right"}
    assert sides(events, 2.5, 4.0) == {"left"}
    _, sound = heard(path, 3.9)
    (note,) = sound.notes
    assert re.search(r"track 1 is silent until (1\.9|2\.0) s; until then track 2 is heard", note)


def test_a_track_that_begins_with_the_film_wins_over_one_that_was_first_in_the_file(
    tmp_path: Path,
) -> None:
    """All of one track lies before all of the other: nothing but the order of tracks counts."""
    path = make_video(tmp_path / "film.mp4", seconds=4.0, waves=(LOW, HIGH), sound_first=True)
    assert sides(events_of(path), 0.5, 4.0) == {"left"}


@pytest.mark.parametrize(("track", "side"), [(1, "dark"), (2, "left"), (3, "right")])
def test_a_track_can_be_chosen(tmp_path: Path, track: int, side: str) -> None:
    path = make_video(tmp_path / "film.mkv", seconds=1.5, waves=(none, LOW, HIGH))
    samples, sound = heard(path, 1.4, track=track)
    assert sound.notes == []
    pitch = np.abs(np.fft.rfft(samples[RATE // 2 : RATE])).argmax() * 2
    assert pitch == {"dark": 0, "left": 400, "right": 2000}[side]


def test_a_track_that_is_not_there(tmp_path: Path) -> None:
    path = make_video(tmp_path / "film.mkv", waves=(LOW, HIGH))
    for track in (0, 3, -1):
        with pytest.raises(UserError, match=f"no sound track {track}; it has 2"):
            Sound(path, RATE, 1.0, track)
    mute = make_video(tmp_path / "mute.mkv", waves=())
    with pytest.raises(UserError, match="no sound track 1; it has none"):
        Sound(mute, RATE, 1.0, 1)


def unknown_first(path: Path) -> Path:
    """The first sound track is of a codec that nobody knows."""
    make_video(path, seconds=1.5, waves=(LOW, HIGH))
    path.write_bytes(path.read_bytes().replace(b"mp4a", b"zzzz", 1).replace(b"esds", b"zzzz", 1))
    with av.open(str(path)) as container:
        assert [s.codec_context is None for s in container.streams.audio] == [True, False]
    return path


def test_a_first_track_that_can_t_be_decoded(tmp_path: Path) -> None:
    path = unknown_first(tmp_path / "film.mp4")
    assert sides(events_of(path), 0.5, 1.5) == {"right"}
    _, sound = heard(path, 1.0)
    assert sound.notes == ["sound track 1 can't be decoded; sound track 2 is heard"]
    with pytest.raises(UserError, match="track 1 is of a codec that this program can't decode"):
        Sound(path, RATE, 1.0, 1)


# Samples that are none.


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38])
def test_samples_that_are_no_numbers_are_silence_without_a_word(tmp_path: Path, bad: float) -> None:
    def wave(t: np.ndarray) -> np.ndarray:
        out = tone(400)(t)
        out[(t > 0.5) & (t < 1.5)] = bad
        return out

    path = make_video(tmp_path / "film.mkv", seconds=3.0, waves=(wave,), sound_codec="pcm_f32le")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        events = events_of(path)
        samples, _ = heard(path, 2.9)
    assert sides(events, 2.0, 3.0) == {"left"}
    assert np.isfinite(samples).all()
    assert not samples[round(0.6 * RATE) : round(1.4 * RATE)].any()


@pytest.mark.parametrize(
    "codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_mulaw", "pcm_alaw", "adpcm_ms", "wmav2"]
)
@pytest.mark.parametrize("layout", ["mono", "stereo"])
def test_layouts_without_a_name_are_heard(tmp_path: Path, codec: str, layout: str) -> None:
    """AVI and Windows Media name no layout; what was opposite is heard there as well."""
    name = "film.wmv" if codec == "wmav2" else "film.avi"
    low = tone(400)
    path = make_video(
        tmp_path / name,
        codec="wmv2" if codec == "wmav2" else "mpeg4",
        seconds=1.5,
        layout=layout,
        waves=(low if layout == "mono" else channels(low, turned(low)),),
        sound_codec=codec,
        sound_rate=44_100,
    )
    samples, sound = heard(path, 1.4)
    assert np.abs(np.fft.rfft(samples[RATE // 2 : RATE])).argmax() * 2 == 400
    assert sound.faults.packets == 0
