"""What a training will take: counted as a fit counts it, and measured on a step or two of it with
made-up clips."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from avsl.demos.scenes import RATE, Cast
from avsl.engines.networks import Network
from avsl.train.checks import check, remarks
from avsl.train.data.material import SLACK_S, Material, Part, Source, Survey, spec_of
from avsl.train.data.pool import Pool
from avsl.train.fit import stages
from avsl.train.methods.method import Networks, Students, method_of
from avsl.train.processes import gather
from avsl.train.recipe import Casts, Recipe
from avsl.train.run import steps_done

CLIPS = 8
"""So many clips are made up; a batch takes them again and again."""


def describe_run(
    recipe: Recipe, run: Path, *, resume: bool = False, skip_bad: bool = False
) -> list[str]:
    """Lines for a person: clips, sizes, memory, and an estimate of the time, on the CPU or, where
    there is one, on the GPU. Nothing is written.

    Raises:
        UserError: a fit would say so, too.
    """
    casts, found = check(recipe, run, resume=resume, skip_bad=skip_bad)
    done = steps_done(run) if resume else 0
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    method = method_of(recipe)
    networks = [method.network(recipe, k).to(device) for k in range(len(recipe.sounds))]
    weights = [sum(p.numel() for p in n.parameters()) for n in networks]
    seconds = step_seconds(recipe, networks, device, casts.train)
    left = {s.name: max(0, s.stop - max(s.start, done)) for s in stages(recipe)}
    total = sum(steps * seconds[name] for name, steps in left.items())
    # Students, teachers and AdamW's two moments.
    kept = 4 * 4 * sum(weights)
    return [
        f"networks: {' and '.join(f'{w / 1e6:.2f} M parameters' for w in weights)}",
        *_clips(recipe, casts, found),
        f"weights, teachers and optimizer: {kept / 1e6:.0f} MB; a checkpoint is as large",
        *(
            f"{stage.name}: {stage.stop - stage.start} steps of {recipe.batch} clips, "
            f"{recipe.batch * recipe.accumulate / seconds[stage.name]:.0f} samples/s"
            for stage in stages(recipe)
        ),
        f"time: about {_duration(total)} on this machine's {device.type}"
        + (f", for what is left after step {done}" if done else ""),
    ]


def _clips(recipe: Recipe, casts: Casts, found: Survey) -> list[str]:
    """What there is to learn from, and what only a fit will find out."""
    chosen = found.chosen
    few, many, held = map(len, (chosen.labelled, chosen.unlabelled, chosen.validation))
    samples = round((recipe.seconds + SLACK_S) * RATE)
    size = found.clips * (3 * recipe.size**2 + 2 * samples)
    parts = f"{few} labelled, {many} unlabelled, {held} for validation"
    lines = [f"clips: {found.clips}, {size / 1e9:.2f} GB packed: {parts}"]
    if not recipe.data:
        kinds = f"{len(casts.train.families)} that sound, {len(casts.train.strangers)} that don't"
        return [*lines, f"scenes: drawn when the training starts; kinds of things: {kinds}"]
    lines += remarks(recipe, chosen.leaks, many)
    if not found.packed:
        lines.append("not looked at: whether each picture and sound can be read; a fit does that")
    return lines


class _Noise:
    """Clips of noise, of the sizes that a recipe's have, with a box each."""

    def __init__(self, recipe: Recipe) -> None:
        self._picture = (recipe.size, recipe.size, 3)
        self._window = spec_of(recipe, 0).window

    def __len__(self) -> int:
        return CLIPS

    def name(self, index: int) -> str:
        return f"clip {index}"

    def clip(
        self, index: int, rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
        samples = rng.normal(0, 0.1, self._window).astype(np.float32)
        box = np.array([[0.2, 0.2, 0.6, 0.7]], np.float32)
        return rng.integers(0, 256, self._picture, np.uint8), samples, box


def _made_up(recipe: Recipe, things: Cast) -> Material:
    """A few clips: of noise, but where kinds are to be told apart, of scenes."""
    source: Source = _Noise(recipe)
    if recipe.kinds_steps:
        spec = spec_of(recipe, 0)
        source = Pool(
            recipe.seed,
            CLIPS,
            1,
            spec.picture_size,
            spec.window,
            things,
            spec.map_size,
            recipe.speeds,
        )
    part = Part(source, np.arange(CLIPS))
    nothing: Any = None  # no stage validates here
    return Material(part, part, nothing, part.ids, (nothing, part.ids))


def step_seconds(
    recipe: Recipe, networks: list[Network], device: torch.device, things: Cast
) -> dict[str, float]:
    """Seconds of a step of each stage, all its batches included."""
    for network in networks:
        cast(Any, network).to(memory_format=torch.channels_last)
    method, material = method_of(recipe), _made_up(recipe, things)
    in_stage = Networks(networks, averages=networks)
    seconds = {}
    for stage in stages(recipe):
        method.enter(stage.name, in_stage, lambda stage, networks: None)
        model: Any = Students(in_stage.students).requires_grad_(True)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        # The forward pass alone, as the trainer has it.
        half = torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")
        model.forward = half(model.forward)
        batch = method.batches(stage.name, material, recipe, 0, 1)[0].to(device)
        for _ in range(2):  # the first one allocates
            began = time.perf_counter()
            loss, _ = method.loss(stage.name, model, in_stage, batch, 0, recipe, gather)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            method.after_step(in_stage, 0, recipe)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds[stage.name] = (time.perf_counter() - began) * recipe.accumulate
    return seconds


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
