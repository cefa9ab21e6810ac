"""The way over a GPU, with torch on the CPU: the same pictures, maps and events as without."""

import subprocess
import sys
import threading
from fractions import Fraction
from itertools import product
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the GPU path needs torch")

from gpu_ways import (  # noqa: E402
    FORMATS,
    Given,
    TorchEngine,
    both_ways,
    busy_picture,
    check,
    copied,
    glow_apart,
    planes,
    resized_apart,
    some_map,
    sounds,
)
from helpers import ToneEngine, frame_times, make_video, switching, tone  # noqa: E402

from avsl.demos.scenes.clips import demo_scene, write_clip  # noqa: E402
from avsl.engines import SoundTimeline, UserError, open_engine  # noqa: E402
from avsl.engines.bundle import DRAWN  # noqa: E402
from avsl.realtime import films as files  # noqa: E402
from avsl.realtime import live  # noqa: E402
from avsl.realtime.benchmark.frame import one_frame  # noqa: E402
from avsl.realtime.drawing import gpu_overlay  # noqa: E402
from avsl.realtime.drawing.gpu_overlay import GpuPictures  # noqa: E402
from avsl.realtime.drawing.overlay import Overlay  # noqa: E402
from avsl.realtime.sources.frames import Frame  # noqa: E402
from avsl.realtime.sources.video_file import open_video  # noqa: E402

SIZES = ((640, 480), (1280, 720), (1920, 1080), (641, 481), (163, 121), (90, 160), (160, 160))


@pytest.mark.parametrize(
    ("size", "format_"),
    [*((size, "yuv420p") for size in SIZES), *product(SIZES[-3:], FORMATS[1:])],
)
def test_the_resizer_is_the_same(size: tuple[int, int], format_: str) -> None:
    picture = busy_picture(*size, format_)
    for target in ((160, 160), (224, 224)):
        apart = resized_apart(picture, target)
        assert apart.max() <= 5
        # Where size and target are the same, swscale converts by a table that cuts off.
        assert apart.mean() < (1.5 if size == target else 0.1)


@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("matrix", [1, 2, 5, 7, 9])
@pytest.mark.parametrize("range_", [0, 2])
def test_the_resizer_reads_colours_the_same(format_: str, matrix: int, range_: int) -> None:
    picture = copied(busy_picture(320, 240, format_))
    picture.colorspace, picture.color_range = matrix, range_
    apart = resized_apart(picture, (160, 160))
    assert apart.max() <= 2


@pytest.mark.parametrize("siting", range(6))
def test_chroma_lies_where_the_film_says(tmp_path: Path, siting: int) -> None:
    options = {"x264-params": f"chromaloc={siting}"}
    video = open_video(make_video(tmp_path / "film.mkv", seconds=0.1, options=options))
    picture = next(video.frames()).picture
    apart = resized_apart(picture, (160, 160))
    video.close()
    assert apart.max() <= 2


@pytest.mark.parametrize("number", range(11))
@pytest.mark.parametrize("format_", FORMATS)
@pytest.mark.parametrize("size", [(321, 241), (50, 32)])
def test_from_one_map_the_glow_is_the_same(
    number: int, format_: str, size: tuple[int, int]
) -> None:
    apart, glows = glow_apart(number, busy_picture(*size, format_))
    assert apart <= 2
    assert glows == (number not in (0, 8))


def test_the_map_follows_the_sound_on_one_picture() -> None:
    engine = TorchEngine(ToneEngine())
    picture = busy_picture(160, 120)
    turns = switching((1.0, 400), (2.0, 2000), (3.0, 0), (4.0, 500))
    noise = np.random.default_rng(0).normal(0, 0.1, 64_000)
    for wave, wanted in (
        (turns, ["left", "right", "silent", "left"]),
        (lambda t: noise[: len(t)], 4 * ["unseen"]),
    ):
        pictures, said = GpuPictures(engine, Overlay(engine.spec.thresholds), most=1), []
        timeline = sounds(wave, 4.0)
        for k in range(1, 100):
            found, tinted = pictures(Frame(picture, k / 25, k), timeline)
            side = "left" if found.peaks and found.peaks[0][0] < 0.5 else "right"
            said.append(side if found.state == "sounding" else found.state)
            assert (tinted is None) == (found.state == "silent")
            assert found.evidence == ("network",) * len(found.peaks)
            assert found.state != "silent" or not found.map.any()
        assert [said[k] for k in (20, 48, 73, 97)] == wanted


TURNS = switching((0.9, 400), (1.5, 2000), (2.1, 0), (9, 500))


@pytest.mark.parametrize("case", [
    {}, {"pixels": "yuvj420p", "tags": {"color_range": 2, "colorspace": 1}},
    {"codec": "ffv1", "pixels": "yuv420p10le"}, {"codec": "ffv1", "size": (163, 121)},
    {"pixels": "nv12"}, {"codec": "mpeg4"}, {"waves": ()}, {"seconds": 0.6},
    {"size": (16, 16)},
])  # fmt: skip
def test_a_film_comes_out_the_same(tmp_path: Path, case, monkeypatch) -> None:
    """A tone moves from low to high, ends and comes back; the last batch is not full."""
    options = {"seconds": 2.6, "waves": (TURNS,)} | case
    source = make_video(tmp_path / "film.mkv", **options)
    plain, torch_ = both_ways(source, ToneEngine(), monkeypatch)
    check(plain, torch_)
    states = [event["state"] for event in plain[1]]
    assert len(states) % files.BATCH
    if options["seconds"] > 2 and options["waves"]:
        assert {"sounding", "silent"} <= set(states)
        assert len({event["peaks"][0][0] for event in plain[1] if event["peaks"]}) == 2


def test_what_lingers_is_the_same(tmp_path: Path, monkeypatch) -> None:
    """A tone gives way to noise: nothing is found any more, and it fades; on both ways alike."""
    noise = np.random.default_rng(0).normal(0, 0.1, 200_000)
    wave = tone(400)
    source = make_video(
        tmp_path / "film.mkv",
        seconds=2.2,
        waves=(lambda t: np.where(t < 1.0, wave(t), noise[: len(t)]),),
    )
    plain, torch_ = both_ways(source, ToneEngine(), monkeypatch)
    check(plain, torch_)
    unseen = [k for k, event in enumerate(plain[1]) if event["state"] == "unseen" and k > 30]
    bare = [planes(frame.picture)[0] for frame in open_video(source).frames()]
    lit = [np.abs(plain[0][k][0] - bare[k])[48:72, 22:38].mean() > 6 for k in unseen]
    assert lit[0] and not lit[-1] and 5 < sum(lit) < 25


def test_a_sure_thing_and_an_unsure_one_have_each_their_look() -> None:
    map_ = np.full((8, 8), 0.02, np.float32)
    map_[1, 1], map_[6, 6] = 0.95, 0.48
    engine = TorchEngine(Given(map_))
    overlay = Overlay(engine.spec.thresholds)
    picture = busy_picture(320, 240)
    ours, theirs = copied(picture), copied(picture)
    found, tinted = GpuPictures(engine, overlay, most=1)(Frame(ours, 1.0, 0), sounds(tone(440)))
    assert tinted and len(found.peaks) == 2
    overlay.draw(theirs, found)
    overlay.draw(ours, found, tinted)
    for one, other in zip(planes(ours), planes(theirs), strict=True):
        assert np.abs(one - other).max() <= 2
    there = np.abs(tinted[0] - planes(ours)[0])[150:230, 210:310]
    assert there.max() > 2, "the unsure one is not in the look of the sure one"


def test_a_network_that_looks_finds_the_same(tmp_path: Path, monkeypatch) -> None:
    """Pictures resized elsewhere differ by a level here and there, and the shipped network's maps
    by a hundredth: what lies on a threshold may fall to either side of it."""
    source = tmp_path / "film.mp4"
    write_clip(demo_scene(), source, 1.5, size=(180, 320))
    plain, torch_ = both_ways(source, open_engine(DRAWN), monkeypatch)
    assert plain[2] == torch_[2]
    slack, glow = 0.02, open_engine(DRAWN).spec.thresholds.glow
    clear = 0
    for one, other in zip(plain[1], torch_[1], strict=True):
        assert one["level_db"] == other["level_db"]
        assert one["score"] == pytest.approx(other["score"], abs=slack)
        for these, those in ((one["peaks"], other["peaks"]), (other["peaks"], one["peaks"])):
            for peak in these:
                if peak[2] > glow + slack:
                    clear += 1
                    assert any(np.allclose(peak, its, atol=slack) for its in those)
    assert clear > 40
    apart = [
        np.abs(a - b).ravel()
        for pair in zip(plain[0], torch_[0], strict=True)
        for a, b in zip(*pair, strict=True)
    ]
    assert np.mean(np.concatenate(apart) > 2) < 1e-4


def test_a_film_that_changes_its_size(tmp_path: Path, monkeypatch) -> None:
    pieces = []
    for number, size in enumerate([(320, 240), (160, 120), (256, 256)]):
        times = [Fraction(number) + Fraction(i, 25) for i in range(25)]
        piece = make_video(tmp_path / f"{number}.ts", size=size, times=times, waves=(TURNS,))
        pieces.append(piece.read_bytes())
    source = tmp_path / "film.ts"
    source.write_bytes(b"".join(pieces))
    plain, torch_ = both_ways(source, ToneEngine(), monkeypatch)
    check(plain, torch_)
    assert len(plain[0]) > 60


def test_tags_that_change_in_the_middle_end_a_batch() -> None:
    engine = TorchEngine(ToneEngine())
    frames = []
    for k in range(11):
        picture = copied(busy_picture(160, 120))
        picture.colorspace = 1 if 3 <= k < 7 else 5
        frames.append(Frame(picture, 1 + k / 25, k))
    before = [copied(frame.picture) for frame in frames]

    class Heard:
        def listen(self, until: float) -> SoundTimeline:
            return sounds(tone(440))

    drawn = list(gpu_overlay.drawn_on_gpu(frames, Heard(), engine, 8))
    assert [frame.index for frame, _ in drawn] == list(range(11))
    for (frame, found), plain in zip(drawn, before, strict=True):
        plain.colorspace = frame.picture.colorspace
        Overlay(engine.spec.thresholds).draw(plain, found)
        assert found.peaks
        assert all(
            (a == b).all() for a, b in zip(planes(plain), planes(frame.picture), strict=True)
        )


@pytest.mark.parametrize("count", [1, 30, 64])
def test_stopping_leaves_what_was_done(tmp_path: Path, count: int, monkeypatch) -> None:
    monkeypatch.setattr(files, "on_gpu", lambda _: True)
    source = make_video(tmp_path / "film.mp4", seconds=2.6)
    stop = threading.Event()

    def progress(done: files.Progress) -> None:
        if done.frames == count:
            stop.set()

    report = files.annotate(
        source, tmp_path / "out.mp4", TorchEngine(ToneEngine()), stop=stop, progress=progress
    )
    assert report.partial
    assert {p.name for p in tmp_path.iterdir()} == {"film.mp4", "out.partial.mp4"}
    assert len(frame_times(report.out)) == report.frames == count


@pytest.mark.parametrize("fault", [UserError("memory is full"), torch.OutOfMemoryError("CUDA")])
def test_a_fault_on_the_way_leaves_nothing(tmp_path: Path, fault, monkeypatch) -> None:
    class Broken(ToneEngine):
        def embed(self, samples: np.ndarray) -> np.ndarray:
            raise fault

    monkeypatch.setattr(files, "on_gpu", lambda _: True)
    source = make_video(tmp_path / "film.mp4", seconds=2.6)
    with pytest.raises(UserError, match="memory is full"):
        files.annotate(source, tmp_path / "out.mp4", TorchEngine(Broken()))
    assert {p.name for p in tmp_path.iterdir()} == {"film.mp4"}


def test_pictures_between_the_localized_ones_go_the_ordinary_way(tmp_path: Path, monkeypatch):
    source = make_video(tmp_path / "film.mp4", seconds=1.0)
    plain, torch_ = both_ways(source, ToneEngine(), monkeypatch, every=5)
    check(plain, torch_)
    assert len(plain[1]) == 5


def test_live_a_recording_gets_the_glow_that_was_made_there(monkeypatch) -> None:
    """Pictures as a camera gives them, and as the recorder draws them."""
    monkeypatch.setattr(live, "on_gpu", lambda engine: isinstance(engine, TorchEngine))
    timeline = sounds(switching((1.0, 400), (1.4, 0), (2.2, 2000), (9, 0)), 3.0)
    overlay = Overlay(ToneEngine.spec.thresholds)
    localize, localize_there = (
        live._localizing(way, None) for way in (ToneEngine(), TorchEngine(ToneEngine()))
    )
    states = set()
    for k in range(20, 90):
        picture = busy_picture(320, 240)
        here, there = (Frame(copied(picture), k / 30, k) for _ in range(2))
        (found, none), (said, tinted) = localize(here, timeline), localize_there(there, timeline)
        assert none is None
        assert (found.state, found.peaks, found.level_db) == (said.state, said.peaks, said.level_db)
        overlay.draw(here.picture, found)
        overlay.draw(there.picture, said, tinted)
        for one, other in zip(planes(here.picture), planes(there.picture), strict=True):
            assert np.abs(one - other).max() <= 2
        states.add(said.state)
    assert {"sounding", "silent"} <= states


def test_the_call_that_is_timed_does_all_of_it(monkeypatch) -> None:
    engine = TorchEngine(Given(some_map(4)))
    asked: list[str] = []
    for name in ("embed_on", "localize_on"):
        whole = getattr(engine, name)
        monkeypatch.setattr(
            engine, name, lambda *x, name=name, whole=whole: asked.append(name) or whole(*x)
        )
    run = one_frame(engine, (120, 160))
    assert [run().state for _ in range(3)] == ["sounding"] * 3
    assert asked == ["embed_on", "localize_on"] * 3


def test_nothing_of_torch_on_the_cpu_path() -> None:
    code = (
        "import sys, avsl.realtime.films, avsl.realtime.sinks.recorder, avsl.engines.engine;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
