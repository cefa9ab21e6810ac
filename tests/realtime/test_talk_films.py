"""Who spoke when, of films and live: from what lips say to the files that are named so."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from helpers import ToneEngine, faults, frame_times, make_video, switching
from talking import FILM_S, Said, Talking, VoiceEngine, turns
from test_cli import avsl

from avsl.engines import Localization, UserError
from avsl.realtime import films
from avsl.realtime.drawing import label
from avsl.realtime.films import annotate
from avsl.realtime.sinks.sink import Sink
from avsl.realtime.sinks.talk import LINES
from avsl.realtime.sources.frames import Frame

SILENT_FROM = 2.5
TURNS = (1, 0.4, 1.4), (2, 1.0, 4.0)


@pytest.fixture
def film(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """In which two persons speak, and from 2.5 s on nothing is heard."""
    monkeypatch.setattr(films, "speakers_for", lambda spec: Said(*TURNS))
    wave = switching((SILENT_FROM, 440), (FILM_S, 0))
    return make_video(tmp_path / "my film.mp4", seconds=FILM_S, waves=(wave,))


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("suffix", LINES)
def test_a_film(film: Path, tmp_path: Path, suffix: str, every: int) -> None:
    events = tmp_path / f"talk{suffix}"
    annotate(film, tmp_path / "out.mp4", VoiceEngine(), every=every, events=events)
    (one, *first), (two, *second) = turns(events)
    assert (one, two) == ("person 1", "person 2")
    assert first == pytest.approx([0.4, 1.4], abs=every / 25)
    # Until no voice is heard any more; of what was, the engine hears the last tenth of a second.
    assert second == pytest.approx([1.0, SILENT_FROM + 0.1], abs=every / 25 + 0.06)
    assert len(frame_times(tmp_path / "out.mp4")) == 100
    assert {p.name for p in tmp_path.iterdir()} == {film.name, "out.mp4", events.name}


def test_the_names_of_two_are_in_the_film_while_events_say_voice(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: set[str] = set()
    draw = label.names

    def noted(found: Localization) -> tuple[str, ...]:
        drawn.update(draw(found))
        assert set(found.kinds) <= {"voice"}
        return draw(found)

    monkeypatch.setattr(label, "names", noted)
    annotate(film, tmp_path / "out.mp4", VoiceEngine())
    assert drawn == {"person 1", "person 2"}


def test_what_was_said_until_it_was_stopped(film: Path, tmp_path: Path) -> None:
    stop = threading.Event()
    report = annotate(
        film,
        tmp_path / "out.mp4",
        VoiceEngine(),
        events=tmp_path / "talk.rttm",
        progress=lambda done: stop.set() if done.frames == 30 else None,
        stop=stop,
    )
    assert report.partial
    assert turns(tmp_path / "talk.rttm") == [("person 1", 0.4, 1.2)]
    assert {p.name for p in tmp_path.iterdir()} == {film.name, "out.partial.mp4", "talk.rttm"}


def test_what_exists_is_kept_unless_asked(film: Path, tmp_path: Path) -> None:
    events, out = tmp_path / "talk.srt", tmp_path / "out.mp4"
    events.write_text("precious")
    with pytest.raises(UserError, match=r"talk\.srt: exists already; --overwrite"):
        annotate(film, out, VoiceEngine(), events=events)
    assert events.read_text() == "precious" and not out.exists()
    annotate(film, out, VoiceEngine(), events=events, overwrite=True)
    assert len(turns(events)) == 2
    assert len([*tmp_path.iterdir()]) == 3


def test_into_a_pipe_by_its_name(film: Path, tmp_path: Path) -> None:
    pipe, read = tmp_path / "talk.rttm", list[str]()
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    annotate(film, tmp_path / "out.mp4", VoiceEngine(), events=pipe)
    reader.join(10)
    assert read[0].count("SPEAKER my_film 1 ") == 2


def test_the_last_words_that_cannot_be_written(film: Path, tmp_path: Path) -> None:
    """In a short film all that there is comes at the end, and then there is no room for it."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    events, short = tmp_path / "talk.rttm", make_video(tmp_path / "short.mp4", seconds=1.2)
    events.symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"talk\.rttm: can't be written; No space.*the film is in"):
        annotate(short, tmp_path / "out.mp4", VoiceEngine(), events=events)
    assert len(frame_times(tmp_path / "out.mp4")) == 30


@pytest.mark.parametrize("name", ["talk.rttm", "talk.SRT"])
def test_an_engine_without_voices_is_one_line(tmp_path: Path, name: str) -> None:
    make_video(tmp_path / "film.mp4")
    more = ("--engine", "motion", "--events", name, "--overwrite")
    done = avsl("film.mp4", "-o", "out.mp4", *more, cwd=tmp_path)
    assert done.returncode == 2
    assert faults(done.stderr) == [
        f"error: {name}: motion hears no voices, so who speaks isn't known; take another engine, "
        "or write .jsonl"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_of_a_film_nothing_is_opened_then(
    film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(films, "open_video", None)
    with pytest.raises(UserError, match=r"talk\.rttm: tone hears no voices"):
        annotate(film, tmp_path / "out.mp4", ToneEngine(), events=tmp_path / "talk.rttm")


def test_live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each turn can be read when it is over, in the file's own place; the last one when all is."""
    pytest.importorskip("cv2", reason="live needs OpenCV and its libGL")
    from avsl.realtime import live

    events, localized, said = tmp_path / "talk.rttm", threading.Event(), Said(*TURNS)

    class Watched(Sink):
        def localized(self, frame: Frame, found: Localization, tinted: object = None) -> None:
            localized.set()

    def after(time: float) -> None:
        assert localized.wait(10)
        localized.clear()
        if time < 1.4 + 0.5:
            assert not events.read_text()
        elif time == 3.0:
            for _ in range(1000):  # it is written in a thread of its own
                if events.read_text():
                    break
                threading.Event().wait(0.01)
            assert turns(events) == [("person 1", 0.4, 1.4)]

    monkeypatch.setattr(live, "speakers_for", lambda spec: said)
    monkeypatch.setattr(said, "watch", lambda time, luma, sound: None)
    options = live.LiveOptions(window=False, duration=60, events=events)
    live.run_live(options, VoiceEngine(), Talking(said.tell, after), [Watched()])
    assert turns(events) == [("person 1", 0.4, 1.4), ("person 2", 1.0, 3.6)]


def test_live_without_voices_is_said_before_a_camera_is_opened(tmp_path: Path) -> None:
    pytest.importorskip("cv2", reason="live needs OpenCV and its libGL")
    from avsl.realtime.live import LiveOptions, run_live

    source, events = Talking(float, float), tmp_path / "talk.rttm"
    options = LiveOptions(window=False, events=events, record=tmp_path / "seen.mkv")
    with pytest.raises(UserError, match=r"talk\.rttm: tone hears no voices"):
        run_live(options, ToneEngine(), source)
    assert not source.opened and not [*tmp_path.iterdir()]
