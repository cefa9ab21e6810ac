"""A cast made of a person's own cut-outs."""

from pathlib import Path

import av
import numpy as np
import pytest

from avsl.demos.scenes import RATE, make_scene, recordings
from avsl.demos.scenes.cutouts import load_cutouts
from avsl.train.data.dataset import write_jpeg, write_wav


def write_png(path: Path, rgba: np.ndarray) -> None:
    codec = av.CodecContext.create("png", "w")
    codec.height, codec.width = rgba.shape[:2]
    codec.pix_fmt, codec.framerate = "rgba", 1
    frame = av.VideoFrame.from_ndarray(rgba, format="rgba")
    path.write_bytes(b"".join(bytes(packet) for packet in codec.encode(frame)))


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A red ball that hums at 300 Hz, a blue bar that hums at 2 kHz, one grey place."""
    y, x = np.mgrid[-1:1:80j, -1:1:80j]
    shapes = {
        "ball": (x**2 + y**2 < 0.8, (255, 0, 0), 300),
        "bar": (np.abs(y) < 0.3, (0, 0, 255), 2000),
    }
    for name, (inside, colour, pitch) in shapes.items():
        (tmp_path / name).mkdir()
        rgba = np.zeros((80, 80, 4), np.uint8)
        rgba[inside] = (*colour, 255)
        write_png(tmp_path / name / "one.png", rgba)
        t = np.arange(RATE) / RATE
        write_wav(tmp_path / name / "one.wav", np.sin(2 * np.pi * pitch * t) * 0.5, RATE)
    (tmp_path / "backgrounds").mkdir()
    write_jpeg(tmp_path / "backgrounds" / "room.jpg", np.full((120, 160, 3), 90, np.uint8))
    return tmp_path


def test_scenes_of_cutouts_look_and_sound_like_them(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recordings, "_at_another_speed", lambda rng, samples: samples)
    cast = load_cutouts(mine)
    assert [family.name for family in cast.families] == ["ball", "bar"]
    for index in range(8):
        scene = make_scene(3, index, kind="one", count=2, cast=cast)
        picture, masks = scene.render(0, 180, round(180 * scene.aspect))
        for thing, mask in zip(scene.things, masks, strict=True):
            inside = picture[mask > 0.99]
            if len(inside) > 50:
                channel = 0 if thing.family == "ball" else 2
                assert inside[:, channel].mean() > 200
                assert inside[:, 2 - channel].mean() < 40
        (who,) = scene.sounding(0)
        spectrum = np.abs(np.fft.rfft(scene.sound(-1, 1)))
        expected = 300 if scene.things[who].family == "ball" else 2000
        assert spectrum.argmax() == pytest.approx(expected, abs=3)


def test_voices_are_a_little_faster_or_slower_each_time() -> None:
    t = np.arange(RATE) / RATE
    tone = np.sin(2 * np.pi * 1000 * t).astype(np.float32)
    voices = [recordings.recorded_voice(np.random.default_rng(i), [tone]) for i in range(12)]
    pitches = [np.abs(np.fft.rfft(voice(t))).argmax() for voice in voices]
    assert len(set(pitches)) > 6
    assert 700 < min(pitches) < 1000 < max(pitches) < 1300


def test_background_is_the_person_s_own(mine: Path) -> None:
    scene = make_scene(3, 0, count=1, cast=load_cutouts(mine))
    import dataclasses

    empty = dataclasses.replace(scene, things=(), strangers=())
    picture, _ = empty.render(0, 90, 160)
    assert picture.std() < 3, "a grey room is grey, whatever the light"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: (p / "ball" / "one.wav").unlink(), "no sounds"),
        (lambda p: (p / "ball" / "one.png").unlink(), "no PNGs"),
        (lambda p: (p / "ball" / "one.png").write_bytes(b"nonsense"), "can't be read as a picture"),
        (lambda p: (p / "ball" / "one.wav").write_bytes(b""), "can't be read as a sound"),
        (lambda p: write_wav(p / "bar" / "one.wav", np.zeros(800), RATE), "silent"),
        (
            lambda p: write_png(p / "bar" / "one.png", np.full((8, 8, 4), 255, np.uint8)),
            "no alpha",
        ),
    ],
)
def test_a_fault_names_the_file(mine: Path, spoil, said: str) -> None:
    spoil(mine)
    with pytest.raises(ValueError, match=said) as caught:
        load_cutouts(mine)
    assert str(mine) in str(caught.value)


def test_one_family_is_too_few(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two or more families"):
        load_cutouts(tmp_path)
