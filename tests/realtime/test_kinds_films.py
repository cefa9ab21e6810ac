"""Names on films and live: events say what is what, pictures keep their shape, and only what is
wanted glows."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import faults, make_video, switching

torch = pytest.importorskip("torch", reason="the networks are made by torch: '.[train]'")
torch.set_num_threads(1)  # beside others on two cores, threads spin for minutes

from kinds_networks import BLUE, PITCHES, RED, TWO, kinds_bundle, picture, sound  # noqa: E402
from test_cli import avsl  # noqa: E402

from avsl.engines import Bundle, Localization, Samples, SoundTimeline, open_engine  # noqa: E402
from avsl.realtime import annotate, films  # noqa: E402

SECONDS, RATE = 2, 25
SIZES = {"16:9": (320, 180), "4:3": (320, 240), "portrait": (180, 320)}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return kinds_bundle(tmp_path_factory.mktemp("bundle") / "engine")


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return red_then_blue(tmp_path_factory.mktemp("film") / "film.mp4", (320, 180))


def red_then_blue(path: Path, size: tuple[int, int]) -> Path:
    """A red thing at the left hums for a second, then a blue one at the right whistles."""
    wave = switching((1.0, PITCHES[RED]), (2.0, PITCHES[BLUE]))
    paint = lambda index, width, height: picture(height, width, *TWO)  # noqa: E731
    return make_video(path, size=size, seconds=SECONDS, rate=RATE, waves=(wave,), paint=paint)


def events_of(path: Path) -> list[dict[str, Any]]:
    first, *events = map(json.loads, path.read_text().splitlines())
    assert first["schema"] == "avsl-events/1"
    return events


def follows(events: list[dict[str, Any]]) -> None:
    """A quarter of a second after each sound began, it has its name, and its thing glows."""
    asked = 0
    for event in events:
        if 0.4 < event["time"] < 1 or event["time"] > 1.3:
            name, left = ("red thing", True) if event["time"] < 1 else ("blue thing", False)
            assert event["kinds"] == [name], event
            assert (event["peaks"][0][0] < 0.5) == left
            assert event["heard"][0][0] == name
            asked += 1
    assert asked > SECONDS * RATE / 2


@pytest.mark.parametrize("shape", SIZES)
def test_a_film_of_any_shape(
    bundle: Bundle, tmp_path: Path, shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, ...]] = []
    engine = open_engine(bundle, "onnxruntime")
    localize = type(engine).localize_kinds

    def noted(self: Any, picture: np.ndarray, heard: np.ndarray) -> Any:
        seen.append(picture.shape[:2])
        return localize(self, picture, heard)

    monkeypatch.setattr(type(engine), "localize_kinds", noted)
    source = red_then_blue(tmp_path / "film.mp4", SIZES[shape])
    annotate(source, tmp_path / "out.mp4", engine, events=tmp_path / "e.jsonl")
    events = events_of(tmp_path / "e.jsonl")
    follows(events)
    wanted = {"16:9": (128, 224), "4:3": (128, 160), "portrait": (224, 128)}[shape]
    assert set(seen) == {wanted}
    x0, y0, x1, y1, _ = events[-1]["boxes"][0]
    width, height = SIZES[shape]
    assert 0.6 < (x1 - x0) * width / ((y1 - y0) * height) < 1.7, "a square stays one, in cells"


def test_the_command_says_what_is_what_and_hears_only_what_is_wanted(
    bundle: Bundle, film: Path, tmp_path: Path
) -> None:
    def run(*options: str) -> list[dict[str, Any]]:
        given = "--engine", str(bundle.folder), "--events", "e.jsonl", "--overwrite", *options
        done = avsl(str(film), "-o", "out.mp4", *given, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert not faults(done.stderr)[1:], done.stderr
        return events_of(tmp_path / "e.jsonl")

    follows(run())
    for options in (("--only", "Blue thing"), ("--ignore", "red thing,green thing")):
        events = run(*options)
        assert {kind for event in events for kind in event["kinds"]} == {"blue thing"}
        assert {kind for event in events for kind, _ in event["heard"]} == {"blue thing"}
        assert all(not e["peaks"] and e["score"] < 0.1 for e in events if 0.4 < e["time"] < 1)
        assert all(event["peaks"] for event in events if event["time"] > 1.4)


def test_what_an_engine_knows_by_name(bundle: Bundle, tmp_path: Path) -> None:
    done = avsl("--list-kinds", "--engine", str(bundle.folder))
    assert (done.returncode, done.stdout) == (0, "red thing\ngreen thing\nblue thing\n")


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ["film.mp4", "-o", "o.mp4", "--only", "blue"],
            "--only: colours knows no 'blue', but blu",
        ),
        (
            ["film.mp4", "-o", "o.mp4", "--only", ""],
            "--only: colours knows no ''; avsl-live --li",
        ),
        (["--camera", "0", "--ignore", "tuba"], "--ignore: colours knows no 'tuba'; avsl-live"),
        (["--verify", "film.mp4", "--only", "x"], "--only is for --camera and films, not"),
        (["--list-kinds", "--engine", "drawn"], "drawn: knows no kinds by name"),
        (["film.mp4", "-o", "o.mp4", "--only", "x", "--engine", "motion"], "--only: motion knows"),
    ],
)
def test_what_it_does_not_know_is_one_line(
    bundle: Bundle, film: Path, tmp_path: Path, options: list[str], line: str
) -> None:
    if options[0] == "--camera":
        pytest.importorskip("cv2", reason="live needs OpenCV and its libGL")
        options = [*options, "--no-window", "-o", "live.mp4"]
    (tmp_path / "film.mp4").symlink_to(film)
    engine = [] if "--engine" in options else ["--engine", str(bundle.folder)]
    done = avsl(*options, *engine, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith(f"error: {line}")
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_the_way_over_torch_says_the_same(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, in batches; with what isn't wanted unheard there, too."""
    from dataclasses import replace

    from avsl.engines.backends.torch import TorchEngine

    source = red_then_blue(tmp_path / "film.mp4", SIZES["4:3"])
    for unheard in ((), ("red thing",)):
        known = replace(bundle, unheard=unheard)
        said = []
        for name, engine in (
            ("plain", open_engine(known, "onnxruntime")),
            ("torch", TorchEngine(known, "cpu")),
        ):
            monkeypatch.setattr(films, "on_gpu", lambda one: isinstance(one, TorchEngine))
            out, events = tmp_path / f"{name}.mp4", tmp_path / f"{name}.jsonl"
            annotate(source, out, engine, events=events, overwrite=True)
            said.append(events_of(events))
        for ours, theirs in zip(*said, strict=True):
            assert (ours["state"], ours["kinds"]) == (theirs["state"], theirs["kinds"])
            assert [kind for kind, _ in ours["heard"]] == [kind for kind, _ in theirs["heard"]]
            assert np.allclose([p for _, p in ours["heard"]], [p for _, p in theirs["heard"]], 0.01)
        kinds = {kind for event in said[1] for kind in event["kinds"]}
        assert kinds == {"red thing", "blue thing"} - {*unheard}


def test_live_too(bundle: Bundle) -> None:
    pytest.importorskip("cv2", reason="live needs OpenCV and its libGL")
    from avsl.realtime.live import LiveOptions, run_live  # imports cv2 before av

    # isort: split
    import av

    from avsl.realtime.sinks.sink import Sink
    from avsl.realtime.sources.frames import Frame

    class Portraits:
        """Pictures that are taller than the camera was asked for."""

        name, rate, hears, per_second = "portraits", 16_000, True, 25.0
        missing: tuple[str, ...] = ()
        notes: tuple[str, ...] = ()
        taken = 0

        def open(self) -> None: ...

        def start(
            self,
            zero: float,
            timeline: SoundTimeline,
            give: Callable[[Frame], None],
            hear: Callable[[int, Samples], None],
        ) -> None:
            timeline.write(0, sound(BLUE, seconds=SECONDS))

            def play() -> None:
                pixels = av.VideoFrame.from_ndarray(picture(320, 180, *TWO), "rgb24")
                for index in range(SECONDS * RATE - 2):
                    self.taken += 1
                    give(Frame(pixels.reformat(format="yuv420p"), index / RATE, index))
                    turn.wait(5)
                    turn.clear()
                os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C ends a session

            self.thread = threading.Thread(target=play, daemon=True)
            self.thread.start()

        def close(self) -> None:
            self.thread.join()

    class Kept(Sink):
        def localized(self, frame: Frame, found: Localization, tinted: object = None) -> None:
            kept.append(found)
            turn.set()

    turn, kept = threading.Event(), list[Localization]()
    engine = open_engine(bundle, "onnxruntime")
    run_live(LiveOptions(window=False, duration=60), engine, Portraits(), [Kept()])
    assert len(kept) > 30
    assert {found.map.shape for found in kept} == {(14, 8)}
    assert {found.kinds for found in kept if found.time > 0.5} == {("blue thing",)}
