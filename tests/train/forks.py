"""Trainings that get killed. Each runs in a fork of this process, which has torch imported and no
threads: it starts in no time. `test_resume.py` starts this with a folder and a seed."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch._dynamo  # noqa: F401  the first optimizer imports it: here once, not in each fork
from safetensors.torch import load_file

import avsl.train.fit as module
from avsl.train.data.material import Material, PackSource, Part
from avsl.train.data.pack import open_pack
from avsl.train.recipe import Recipe
from avsl.train.run import prepare_run

RECIPE = Recipe(
    size=32,
    width=4,
    embedding=8,
    labelled=8,
    unlabelled=16,
    validation=12,
    labelled_batch=2,
    unlabelled_batch=2,
    warm_up_steps=10,
    steps=14,
    distill=True,
    distill_steps=6,
    lr_warm_up=3,
    pseudo_ramp=10,
    delta=0.3,
    tau=0.1,
    silent=0.2,
    accumulate=2,
    workers=1,
    precision="bf16",
    checkpoint_every=3,
    validate_every=4,
)
BEFORE, AFTER, HALF_A_LINE = "before", "after", "half a line"
SPOTS = (
    ("last", 3, BEFORE),  # there is no checkpoint yet
    ("warm-up", 4, BEFORE),
    ("warm-up", 4, AFTER),  # what is best is newer than the last checkpoint
    ("metrics", 8, HALF_A_LINE),
    ("last", 10, BEFORE),  # the stage ends
    ("last", 10, AFTER),
    ("unbiased", 12, AFTER),
    ("last", 24, BEFORE),
    ("last", 24, AFTER),
    ("distill", 28, BEFORE),
)
"""Files, steps, and whether a process dies before or after such a file takes its place."""


def material(folder: Path) -> Material:
    pack = open_pack(folder)
    source = PackSource(pack, round(RECIPE.seconds * pack.rate))
    validation, few, many = np.split(np.arange(len(pack)), [12, 20])
    return Material(Part(source, few), Part(source, many), pack, validation, (pack, validation))


def fork(work: Callable[[], object]) -> int:
    """Does `work` in a process of its own."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    os._exit(status)


def train(run: Path, clips: Material, dies: tuple[str, int, str] | None = None) -> None:
    """Begins a training or goes on with it."""
    if dies:
        die_at(*dies)
    resume = (run / "recipe.toml").exists()
    prepare_run(RECIPE, run, resume)
    module.fit(RECIPE, run, clips, resume=resume)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_at(what: str, step: int, when: str) -> None:
    save, append, replace = module.save_checkpoint, module.append_metrics, Path.replace

    def replace_or_die(source: Path, target: Path) -> Path:
        if target.stem == what:
            die()
        return replace(source, target)

    def save_and_die(path: Path, tensors, state) -> None:
        if (path.stem, state["step"]) != (what, step):
            return save(path, tensors, state)
        if when == BEFORE:
            Path.replace = replace_or_die
        save(path, tensors, state)
        die()

    def append_and_die(path: Path, line) -> None:
        if (what, line["step"]) == ("metrics", step):
            text = json.dumps(line)
            with path.open("a") as file:
                file.write(text[: len(text) // 2])
            die()
        append(path, line)

    module.save_checkpoint, module.append_metrics = save_and_die, append_and_die


def ended(child: int) -> bool:
    """Waits for a process; False if it was killed."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return False
    assert os.waitstatus_to_exitcode(status) == 0
    return True


def all_gone(seconds: float) -> bool:
    """Whether what the killed ones had started ends by itself."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return True
        time.sleep(0.05)
    return False


def check_whole(run: Path) -> None:
    for path in run.glob("*.safetensors"):
        assert load_file(path)


def main(folder: Path, seed: int, kills: int) -> None:
    # Whoever loses its parent becomes ours, so that we see all of them end.
    ctypes.CDLL(None).prctl(36, 1)
    module.LOG_EVERY = 5
    module.draw_curves = module.draw_examples = lambda *_: None
    clips = material(folder / "pack")
    gc.collect()
    gc.freeze()  # or each fork would go through, and so copy, all of torch

    began = time.monotonic()
    assert ended(fork(lambda: train(folder / "whole", clips)))
    whole = time.monotonic() - began

    for spot in SPOTS:
        child = fork(lambda spot=spot: train(folder / "spots", clips, spot))
        assert not ended(child), f"{spot} was not reached"
        check_whole(folder / "spots")
    assert ended(fork(lambda: train(folder / "spots", clips)))

    rng = np.random.default_rng(seed)
    runs = 0
    left = kills
    while left:
        run = folder / f"timed-{runs}"
        fresh = not run.exists()
        child = fork(lambda run=run: train(run, clips))
        time.sleep(whole * rng.uniform(0.05, 0.4))
        os.kill(child, signal.SIGKILL)
        if ended(child):
            runs += 1
            if fresh:  # the machine has become faster
                whole /= 2
        else:
            left -= 1
            check_whole(run)
    assert ended(fork(lambda: train(folder / f"timed-{runs}", clips)))
    print(json.dumps({"runs": runs + 1, "gone": all_gone(20)}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
