"""`avsl-train evaluate --speakers`: real lips and a real voice, staged, and what is summed of
them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import av
import numpy as np
import pytest

pytest.importorskip("cv2", reason="staged films need OpenCV and its libGL")

from helpers import make_video

from avsl.realtime.demo import FILM
from avsl.train.cli import main
from avsl.train.speakers import evaluate as measuring
from avsl.train.speakers import staged
from avsl.train.speakers.films import sound_of
from avsl.train.speakers.measure import Face, Said, late
from avsl.train.speakers.report import Alone, Pair, Sure, Turn, summed
from avsl.train.speakers.staged import Take

SECONDS = 3.0
"""So long the woman of the demo's first scene speaks."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of three: she speaks; she speaks backwards, as if that were somebody else; and she is
    silent, for she is a photograph."""
    folder = tmp_path_factory.mktemp("clips")
    with av.open(str(FILM)) as film:
        shown = [frame for frame in film.decode(video=0) if frame.time < SECONDS]
    pictures = [frame.to_ndarray(format="rgb24")[:180, :320] for frame in shown]
    voice = sound_of(FILM)[: round(SECONDS * 16_000)]

    def clip(name: str, shown: list[np.ndarray], samples: np.ndarray) -> None:
        make_video(
            folder / name,
            size=(320, 180),
            seconds=SECONDS,
            rate=24,
            paint=lambda n, w, h: shown[min(n, len(shown) - 1)],
            waves=(lambda t: np.interp(t * 16_000, np.arange(len(samples)), samples),),
            options={"crf": "18"},
        )

    clip("own.mp4", pictures, voice)
    clip("other.mp4", [picture[:, ::-1] for picture in pictures[::-1]], voice[::-1].copy())
    clip("still.mp4", pictures[:1], voice)
    rows = ["file\tperson\tspeaks\tset\tlicence_class", "own.mp4\tshe\town\tfilm\topen"]
    rows += ["other.mp4\tother\town\tfilm\topen", "still.mp4\tstill\tsilent\tfilm\topen"]
    (folder / "clips.tsv").write_text("\n".join(rows) + "\n")
    return folder / "clips.tsv"


def evaluate(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["avsl-train", "evaluate", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_who_speaks_is_measured_on_clips(
    clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(measuring, "SELDOM_S", 0.5)  # she doesn't speak for long
    out = tmp_path / "scores.json"
    assert evaluate(monkeypatch, "--speakers", clips, "--json", out) == 0
    print(printed := capsys.readouterr().out)
    assert "3 clips; in 0 no face was found" in printed and "turn" in printed
    scores = json.loads(out.read_text())
    alone, map_ = scores["by"]["with lips"], scores["by"]["map alone"]
    assert alone["calm"]["faces"] == 1 and alone["own"]["faces"] == 2
    assert map_["calm"]["share"] == 100, "the map likes her face, whatever it does"
    assert alone["calm"]["share"] == 0, "but a photograph doesn't speak"
    assert alone["own"]["share"] > alone["dubbed"]["share"]
    assert scores["by"]["largest face"]["late"]["share"] == 100
    assert set(scores["conditions"]) >= {"every second picture", "hand-held", "40 pixels"}
    two = scores["two"]
    assert two["with lips"]["one"]["n"] and two["with lips"]["turn"]["n"] == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--speakers", "nowhere.tsv"), "nowhere.tsv: can't be read"),
        (("--look", "x"), "--look is of speakers"),
        (("--speakers", "t.tsv", "--movers"), "don't go together"),
        (("drawn", "--speakers", "{clips}"), "knows no voices"),
        (("--speakers", "{clips}", "--look", "{clips}"), "not what avsl-train import makes"),
    ],
)
def test_what_can_not_be_measured_is_one_line(
    arguments: tuple[str, ...],
    said: str,
    clips: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    filled = [argument.format(clips=clips) for argument in arguments]
    assert evaluate(monkeypatch, *filled) == 2
    printed = capsys.readouterr()
    assert said in printed.err and printed.err.count("\n") == 1


def test_two_take_turns_and_who_listens_hardly_moves(clips: Path) -> None:
    take = Take(clips.parent / "own.mp4", (0.5, 0.5), 0.3, SECONDS)
    shown = list(staged.in_turns(take, take, 1.0, 2.0))
    assert len(shown) == 50
    grey = np.stack([frame.to_ndarray(format="gray").astype(float) for _, frame in shown])
    changes = np.abs(np.diff(grey, axis=0))
    left, right = changes[..., :320].mean((1, 2)), changes[..., 320:].mean((1, 2))
    steady = np.abs(np.diff(grey[:, ::4, ::4], axis=0))
    assert left[:24].mean() != pytest.approx(left[26:].mean(), rel=0.05)
    assert right[:24].mean() != pytest.approx(right[26:].mean(), rel=0.05)
    assert steady.max() < 200
    both = list(staged.side_by_side(take, take, 1.0))
    picture = both[-1][1].to_ndarray(format="rgb24")
    assert len(both) == 25 and np.array_equal(picture[:, :320], picture[:, 320:])


def test_a_face_is_made_as_small_as_asked(clips: Path) -> None:
    path = clips.parent / "own.mp4"
    take = Take(path, (0.5, 0.5), 0.5, SECONDS)
    (_, small), *_ = staged.small(staged.filmed(path, 0.1), take, 40)
    assert (small.width, small.height) == (640, 360)
    grey = small.to_ndarray(format="gray")
    inside = np.abs(grey.astype(int) - staged.GREY).max(0) > 12
    across = np.nonzero(inside)[0]
    assert across.max() - across.min() == pytest.approx(80, abs=4), "0.5 of it is 40"
    assert list(staged.small(staged.filmed(path, 0.1), take, 400)) == [], "none is made larger"


def test_a_late_voice_is_the_same_one_later() -> None:
    samples = np.arange(48_000, dtype=np.float32)
    assert late(samples, 1.0)[16_000] == 0 and late(samples, 1.0)[0] == 32_000


def face(since: float = 4.0, pixels: float = 100.0, motion: float = 0.1) -> Face:
    return Face((0.4, 0.2, 0.6, 0.7), pixels, 0.0, motion, since)


def alone(kind: str, lips: bool, map_: bool, **known: float) -> Alone:
    return Alone("as filmed", kind, "a", 4.0, face(**known), lips, map_, float("nan"))


def said(first: int | None, *lit: bool) -> Said:
    return Said(lit, lit, first)


def test_shares_are_of_what_counts() -> None:
    one = [alone("own", True, True, motion=0.5), alone("own", False, True, motion=0.4)]
    one += [alone("dubbed", False, True), alone("dubbed", True, True, motion=0.9)]
    one += [alone("own", True, True, since=1.0), alone("own", True, False, pixels=30.0)]
    sure = [Sure("a", 1.5, 8.0), Sure("b", None, 8.0), Sure("c", None, 1.0)]
    faces = face(motion=0.3), face(motion=0.1, pixels=120.0)
    pairs = [Pair(("a", "b"), 0, 4.0, faces, said(0, True, False), said(1, True, True), (1.0, 2.0))]
    pairs += [Pair(("a", "b"), None, 4.0, faces, said(0, True, True), said(1, False, True), ())]
    turns = [Turn(("a", "b"), faces, said(1, False, True), said(0, True, False))]
    scores = summed(one, sure, pairs, turns)
    lips, map_ = scores["by"]["with lips"], scores["by"]["map alone"]
    assert lips["own"] == {"share": 66.7, "n": 3, "faces": 1}, "the first second isn't counted"
    assert lips["dubbed"]["share"] == 50 and map_["dubbed"]["share"] == 100
    assert map_["own"]["share"] == pytest.approx(66.7)
    assert scores["over"]["0 to 1.5 s"]["own"]["n"] == 1
    assert scores["conditions"]["0 to 60 pixels"]["own"] == {"share": 100.0, "n": 1, "faces": 1}
    two = scores["two"]
    assert two["with lips"]["one"]["share"] == 100 and two["map alone"]["one"]["share"] == 0
    assert two["with lips"]["the other glows"]["share"] == 0
    assert two["map alone"]["the other glows"]["share"] == 100
    assert two["with lips"]["both"]["share"] == 100 and two["map alone"]["both"]["share"] == 0
    assert two["with lips"]["turn"]["share"] == 100 and two["map alone"]["turn"]["share"] == 0
    assert two["mouth motion"]["one"]["share"] == 100 and two["largest face"]["one"]["share"] == 0
    assert two["published"]["one"] == {"share": 0.0, "n": 1, "faces": 2}
    assert scores["sure"]["within 2 s"] == {"share": 50.0, "n": 2, "faces": 2}
