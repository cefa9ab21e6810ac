"""A training that is killed, at whatever moment, goes on as if it had never been."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")

from avsl.train.data.pack import pack_scenes
from avsl.train.run import read_metrics

TESTS = Path(__file__).parent
SPEED = ("samples_per_s", "loading_share")


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks after orphans as Linux does")


def test_kills_change_nothing(tmp_path: Path) -> None:
    """Ten kills at spots that matter and four at drawn moments; workers and bf16 are on, and every
    stage and border is gone through."""
    pack_scenes(tmp_path / "pack", 5, 40, (32, 32))
    done = subprocess.run(
        [sys.executable, TESTS / "forks.py", tmp_path, "1", "4"],
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["gone"], "the loader's processes outlive a killed training"
    whole = tmp_path / "whole"
    kept = sorted(path.name for path in whole.glob("*.safetensors"))
    assert kept == [f"{name}.safetensors" for name in ("distill", "last", "unbiased", "warm-up")]
    for run in [tmp_path / "spots", *(tmp_path / f"timed-{i}" for i in range(said["runs"]))]:
        assert lines(run) == lines(whole)
        assert sorted(path.name for path in run.glob("*.safetensors")) == kept
        for name in kept:
            assert (run / name).read_bytes() == (whole / name).read_bytes(), f"{run}: {name}"


def test_a_killed_packing_leaves_no_process(tmp_path: Path) -> None:
    folder = tmp_path / "pack"
    code = (
        "import sys, pathlib, avsl.train.data.pack as p; "
        "p.pack_scenes(pathlib.Path(sys.argv[1]), 1, 9000, (96, 96))"
    )
    command = [sys.executable, "-c", code, folder]
    process = subprocess.Popen(command, start_new_session=True)
    rows = tmp_path / "pack.part" / "pictures.npy"
    until = time.monotonic() + 60
    while not (rows.exists() and rows.stat().st_size):
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.02)
    assert len(running(process.pid)) > 1
    kill_and_see_all_end(process)
    assert not folder.exists()
    assert len(pack_scenes(folder, 1, 3, (32, 32))) == 3


def test_a_killed_bench_leaves_no_process(tmp_path: Path) -> None:
    """Its job waits for ever, for a result that is there and never ends."""
    from avsl.train.bench.jobs import Job

    result = tmp_path / "runs" / Job("DMT", 64, 1, -1).name / "result.json"
    result.parent.mkdir(parents=True)
    os.mkfifo(result)
    code = "import sys, pathlib, avsl.train.bench.jobs as b; b.run_jobs([b.Job('DMT', 64, 1, -1)], "
    command = [sys.executable, "-c", code + "pathlib.Path(sys.argv[1]), 1, print)", tmp_path]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    end = None
    while end is None:
        with contextlib.suppress(OSError):  # nobody reads it yet
            end = os.open(result, os.O_WRONLY | os.O_NONBLOCK)
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.05)
    kill_and_see_all_end(process)
    os.close(end)


def kill_and_see_all_end(process: subprocess.Popen[bytes]) -> None:
    """Kills what began a session; nothing of the session may be left soon after."""
    process.kill()
    process.wait()
    until = time.monotonic() + 20
    while running(process.pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not running(process.pid)


def running(session: int) -> list[int]:
    """A session's processes, without those that nobody has asked how they ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, _, of = path.read_text().rpartition(")")[2].split()[:4]
            if state != "Z" and int(of) == session:
                found.append(int(path.parent.name))
    return found


def lines(run: Path) -> list[dict[str, object]]:
    """metrics.jsonl without what depends on the clock."""
    return [
        {name: value for name, value in line.items() if name not in SPEED}
        for line in read_metrics(run / "metrics.jsonl")
    ]
