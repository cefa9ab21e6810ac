"""Clips that no training can use: samples that are no numbers, pipes in place of files. Each is
named in one line, or left out, and nothing waits for ever."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from avsl.demos.scenes.cutouts import load_cutouts
from avsl.engines import UserError
from avsl.train.data.clips import pack_clips
from avsl.train.data.dataset import write_scenes

SIZE = (32, 32)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    write_scenes(tmp_path / "clips", 4, 5, kind="one", height=96)
    return tmp_path / "clips"


def floats(path: Path, samples: np.ndarray, bits: int = 32) -> None:
    """A WAV of floats, as editors write them."""
    data = samples.astype(f"<f{bits // 8}").tobytes()
    head = struct.pack("<HHIIHH", 3, 1, 16_000, 16_000 * bits // 8, bits // 8, bits)
    chunks = b"WAVEfmt " + struct.pack("<I", len(head)) + head
    chunks += b"data" + struct.pack("<I", len(data)) + data
    path.write_bytes(b"RIFF" + struct.pack("<I", len(chunks)) + chunks)


def wave(last: float, bits: int = 32) -> Callable[[Path], None]:
    """A tone, of which one sample is another."""

    def spoil(clips: Path) -> None:
        samples = 0.5 * np.sin(np.arange(32_000) / 9)
        samples[20_000] = last
        floats(clips / "audio" / "s5_000001.wav", samples, bits)

    return spoil


def pipe(name: str) -> Callable[[Path], None]:
    def spoil(clips: Path) -> None:
        (clips / name).unlink()
        os.mkfifo(clips / name)

    return spoil


def device(clips: Path) -> None:
    (clips / "frames" / "s5_000001.jpg").unlink()
    (clips / "frames" / "s5_000001.jpg").symlink_to("/dev/zero")


BAD = [
    (wave(np.nan), "has a sound with samples of nan times full scale"),
    (wave(np.inf), "has a sound with samples of inf times full scale"),
    (wave(-np.inf), "has a sound with samples of inf times full scale"),
    (wave(3e38), r"has a sound with samples of 3e\+38 times full scale"),
    (wave(np.nan, 64), "has a sound with samples of nan times full scale"),
    (wave(-1e300, 64), r"has a sound with samples of 1e\+300 times full scale"),
    (pipe("frames/s5_000001.jpg"), "has a picture that is no file"),
    (pipe("audio/s5_000001.wav"), "has a sound that is no file"),
    (device, "has a picture that is no file"),
]


@pytest.mark.parametrize(("spoil", "says"), BAD)
def test_a_bad_clip_is_named_and_can_be_left_out(
    spoil: Callable[[Path], None], says: str, clips: Path, tmp_path: Path
) -> None:
    spoil(clips)
    with pytest.raises(UserError, match=f"1 of 4 clips can't be used: s5_000001 {says}"):
        pack_clips(clips, tmp_path / "pack", SIZE, seconds=1.0)
    pack = pack_clips(clips, tmp_path / "pack", SIZE, seconds=1.0, skip_bad=True)
    assert len(pack) == 3


def test_floats_that_are_a_little_loud_are_good(clips: Path, tmp_path: Path) -> None:
    wave(4.0)(clips)
    pack = pack_clips(clips, tmp_path / "pack", SIZE, seconds=2.0)
    assert pack.samples[1].max() == 32767


def test_a_pipe_as_boxes_is_one_line(clips: Path, tmp_path: Path) -> None:
    pipe("boxes.json")(clips)
    with pytest.raises(UserError, match=r"boxes\.json: is no file"):
        pack_clips(clips, tmp_path / "pack", SIZE, seconds=1.0)


@pytest.mark.parametrize("name", ["a.png", "a.wav"])
def test_a_pipe_among_cut_outs_is_one_line(name: str, tmp_path: Path) -> None:
    for kind in "ab":
        (tmp_path / kind).mkdir()
    os.mkfifo(tmp_path / "a" / name)
    with pytest.raises(ValueError, match=f"{name}: is no file"):
        load_cutouts(tmp_path)


def evaluate(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "avsl.train.cli", "evaluate", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_an_evaluation_leaves_them_out_as_it_advises(clips: Path, tmp_path: Path) -> None:
    wave(np.nan)(clips)
    asked = ("drawn", "--backend", "onnxruntime", "--clips", clips)
    done = evaluate(*asked)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "(--skip-bad leaves them out)" in done.stderr
    done = evaluate(*asked, "--skip-bad", "--json", tmp_path / "scores.json")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "scores.json").read_text())["n"] == 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--skip-bad"], "--skip-bad is of clips; add --clips FOLDER"),
        (["--picture-at", "middle"], "--picture-at is of clips; add --clips FOLDER"),
        (["--movers", "--clips", "x"], "--movers and --clips don't go together"),
        (["--movers", "--failures", "x.png"], "--movers and --failures don't go together"),
        (["--clips", "x", "--scenes", "3"], "--clips and --scenes don't go together"),
        (["--clips", "x", "--cutouts", "y"], "--clips and --cutouts don't go together"),
        (["--json", "nowhere/x.json"], "nowhere/x.json: can't be written"),
    ],
)
def test_options_that_would_be_dropped_are_refused(words: list[str], says: str) -> None:
    done = evaluate(*words)
    assert done.returncode == 2
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
