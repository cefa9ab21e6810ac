"""What a training will take, measured on a step or two of it with made-up clips."""

from __future__ import annotations

import time
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from avsl.demos.scenes import RATE
from avsl.engines.networks import Network
from avsl.train.data.material import SLACK_S, Material, Part, Source, spec_of
from avsl.train.data.pool import Pool
from avsl.train.fit import stages
from avsl.train.methods.method import Networks, Students, method_of
from avsl.train.processes import gather
from avsl.train.recipe import Recipe, casts_of

CLIPS = 8
"""So many clips are made up; a batch takes them again and again."""


def describe_run(recipe: Recipe) -> list[str]:
    """Lines for a person: sizes, memory, and an estimate of the time, on the CPU or, where there is
    one, on the GPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    method = method_of(recipe)
    networks = [method.network(recipe, k).to(device) for k in range(len(recipe.sounds))]
    weights = [sum(p.numel() for p in n.parameters()) for n in networks]
    seconds = step_seconds(recipe, networks, device)
    total = sum((stage.stop - stage.start) * seconds[stage.name] for stage in stages(recipe))
    clips = recipe.labelled + recipe.unlabelled + recipe.validation
    samples = round((recipe.seconds + SLACK_S) * RATE)
    packed = clips * (3 * recipe.size**2 + 2 * samples)
    # Students, teachers and AdamW's two moments.
    kept = 4 * 4 * sum(weights)
    return [
        f"networks: {' and '.join(f'{w / 1e6:.2f} M parameters' for w in weights)}",
        f"clips: {clips}, {packed / 1e9:.2f} GB packed",
        f"weights, teachers and optimizer: {kept / 1e6:.0f} MB; a checkpoint is as large",
        *(
            f"{stage.name}: {stage.stop - stage.start} steps of {recipe.batch} clips, "
            f"{recipe.batch * recipe.accumulate / seconds[stage.name]:.0f} samples/s"
            for stage in stages(recipe)
        ),
        f"time: about {_duration(total)} on this machine's {device.type}",
    ]


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


def _made_up(recipe: Recipe) -> Material:
    """A few clips: of noise, but where kinds are to be told apart, of scenes."""
    source: Source = _Noise(recipe)
    if recipe.kinds_steps:
        spec, cast = spec_of(recipe, 0), casts_of(recipe.cutouts).train
        source = Pool(
            recipe.seed,
            CLIPS,
            1,
            spec.picture_size,
            spec.window,
            cast,
            spec.map_size,
            recipe.speeds,
        )
    part = Part(source, np.arange(CLIPS))
    nothing: Any = None  # no stage validates here
    return Material(part, part, nothing, part.ids, (nothing, part.ids))


def step_seconds(recipe: Recipe, networks: list[Network], device: torch.device) -> dict[str, float]:
    """Seconds of a step of each stage, all its batches included."""
    for network in networks:
        cast(Any, network).to(memory_format=torch.channels_last)
    method, material = method_of(recipe), _made_up(recipe)
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
