"""--verify: tells an engine that listens from one that doesn't."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import ToneEngine, make_video, tone

from avsl.engines import UserError
from avsl.realtime.verify import SHOWN, WIDTH, tell, verify


class Deaf(ToneEngine):
    """Always the same place, whatever sounds."""

    def localize(self, picture, embedding):
        map_ = np.full((8, 8), 0.02, np.float32)
        map_[2, 2] = 0.9
        return map_


class HearsThatNotWhat(ToneEngine):
    """The same place for every tone: tells sound from noise, not one thing from another."""

    def localize(self, picture, embedding):
        return super().localize(picture, np.array([0.0, embedding[1]], np.float32))


class LightsMore(ToneEngine):
    """A high tone lights all of the picture, the thing of the low one too: the map is another, but
    nothing that glowed got darker."""

    def localize(self, picture, embedding):
        map_ = super().localize(picture, embedding)
        return (
            np.full((8, 8), 0.9, np.float32) if embedding[0] > 1000 and map_.max() > 0.5 else map_
        )


class Dims(ToneEngine):
    """A high tone leaves `share` of the light where a low one is, and lights nothing else."""

    share = 1.0

    def localize(self, picture, embedding):
        low = super().localize(picture, np.array([0.0, embedding[1]], np.float32))
        return low if embedding[0] < 1000 else np.float32(self.share) * low


class Blank(ToneEngine):
    def localize(self, picture, embedding):
        return np.full((8, 8), 0.02, np.float32)


def strip(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_an_engine_that_listens(tmp_path: Path) -> None:
    film = make_video(tmp_path / "low.mp4", seconds=2.0)
    other = make_video(tmp_path / "high.mp4", seconds=2.0, waves=(tone(2500),))
    verdict = verify(film, other, ToneEngine(), tmp_path / "strip.png")
    assert verdict.listens is True
    own, silence, noise, swapped = verdict.hearings
    assert own.states["sounding"] > 40
    assert set(silence.states) == {"silent"}
    assert noise.states["sounding"] == 0
    assert swapped.states["sounding"] > 40
    assert swapped.moved(own) > 0.7
    assert own.moved(own) == 0
    picture = strip(tmp_path / "strip.png")
    assert picture.shape == (26 + SHOWN * 240, 4 * WIDTH, 3)
    columns = [picture[26:, i * WIDTH : (i + 1) * WIDTH].astype(int) for i in range(4)]
    assert np.abs(columns[0] - columns[1]).max() > 60
    assert np.abs(columns[0] - columns[3]).max() > 60


def test_one_that_does_not(tmp_path: Path) -> None:
    film = make_video(tmp_path / "film.mp4", seconds=2.0)
    assert verify(film, None, Deaf(), tmp_path / "strip.png").listens is False
    other = make_video(tmp_path / "high.mp4", seconds=2.0, waves=(tone(2500),))
    assert verify(film, other, HearsThatNotWhat(), tmp_path / "strip.png").listens is False


def test_another_map_is_not_enough_the_thing_must_get_darker(tmp_path: Path) -> None:
    film = make_video(tmp_path / "film.mp4", seconds=2.0)
    other = make_video(tmp_path / "high.mp4", seconds=2.0, waves=(tone(2500),))
    verdict = verify(film, other, LightsMore(), tmp_path / "strip.png")
    own, _, _, swapped = verdict.hearings
    assert swapped.moved(own) > 0.9
    assert swapped.light(own) == pytest.approx(1.0)
    assert verdict.listens is False


@pytest.mark.parametrize(
    ("share", "listens"), [(0.95, False), (0.55, False), (0.45, True), (0, True)]
)
def test_light_is_compared_with_light(tmp_path: Path, share: float, listens: bool) -> None:
    film = make_video(tmp_path / "film.mp4", seconds=1.5)
    other = make_video(tmp_path / "high.mp4", seconds=1.5, waves=(tone(2500),))
    engine = Dims()
    engine.share = share
    verdict = verify(film, other, engine, tmp_path / "strip.png")
    own, silence, noise, swapped = verdict.hearings
    assert swapped.light(own) == pytest.approx(share, abs=0.01)
    assert own.light(own) == 1
    assert noise.light(own) < 0.1
    assert np.isnan(silence.light(own)) and silence.glow == 0
    assert verdict.listens is listens


def test_the_verdict_is_a_line_with_the_light_in_it(tmp_path: Path, capsys) -> None:
    film = make_video(tmp_path / "film.mp4", seconds=1.5)
    other = make_video(tmp_path / "high.mp4", seconds=1.5, waves=(tone(2500),))
    for engine, said in (
        (ToneEngine(), "The engine listens: another sound leaves 2 % of the light."),
        (Deaf(), "The engine does not listen here: another sound leaves 100 % of the light, noise"),
    ):
        tell(verify(film, other, engine, tmp_path / "strip.png"))
        assert said in capsys.readouterr().out


def test_nothing_that_it_knows(tmp_path: Path) -> None:
    film = make_video(tmp_path / "film.mp4", seconds=1.0)
    assert verify(film, None, Blank(), tmp_path / "strip.png").listens is None
    silent = make_video(tmp_path / "silent.mp4", seconds=1.0, waves=())
    assert verify(silent, None, ToneEngine(), tmp_path / "strip.png").listens is None


@pytest.mark.parametrize(
    ("size", "seconds"), [((90, 160), 1.0), ((16, 16), 1.0), ((160, 120), 0.04), ((322, 10), 0.4)]
)
def test_any_film(tmp_path: Path, size: tuple[int, int], seconds: float) -> None:
    film = make_video(tmp_path / "film.mp4", size=size, seconds=seconds)
    short = make_video(tmp_path / "short.mp4", seconds=0.2)
    verdict = verify(film, short, ToneEngine(), tmp_path / "strip.png")
    assert len({len(hearing.found) for hearing in verdict.hearings}) == 1
    assert (tmp_path / "strip.png").stat().st_size > 200


def test_a_bad_other_is_named(tmp_path: Path) -> None:
    film = make_video(tmp_path / "film.mp4")
    (tmp_path / "bad.mp4").write_bytes(b"nonsense")
    with pytest.raises(UserError, match=r"bad\.mp4: can't be read"):
        verify(film, tmp_path / "bad.mp4", ToneEngine(), tmp_path / "strip.png")
    with pytest.raises(UserError, match="can't be written"):
        verify(film, None, ToneEngine(), tmp_path / "nowhere" / "strip.png")


def test_an_other_without_sound_says_nothing(tmp_path: Path) -> None:
    film = make_video(tmp_path / "film.mp4")
    mute = make_video(tmp_path / "mute.mp4", waves=())
    verdict = verify(film, mute, ToneEngine(), tmp_path / "strip.png")
    assert verdict.hearings[0].states["sounding"]
    assert verdict.listens is None


def test_an_other_need_not_share_the_film_s_clock(tmp_path: Path) -> None:
    film = make_video(tmp_path / "film.mkv", times=[100 + Fraction(i, 25) for i in range(50)])
    other = make_video(tmp_path / "high.mp4", seconds=2.0, waves=(tone(2500),))
    verdict = verify(film, other, ToneEngine(), tmp_path / "strip.png")
    assert verdict.hearings[3].states["sounding"] > 40
    assert verdict.listens is True


def test_only_a_png_is_written_over(tmp_path: Path) -> None:
    film = make_video(tmp_path / "film.mp4")
    before = film.read_bytes()
    with pytest.raises(UserError, match=r"name a \.png file"):
        verify(film, None, ToneEngine(), film)
    assert film.read_bytes() == before
