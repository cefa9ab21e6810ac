"""A training that is killed, at whatever moment, goes on as if it had never been."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")

from avsl.train.pack import pack_scenes
from avsl.train.run import read_metrics

TESTS = Path(__file__).parent
SPEED = ("samples_per_s", "loading_share")


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's way with orphans")
def test_kills_change_nothing(tmp_path: Path) -> None:
    """Ten kills at spots that matter and ten at drawn moments; workers and bf16 are on, and every
    stage and border is gone through."""
    pack_scenes(tmp_path / "pack", 5, 40, (32, 32))
    done = subprocess.run(
        [sys.executable, TESTS / "forks.py", tmp_path, "1", "10"],
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


def lines(run: Path) -> list[dict[str, object]]:
    """metrics.jsonl without what depends on the clock."""
    return [
        {name: value for name, value in line.items() if name not in SPEED}
        for line in read_metrics(run / "metrics.jsonl")
    ]
