"""The bench: its scores and rules, and a whole tiny one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")

# Beside others on two cores, threads that wait for each other spin for minutes.
torch.set_num_threads(1)

from avsl.engines import UserError  # noqa: E402
from avsl.train.bench import jobs as bench  # noqa: E402
from avsl.train.bench import rows as bench_rows  # noqa: E402
from avsl.train.bench.report import report  # noqa: E402
from avsl.train.bench.scores import DARK, difference, universal_threshold  # noqa: E402
from avsl.train.recipe import recipe_of  # noqa: E402


def boxes(*found: tuple[float, float, float, float] | None) -> np.ndarray:
    nothing = (np.nan,) * 4
    return np.array([[box or nothing] for box in found], np.float32)


def test_the_universal_threshold_is_the_best_that_leaves_negatives_dark() -> None:
    rng = np.random.default_rng(0)
    maps = rng.uniform(0, 0.1, (40, 14, 14)).astype(np.float32)
    maps[:20, 3:7, 3:7] = 0.6  # what sounds, and a halo around it
    maps[:20, 1:9, 1:9] = np.maximum(maps[:20, 1:9, 1:9], 0.3)
    truth = boxes(*[(3 / 14, 3 / 14, 7 / 14, 7 / 14)] * 20, *[None] * 20)
    assert 0.28 < universal_threshold(maps, truth) <= 0.6
    maps[20:, :4, :4] = 0.5  # negatives that glow half as much
    threshold = universal_threshold(maps, truth)
    assert 0.5 < threshold <= 0.6
    assert (maps[20:] >= threshold).mean() < DARK
    maps[20:] = 0.99  # and nothing that leaves them dark
    assert universal_threshold(maps, truth) == pytest.approx(0.98)


def test_a_difference_and_its_interval() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.random(800) < 0.5, rng.random(800) < 0.4
    mean, low, high = difference([ours.tolist()], [theirs.tolist()])
    assert mean == pytest.approx(100 * (ours.mean() - theirs.mean()))
    assert low < mean < high
    assert 6 < high - low < 16
    assert difference([ours.tolist()], [ours.tolist()]) == (0, 0, 0)


def test_a_tiny_bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows of a few steps: trained, measured, reported; and what is there is kept."""
    base = replace(
        bench_rows.BASE,
        size=48,
        width=2,
        embedding=8,
        unlabelled=20,
        validation=8,
        warm_up_steps=2,
        steps=3,
        distill_steps=2,
    )
    monkeypatch.setattr(bench_rows, "BASE", base)
    monkeypatch.setattr(bench, "SIZE", (48, 48))
    monkeypatch.setattr(bench, "CLIPS", 48)
    monkeypatch.setattr(bench, "TESTS", 24)
    bench.make_material(tmp_path, lambda *_: None)
    jobs = [bench.Job(row, 8, 1, -1) for row in ("DMT", "supervised + contrastive")]
    results = [bench.run_job(job, tmp_path) for job in jobs]
    lines = report(results, tmp_path)
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("|")]
    assert rows[2:] == [
        "DMT",
        *(f"DMT: {name}" for name in ("stage 1", "A", "B", "product", "distilled")),
        "shuffled sound",
        "centre disc",
        "whole picture",
        "supervised + contrastive",
    ]
    assert json.loads((tmp_path / "bench.json").read_text()) == results
    assert (tmp_path / "bars-8.png").stat().st_size > 1000
    kept = tmp_path / "runs" / jobs[0].name / "last.safetensors"
    before = kept.stat().st_mtime_ns
    assert bench.run_job(jobs[0], tmp_path) == results[0]
    assert kept.stat().st_mtime_ns == before


def test_rows_differ_in_what_they_are_named_for() -> None:
    recipes = {row: bench.Job(row, 64, 1, -1).recipe(Path("clips")) for row in bench_rows.ROWS}
    assert len({replace(recipe, name="") for recipe in recipes.values()}) == len(recipes)
    assert {recipe.unlabelled for recipe in recipes.values()} == {10_000}
    assert {recipe.steps for recipe in recipes.values()} == {3_000}
    assert {recipe.batch for recipe in recipes.values()} == {32}
    many = bench.Job("no EMA", 1024, 1, -1, times=3).recipe(Path("clips"))
    assert (many.labelled, many.warm_up_steps, many.steps) == (1024, 900, 9_000)


def test_quick_trains_each_row_on_each_seed() -> None:
    jobs = bench.quick_jobs(["DMT", "no EMA"], [64, 256], 2, 1)
    assert len({job.name for job in jobs}) == len(jobs) == 8
    assert {job.setting for job in jobs} == {-1}


@pytest.mark.parametrize(
    "settings", [{"ema": 1.5}, {"delta": -0.1}, {"silent": 2}, {"tau": 0.0}, {"mismatched": 1.1}]
)
def test_shares_lie_between_nothing_and_all(settings: dict[str, float]) -> None:
    with pytest.raises(UserError, match=next(iter(settings))):
        recipe_of(settings, "x.toml")
    recipe_of({"tau": 0.0, "accept": "all"}, "x.toml")
