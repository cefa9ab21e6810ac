"""The film of --demo: it is what its script says, and says whose its parts are."""

import itertools
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import make_video

from avsl.demos.film import compose, material
from avsl.demos.film.animate import animate
from avsl.realtime.demo import FILM, TITLE

FREE = {"CC0 1.0", "CC BY 3.0", "CC BY 4.0", "public domain"}


def test_the_film_is_small_and_what_players_play() -> None:
    assert FILM.stat().st_size < 2_000_000
    with av.open(str(FILM)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert (video.width, video.height) == material.SIZE
        assert video.pix_fmt == "yuv420p" and video.average_rate == compose.RATE
        count = sum(1 for _ in container.decode(video=0))
        assert count == round(material.SECONDS * compose.RATE)


def test_it_says_whose_its_parts_are() -> None:
    assert (FILM.parent / "SOURCES.md").read_text("utf-8") == compose.card()
    with av.open(str(FILM)) as container:
        assert container.metadata["title"] == TITLE
        said = container.metadata["comment"]
    for credit in material.CREDITS.values():
        assert credit.licence in FREE
        for part in (credit.author, credit.source, credit.licence):
            assert part in said and part in compose.card()


def test_it_is_silent_first_and_then_all_sound_in_turn() -> None:
    with av.open(str(FILM)) as container:
        blocks = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    sound = np.concatenate(blocks)
    rate = compose.SOUND_RATE

    def level(start: float, stop: float) -> float:
        part = sound[round(start * rate) : round(stop * rate)]
        return 20 * float(np.log10(np.sqrt(np.mean(np.square(part))) + 1e-9))

    assert level(0.05, 0.4) < -60
    for take in material.TAKES:
        stop = min(take.at + take.seconds, material.SECONDS)
        assert level(take.at, stop) > -32, take.sound
    assert np.abs(sound).max() < 1


def test_panels_keep_apart_and_inside() -> None:
    width, height = material.SIZE
    for scene in material.SCENES:
        for panel in scene.panels:
            left, top, w, h = panel.place
            assert left >= 0 and top >= 0 and left + w <= width and top + h <= height
        for (a, b, c, d), (e, f, g, h) in itertools.combinations(
            [panel.place for panel in scene.panels], 2
        ):
            assert a + c <= e or e + g <= a or b + d <= f or f + h <= b


def test_a_look_is_resampled_in_its_place() -> None:
    photo = np.random.default_rng(0).random((40, 60, 3)).astype(np.float32)
    assert compose.look(photo, 0.5, 0.5, 1.0, 60, 40) == pytest.approx(photo, abs=1e-5)
    y, x = np.mgrid[0:40, 0:60].astype(np.float32)
    ramp = np.stack((x, y, x + y), -1)
    seen = compose.look(ramp, 0.75, 0.5, 0.5, 60, 40)
    assert seen[20, 30, 0] == pytest.approx(44.75, abs=0.3)
    assert seen[20, 30, 1] == pytest.approx(19.75, abs=0.3)
    corner = compose.look(ramp, 1.0, 1.0, 0.5, 60, 40)  # moved inside
    assert corner[-1, -1, 0] == pytest.approx(59, abs=0.5)


def test_it_is_composed_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(material, "SECONDS", 0.7)
    rng = np.random.default_rng(1)
    for path in set(compose.files(tmp_path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".mp4":
            make_video(
                path, size=(300, 200), paint=lambda n, w, h: np.full((h, w, 3), 200, np.uint8)
            )
            continue
        with av.open(str(path), "w", format="ogg" if path.suffix == ".ogg" else "image2") as out:
            if path.suffix == ".ogg":
                stream = out.add_stream("libopus", rate=48_000, layout="mono")
                noise = rng.normal(0, 0.1, (1, 96_000)).astype(np.float32)
                frame = av.AudioFrame.from_ndarray(noise, format="flt", layout="mono")
                frame.sample_rate = 48_000
            else:
                stream = out.add_stream("mjpeg", rate=1)
                stream.width, stream.height, stream.pix_fmt = 300, 200, "yuvj420p"
                grey = np.full((200, 300, 3), 200, np.uint8)
                frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            out.mux([*stream.encode(frame), *stream.encode(None)])
    compose.compose(tmp_path, tmp_path / "out")
    with av.open(str(tmp_path / "out" / "demo.mp4")) as container:
        shown = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(shown) == round(0.7 * compose.RATE)
    for panel in material.SCENES[0].panels:
        left, top, w, h = panel.place
        assert abs(int(shown[5][top + h // 2, left + w // 2].mean()) - 200) < 8
    assert shown[5][0, 0].max() < 40
    assert (tmp_path / "out" / "SOURCES.md").read_text("utf-8") == compose.card()


def test_a_film_in_the_film_goes_back_until_it_begins_again() -> None:
    count = 3 * compose.FILM_RATE
    shown = [compose.at(n / compose.FILM_RATE, count) for n in range(8 * compose.FILM_RATE)]
    assert shown[:count] == list(range(count)) and shown[count] == count - 2
    assert shown[round(material.AGAIN * compose.FILM_RATE)] == 0
    assert max(abs(a - b) for a, b in itertools.pairwise(shown[: 4 * compose.FILM_RATE])) == 1


def test_a_film_becomes_an_animation(tmp_path: Path) -> None:
    film = make_video(tmp_path / "f.mp4", seconds=1.0, size=(320, 180))
    animate(film, tmp_path / "a.webp")
    data = (tmp_path / "a.webp").read_bytes()
    assert data[:4] == b"RIFF" and data[8:15] == b"WEBPVP8"
    header = data.index(b"ANIM")
    assert int.from_bytes(data[header + 12 : header + 14], "little") == 0, "for ever"
    frames = [i for i in range(len(data)) if data[i : i + 4] == b"ANMF"]
    assert len(frames) == 13
    times = [int.from_bytes(data[i + 20 : i + 23], "little") for i in frames]
    assert sum(times) == pytest.approx(1000, abs=90)
