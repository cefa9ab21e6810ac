"""The programs as a person runs them: help, version, the demo, and an engine that listens."""

import json
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from helpers import faults

from avsl.demos.scenes import boxes
from avsl.demos.scenes.clips import DEMO_RATE, demo_scene, write_clip
from avsl.realtime.demo import FILM

DRAWN = "--engine", "drawn"


def avsl(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "avsl.realtime.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=cwd)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_clip(demo_scene(), folder / "scene.mp4", 10.0, size=(360, 640))
    done = avsl(*DRAWN, "scene.mp4", "-o", "out.mp4", "--events", "out.jsonl", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_demo_leaves_a_film_and_says_what_next(tmp_path: Path) -> None:
    """The default engine, on the film that comes along, which stays named after its sources."""
    done = avsl("--demo", "--events", "e.jsonl", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "avsl-demo.mp4: a woman, a dog" in done.stderr
    assert done.stderr.startswith("avsl-live: both, motion and a network: ")
    assert "Next:" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"avsl-demo.mp4", "e.jsonl"}
    with av.open(str(tmp_path / "avsl-demo.mp4")) as container, av.open(str(FILM)) as film:
        assert container.streams.audio
        count = sum(1 for _ in container.decode(video=0))
        assert count == sum(1 for _ in film.decode(video=0))
        assert container.metadata["comment"] == film.metadata["comment"]
    _, *lines = map(json.loads, (tmp_path / "e.jsonl").read_text().splitlines())
    assert len(lines) == count
    assert {"silent", "sounding"} <= {line["state"] for line in lines}
    assert not any(line["peaks"] for line in lines if line["time"] < 0.5)
    again = avsl("--demo", "--every", "9", "-o", "avsl-demo.mp4", cwd=tmp_path)
    assert again.returncode == 0, "once more does no harm"
    assert "avsl-demo.mp4: a woman, a dog" in again.stdout


def test_the_drawn_demo_is_as_it_was(tmp_path: Path) -> None:
    done = avsl("--demo", "drawn", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "avsl-demo.mp4: four drawn things" in done.stdout
    assert done.stderr.startswith("avsl-live: drawn runs with ")
    assert "Next:" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["avsl-demo.mp4"]
    with av.open(str(tmp_path / "avsl-demo.mp4")) as container:
        assert container.streams.audio
        assert sum(1 for _ in container.decode(video=0)) == 10 * DEMO_RATE
    assert avsl("--demo", "drawn", cwd=tmp_path).returncode == 0, "once more does no harm"
    for words in (("--demo", "drawn", "f.mp4"), ("--demo", "painted")):
        done = avsl(*words, cwd=tmp_path)
        assert done.returncode == 2 and "files and --demo don't go together" in done.stderr


def test_the_engine_for_drawn_things_finds_what_sounds_in_a_film(demo: Path) -> None:
    """A quarter of a second after each turn begins, the peak is in the thing that sounds; in
    silence nothing is."""
    scene = demo_scene()
    lines = [json.loads(line) for line in (demo / "out.jsonl").read_text().splitlines()]
    assert lines[0]["schema"] == "avsl-events/1"
    events = lines[1:]
    assert len(events) == 10 * DEMO_RATE
    right, asked, dark = 0, 0, []
    for event in events:
        t = event["time"]
        now = scene.sounding(t)
        if any(scene.sounding(t - back) != now for back in (0.1, 0.2, 0.3)):
            continue
        if not now:
            if all(not scene.sounding(t - back) for back in np.arange(0, 0.6, 0.05)):
                dark.append(event["state"] in ("silent", "unseen"))
            continue
        _, masks = scene.render(t, 90, 160)
        asked += 1
        x, y, _ = event["peaks"][0] if event["peaks"] else (-1, -1, 0)
        found = boxes(masks)
        right += any(
            found[i][0] <= x <= found[i][2] and found[i][1] <= y <= found[i][3] for i in now
        )
    assert asked > 120
    assert right / asked > 0.9
    assert dark
    assert all(dark)


def test_verify_says_that_it_listens(demo: Path) -> None:
    done = avsl("--verify", "scene.mp4", *DRAWN, cwd=demo)
    assert done.returncode == 0, done.stderr
    assert "The engine listens" in done.stdout
    assert (demo / "avsl-verify.png").stat().st_size > 10_000


def test_version_costs_next_to_nothing() -> None:
    """What takes time to import is not imported."""
    code = "import sys; sys.argv = ['avsl-live', '--version']\n"
    code += "from avsl.realtime.cli import main\n"
    code += "try:\n    main()\nexcept SystemExit:\n    pass\n"
    code += "print([m for m in ('numpy', 'av', 'cv2', 'onnxruntime', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines()[0].startswith("avsl ")
    assert done.stdout.splitlines()[1] == "[]"


@pytest.mark.parametrize("program", ["realtime", "train"])
def test_help_fits_a_screen(program: str) -> None:
    command = [sys.executable, "-m", f"avsl.{program}.cli", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) <= 50
    assert "avsl-" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["film.mp4"], "where to? add -o"),
        (["none.mp4", "-o", "out.mp4"], "no such file"),
        (["--verify", "a", "b", "c"], "--verify takes FILE and one OTHER"),
        (["a.mp4", "-o", "b.mp4", "--engine", "nowhere"], "no such engine folder"),
        (["a.mp4", "b.mp4", "-o", "c.mp4"], "need a folder"),
        (["a.mp4", "-o", "b.mp4", "--backend", "cuda"], "must be one of auto, tensorrt"),
        (["a.mp4", "-o", "b.mp4", "--backend", "torch", "--engine", "motion"], "leave it out"),
        (["--in-step"], "no FILE and no --camera"),
        (["a.mp4", "--camera", "0"], "don't go together"),
        (["a.mp4", "-o", "b.txt"], "can't write this kind of file"),
    ],
)
def test_what_a_person_gets_wrong_is_one_line(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    done = avsl(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    (fault,) = faults(done.stderr)
    assert fault.startswith("error: ")
    assert said in fault
    assert not list(tmp_path.iterdir())


def test_a_reader_that_goes_away_is_no_error(demo: Path) -> None:
    command = f"{sys.executable} -m avsl.realtime.cli --help | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in done.stderr
