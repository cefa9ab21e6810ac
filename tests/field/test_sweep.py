"""The sweep sees what differs, and nothing else."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import pytest
from helpers import ToneEngine, make_video

from avsl.realtime.films import annotate

SCRIPT = Path(__file__).with_name("sweep.py")


@pytest.fixture(scope="module")
def sweep() -> Any:
    spec = importlib.util.spec_from_file_location("sweep", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_collection_in_which_nothing_differs(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mp4", options={"bf": "3"})
    make_video(tmp_path / "b: c.mkv", sound_codec="flac", seconds=0.4)
    (tmp_path / "sub").mkdir()
    make_video(tmp_path / "sub" / "short.ts", sound_codec="mp2", seconds=0.08)
    (tmp_path / "letter.txt").write_text("Dear diary")
    command = [sys.executable, str(SCRIPT), str(tmp_path), "60"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout == "4 files, 0 differ\n"
    assert done.returncode == 0


def test_it_says_what_hangs(tmp_path: Path) -> None:
    make_video(tmp_path / "a\x1b[2J.mp4", seconds=0.4)
    command = [sys.executable, str(SCRIPT), str(tmp_path), "0.01"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "hangs" in done.stdout
    assert "\x1b" not in done.stdout


def test_it_says_what_differs(tmp_path: Path, sweep: Any) -> None:
    """Against another film than the one that was annotated: fewer pictures, another sound."""
    film = make_video(tmp_path / "film.mp4", seconds=1.0, sound_codec="flac", rate=20)
    other = make_video(tmp_path / "other.mp4", seconds=1.0, waves=(), rate=25)
    out, events = tmp_path / "out.mkv", tmp_path / "e.jsonl"
    annotate(film, out, ToneEngine(), events=events)
    said = {"frames": 20, "notes": []}
    assert sweep.compare(film, out, events, said) == []
    assert sweep.compare(other, out, events, said) == [
        "20 pictures of 25",
        "1 sound tracks of 0",
    ]
    lines = events.read_text().splitlines()
    line = json.loads(lines[10])
    lines[10] = json.dumps(line | {"time": line["time"] + 0.02})
    events.write_text("\n".join(lines[:-1]))
    assert sweep.compare(film, out, events, said) == ["19 events of 20 pictures"]
    events.write_text("\n".join(lines))
    assert sweep.compare(film, out, events, said) == ["events off by 0.020 s"]
    slow = make_video(tmp_path / "slow.mp4", seconds=2.0, rate=10, sound_codec="flac")
    assert "times off by 0.950 s" in sweep.compare(slow, out, events, said)
    assert sweep.compare(film, out, events, {"refused": "film.mp4: why"}) == [
        "refused, but FFmpeg decodes 20 pictures"
    ]
    with av.open(str(out)) as container:
        assert len(container.streams.audio) == 1
