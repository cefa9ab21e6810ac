"""The bench's trainings: rows (rows.py) on the same scenes and under the same rules.

`quick` runs rows, by default the main ones once, with settings fixed beforehand. `full` gives every
row the same small grid, chosen on validation clips, and three seeds with three labelled subsets.
What is measured is printed, wins and losses.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

import numpy as np
import torch

from avsl.demos.scenes import BENCH
from avsl.train.bars import Progress
from avsl.train.bench.rows import GRID, SIZE, Job
from avsl.train.bench.scores import Tests, measure, shuffled_row, static_rows
from avsl.train.data.material import open_material
from avsl.train.data.pack import open_pack, pack_scenes
from avsl.train.data.workers import end_with_parent
from avsl.train.fit import fit, stage_networks, stages
from avsl.train.recipe import Recipe
from avsl.train.run import prepare_run, read_metrics, write_text

TRAIN_SEED, HELD_OUT_SEED, TEST_SEED = 101, 2_000_000, 3_000_000
CLIPS = 11_500
"""Scenes that labelled, unlabelled and validation clips are taken from."""
TESTS = 1_000
"""Scenes that are tested on, and as many held out for calibration and the universal threshold."""


def make_material(folder: Path, progress: Progress) -> None:
    """Draws the bench's scenes, unless they are there already."""
    for name, seed, count, swapped in (
        ("test", TEST_SEED, TESTS, False),
        ("swapped", TEST_SEED, TESTS, True),
        ("held-out", HELD_OUT_SEED, TESTS, False),
        ("train", TRAIN_SEED, CLIPS, False),
    ):
        if not (folder / name).exists():
            pack_scenes(
                folder / name,
                seed,
                count,
                SIZE,
                cast=BENCH,
                swapped=swapped,
                progress=lambda done, name=name, count=count: progress(name, done, count),  # type: ignore[misc]
            )


def run_job(job: Job, folder: Path) -> dict[str, Any]:
    """Trains and measures one row; what is there already is taken up or left as it is."""
    run = folder / "runs" / job.name
    result = run / "result.json"
    if result.exists():
        found: dict[str, Any] = json.loads(result.read_text("utf-8"))
        return found
    torch.set_num_threads(1)  # a job a core is faster than a job on all of them
    recipe = job.recipe(folder / "train")
    resume = (run / "recipe.toml").exists()
    prepare_run(recipe, run, resume)
    began = time.monotonic()
    material = open_material(recipe, run)
    fit(recipe, run, material, resume=resume)
    seconds = time.monotonic() - began
    tests = Tests(*(open_pack(folder / name) for name in ("held-out", "test", "swapped")))
    lines = read_metrics(run / "metrics.jsonl")
    found = {
        "row": job.row,
        "name": job.name,
        "unlabelled_batch": recipe.unlabelled_batch,
        "steps_an_epoch": max(1, len(material.unlabelled.ids) // max(1, recipe.unlabelled_batch)),
        "labelled": job.labelled,
        "seed": job.seed,
        "setting": job.setting,
        "times": job.times,
        "minutes": seconds / 60,
        "samples_per_s": float(np.median([x["samples_per_s"] for x in lines])),
        "validation": max(x["val_mean"] for x in lines if "val_mean" in x),
        "scores": _scores(recipe, run, tests),
    }
    if job.row == "DMT":
        teachers = stage_networks(recipe, run, "unbiased")
        found["shuffled"] = shuffled_row(teachers, "mean", tests)
        found["static"] = static_rows(tests, teachers[0].spec.map_size)
    write_text(result, json.dumps(found))
    return found


def _scores(recipe: Recipe, run: Path, tests: Tests) -> dict[str, Any]:
    """Of both teachers' mean; of DMT also of each alone, their product, and the other stages."""
    networks = stage_networks(recipe, run, "unbiased")
    found = {"mean": measure(networks, "mean", tests)}
    if recipe.distill:
        early = stage_networks(recipe, run, "warm-up")
        found["stage 1"] = measure(early, "mean", tests)
        found["A"] = measure(networks[:1], "mean", tests)
        found["B"] = measure(networks[1:], "mean", tests)
        found["product"] = measure(networks, "product", tests)
        found["distilled"] = measure(stage_networks(recipe, run, "distill"), "mean", tests)
    return found


def run_jobs(jobs: list[Job], folder: Path, processes: int, progress: Progress) -> list[Any]:
    """Results of all jobs, `processes` at a time; progress is told in steps."""
    total = sum(stages(job.recipe(folder))[-1].stop for job in jobs)
    # Processes are started anew: one that had used torch before it forked could hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, end_with_parent) as pool:
        running = [pool.submit(run_job, job, folder) for job in jobs]
        try:
            while not all(future.done() for future in running):
                for future in running:
                    if future.done():
                        future.result()  # a row that failed ends the bench now, not in hours
                progress("train", sum(_steps_done(folder / "runs" / j.name) for j in jobs), total)
                wait(running, 2)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        return [future.result() for future in running]


def _steps_done(run: Path) -> int:
    path = run / "metrics.jsonl"
    lines = read_metrics(path) if path.exists() else []
    return int(lines[-1]["step"]) if lines else 0


def quick_jobs(rows: Iterable[str], labels: Iterable[int], seeds: int, times: int) -> list[Job]:
    """Rows with settings fixed beforehand."""
    return [
        Job(row, count, seed, -1, times)
        for seed in range(1, seeds + 1)
        for count in labels
        for row in rows
    ]


def full_results(
    rows: Iterable[str],
    labels: Iterable[int],
    seeds: int,
    times: int,
    folder: Path,
    processes: int,
    progress: Progress,
) -> list[Any]:
    """Each row three times on seed 1, once for each setting of the grid; the one that does best on
    validation clips is then trained on the other seeds, too."""
    pairs = [(row, count) for count in labels for row in rows]
    searched = run_jobs(
        [Job(row, count, 1, i, times) for row, count in pairs for i in range(len(GRID))],
        folder,
        processes,
        progress,
    )
    chosen = []
    for i, (row, count) in enumerate(pairs):
        tried = searched[len(GRID) * i : len(GRID) * (i + 1)]
        chosen.append((row, count, max(tried, key=lambda found: found["validation"])))
    others = run_jobs(
        [
            Job(row, count, seed, best["setting"], times)
            for row, count, best in chosen
            for seed in range(2, seeds + 1)
        ],
        folder,
        processes,
        progress,
    )
    return [best for _, _, best in chosen] + others
