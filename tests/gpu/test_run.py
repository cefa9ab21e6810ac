"""The command for a machine with a GPU, tried without one: a lent machine's minutes are few."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="what is measured there runs on torch")
pytest.importorskip("accelerate", reason="training needs the extra: pip install '.[train]'")

HERE = Path(__file__).parent


def run(out: Path, *options: str) -> tuple[int, dict[str, dict], str]:
    """Exit code, what was found by part, and the Markdown."""
    done = subprocess.run(
        [HERE / "run.sh", "--device", "cpu", "--rounds", "1", *options],
        env={**os.environ, "PYTHON": sys.executable, "OUT": str(out)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert "Traceback" not in done.stdout, done.stdout
    found = {part["part"]: part for part in json.loads((out / "gpu.json").read_text())}
    markdown = (out / "gpu.md").read_text()
    assert markdown in done.stdout
    return done.returncode, found, markdown


def test_every_part_runs_and_says_what_it_could_not_do(tmp_path: Path) -> None:
    parts = ("machine", "bundles", "torch", "training", "roofline", "tensorrt-rtx", "tensorrt")
    code, found, markdown = run(tmp_path, "--engines", "drawn", "nowhere", "--parts", *parts)
    assert code == 0, found
    assert tuple(found) == parts
    nowhere = [part for part in parts if any("nowhere: " in line for line in found[part]["said"])]
    assert nowhere == ["bundles", "torch", "roofline", "tensorrt-rtx", "tensorrt"]
    frames = found["torch"]["found"]
    assert [(row["engine"], row["picture"]) for row in frames] == [
        ("drawn", "1280x720"),
        ("drawn", "1920x1080"),
    ]
    assert all(0 < row["p50"] <= row["p99"] for row in frames)
    assert [row["batch"] for row in found["roofline"]["found"]] == [1, 2]
    steps = found["training"]["found"]
    assert len(steps) == 2, found["training"]
    assert all(row["samples_per_s"] > 0 for row in steps)
    for backend in ("tensorrt-rtx", "tensorrt"):
        assert any(line.startswith(f"drawn: {backend}: ") for line in found[backend]["said"])
    for part in parts:
        assert f"| {part} | " in markdown
    for row in ("| drawn | 1920x1080 | torch", "| drawn | 2 | ", "| small networks, 112 pixels |"):
        assert row in markdown


def test_a_part_that_fails_or_hangs_stops_no_other(tmp_path: Path) -> None:
    program = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
import run

run.PARTS = {{"bad": 30, "machine": 0.0, "bundles": 60}}
sys.argv = ["run.py", "--out", {str(tmp_path)!r}, "--engines", "drawn", "--device", "cpu"]
sys.exit(run.main())
"""
    env = {**os.environ, "PYTHONPATH": str(HERE.parent / "typing")}
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    bad, hung, good = json.loads((tmp_path / "gpu.json").read_text())
    assert bad["failed"] == "KeyError: 'bad' (1)"
    assert hung["failed"] == "ended (took longer than 0 s)"
    assert good["found"] == ["drawn"]
    assert "| bad | 0 | KeyError: 'bad' (1) |" in (tmp_path / "gpu.md").read_text().replace(
        f"| bad | {bad['seconds']:.0f} |", "| bad | 0 |"
    )
