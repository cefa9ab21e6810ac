"""The life of a model in small: clips, a fit, its folder, its commands."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import wave
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")

# Beside others on two cores, threads that wait for each other spin for minutes.
torch.set_num_threads(1)

from accelerate.state import AcceleratorState  # noqa: E402
from helpers import make_video, tone  # noqa: E402

import avsl.train.fit as module  # noqa: E402
from avsl.demos.scenes import make_scene  # noqa: E402
from avsl.engines import UserError, open_engine  # noqa: E402
from avsl.train.cli import main  # noqa: E402
from avsl.train.data.material import open_material  # noqa: E402
from avsl.train.fit import Trainer, stage_networks  # noqa: E402
from avsl.train.methods import dmt  # noqa: E402
from avsl.train.recipe import Recipe, load_recipe, to_toml  # noqa: E402
from avsl.train.run import prepare_run, read_metrics  # noqa: E402

TINY = Recipe(
    name="tiny",
    size=32,
    width=4,
    embedding=8,
    labelled=16,
    unlabelled=16,
    validation=8,
    voices=2,
    held_out=12,
    labelled_batch=2,
    unlabelled_batch=4,
    warm_up_steps=3,
    steps=3,
    distill_steps=3,
    precision="fp32",
    workers=0,
)


@pytest.fixture(autouse=True)
def fresh_accelerator() -> None:
    """Accelerate keeps the precision that it was first asked for in this process."""
    AcceleratorState._reset_state(reset_partial_state=True)


def train(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """`avsl-train` in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["avsl-train", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def program(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"avsl.{name}.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four practice clips on disk."""
    folder = tmp_path_factory.mktemp("clips") / "set"
    with pytest.MonkeyPatch.context() as patch:
        assert train(patch, "scenes", folder, "--count", 24, "--seed", 9) == 0
    return folder


def test_scenes_in_the_field_s_layout(
    clips: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = json.loads((clips / "boxes.json").read_text())
    assert len(entries) == 24
    for index, entry in enumerate(entries[:6]):
        assert set(entry) == {"file", "class", "bbox"}
        scene = make_scene(9, index)
        assert len(entry["bbox"]) == len(scene.sounding(0))
        for x0, y0, x1, y1 in entry["bbox"]:
            assert 0 <= x0 <= x1 <= 1
            assert 0 <= y0 <= y1 <= 1
        with av.open(str(clips / "frames" / f"{entry['file']}.jpg")) as container:
            frame = next(container.decode(video=0))
        written, _ = scene.render(0, 360, frame.width)
        assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - written).mean() < 8
        with wave.open(str(clips / "audio" / f"{entry['file']}.wav")) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767
        assert np.abs(samples - scene.sound(-3, 3)).max() < 1e-3
    assert train(monkeypatch, "scenes", clips, "--count", 6) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "exists already" in said


def written(recipe: Recipe, path: Path) -> Path:
    path.write_text(to_toml(recipe))
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The run of a tiny recipe with distillation, as a person starts it, and what it said."""
    folder = tmp_path_factory.mktemp("fit")
    recipe = written(replace(TINY, workers=1, precision="bf16"), folder / "tiny.toml")
    done = program("train", "fit", recipe, "--run", folder / "run", "--distill")
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return folder / "run", done.stdout


def test_build_makes_an_engine_of_a_run_and_says_what_runs_it(
    fitted: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, _ = fitted
    out = tmp_path / "teachers"
    assert train(monkeypatch, "build", run, "--stage", "unbiased", "--out", out) == 0
    *others, line = capsys.readouterr().out.splitlines()
    assert f"{out}: tiny runs with " in others[-1]
    assert line == f"{out}: the engine; avsl-live FILE -o OUT --engine {out}"
    assert len(open_engine(out).bundle.meta["networks"]) == 2
    assert train(monkeypatch, "build", out) == 0
    assert capsys.readouterr().out.splitlines() == others


def test_a_fit_ends_with_an_engine_that_runs(
    fitted: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, said = fitted
    assert f"avsl-live FILE -o OUT --engine {run / 'engine'}" in said
    meta = open_engine(run / "engine").bundle.meta
    assert meta["training"]["recipe"]["distill"] is True
    assert len(meta["networks"]) == 1, "distilled"
    assert meta["scores"]["scenes"] == 12
    card = (run / "engine" / "README.md").read_text()
    assert "distill = true" in card
    assert "12 scenes of series" in card
    film = make_video(tmp_path / "film.mp4", seconds=0.4, waves=(tone(700),))
    out = tmp_path / "out.mp4"
    live = program("realtime", film, "-o", out, "--engine", run / "engine")
    assert live.returncode == 0, live.stderr
    assert out.stat().st_size > 1000
    assert train(monkeypatch, "evaluate", run / "engine", "--scenes", 10) == 0
    table = capsys.readouterr().out
    for row in ("engine", "shuffled sound", "centre disc", "whole picture"):
        assert f"| {row} |" in table


def test_a_fit_goes_on_from_the_networks_of_another(
    fitted: tuple[Path, str], tmp_path: Path
) -> None:
    run, _ = fitted
    (begun,) = stage_networks(load_recipe(run / "recipe.toml"), run)
    recipe = replace(TINY, sounds=TINY.sounds[:1], start=str(run))
    (student,) = Trainer(recipe, tmp_path, None).networks.students  # type: ignore[arg-type]
    for name, tensor in begun.state_dict().items():
        assert torch.equal(student.state_dict()[name].cpu(), tensor), name
    fresh = replace(recipe, start_with="picture")
    (student,) = Trainer(fresh, tmp_path, None).networks.students  # type: ignore[arg-type]
    for name, kept in (("picture.stem.0.0.weight", True), ("sound.body.0.0.weight", False)):
        assert torch.equal(student.state_dict()[name].cpu(), begun.state_dict()[name]) == kept
    with pytest.raises(UserError, match="another make"):
        Trainer(replace(recipe, width=recipe.width * 2), tmp_path, None)  # type: ignore[arg-type]


def test_a_run_describes_itself(fitted: tuple[Path, str]) -> None:
    run, _ = fitted
    assert load_recipe(run / "recipe.toml") == replace(
        TINY, workers=1, precision="bf16", distill=True
    )
    assert {path.name for path in run.glob("*.safetensors")} == {
        f"{name}.safetensors" for name in ("last", "warm-up", "unbiased", "distill")
    }
    lines = read_metrics(run / "metrics.jsonl")
    assert [(line["step"], line["stage"]) for line in lines] == [
        (3, "warm-up"),
        (6, "unbiased"),
        (9, "distill"),
    ]
    for line in lines:
        assert line["loss"] > 0
        assert line["samples_per_s"] > 0
        assert 0 <= line["loading_share"] <= 1
        assert all(0 <= line[f"val_{name}"] <= 100 for name in ("A", "B", "mean"))
        if line["stage"] != "warm-up":
            assert 0 <= line["accepted"] <= 1
    unbiased = lines[1]
    assert {"teachers_iou", "area", "quality_intersection", "quality_union"} <= unbiased.keys()
    for picture in (run / "examples" / "000006.png", run / "curves.png"):
        assert picture.read_bytes()[:4] == b"\x89PNG"
    assert not list(run.rglob("*.part"))


def test_a_fit_from_clips_refuses_a_bad_one_or_leaves_it_out(
    clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "clips"
    shutil.copytree(clips, folder)
    (folder / "audio" / "s9_000003.wav").write_bytes(b"no sound")
    small = replace(TINY, labelled=8, unlabelled=7, validation=8, data=str(folder))
    recipe = written(small, tmp_path / "clips.toml")
    fit = ("fit", recipe, "--run")
    assert train(monkeypatch, *fit, tmp_path / "refused") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "1 of 24 clips can't be used: s9_000003 has a sound that can't be read" in said
    assert "--skip-bad leaves them out" in said
    run = tmp_path / "run"
    assert train(monkeypatch, *fit, run, "--skip-bad") == 0
    assert "| shuffled sound |" in capsys.readouterr().out
    engine = open_engine(run / "engine")
    assert engine.bundle.meta["scores"]["clips"] == "validation"
    assert len(engine.bundle.meta["networks"]) == 2
    card = (run / "engine" / "README.md").read_text()
    assert "validation clips" in card
    assert "They chose the checkpoint and the thresholds" in card


def test_a_dry_run_says_what_a_fit_takes_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = written(replace(TINY, distill=True), tmp_path / "tiny.toml")
    assert train(monkeypatch, "fit", recipe, "--run", tmp_path / "run", "--dry-run") == 0
    said = capsys.readouterr().out
    for words in ("M parameters", "clips: 40, ", "MB", "warm-up: 3 steps of 6 clips", "samples/s"):
        assert words in said
    assert "distill: 3 steps" in said
    assert "time: about " in said
    assert list(tmp_path.iterdir()) == [recipe]


@pytest.mark.parametrize("kept", [False, True])
def test_a_loss_that_is_not_a_number_ends_the_fit(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(TINY, checkpoint_every=1 if kept else 9, validate_every=9)
    whole, seen = dmt.warm_up_loss, []

    def breaks(model, step, recipe, gather):
        loss, log = whole(model, step, recipe, gather)
        seen.append(step.names)
        return (loss * torch.nan if len(seen) == 3 else loss), log

    monkeypatch.setattr(dmt, "warm_up_loss", breaks)
    prepare_run(recipe, tmp_path / "run", resume=False)
    material = open_material(recipe, tmp_path / "run")
    with pytest.raises(UserError) as caught:
        module.fit(recipe, tmp_path / "run", material)
    said = str(caught.value)
    assert "\n" not in said
    assert "not a number at step 2" in said
    assert ", ".join(seen[-1]) in said
    last = tmp_path / "run" / "last.safetensors"
    assert last.exists() == kept
    assert (f"the last good checkpoint is {last}" if kept else "no checkpoint yet") in said
