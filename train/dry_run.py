"""What a training will take, measured on a step or two of it with made-up clips."""

from __future__ import annotations

import time
from typing import Any, cast

import numpy as np
import torch

from avsl.demos.scenes import RATE
from avsl.engines.networks import Network
from avsl.train.data.batches import Clips, Step
from avsl.train.data.material import SLACK_S, spec_of
from avsl.train.data.views import STRONG, WEAK
from avsl.train.fit import stages
from avsl.train.methods.dmt import Students, unbiased_loss, warm_up_loss
from avsl.train.processes import gather
from avsl.train.recipe import Recipe


def describe_run(recipe: Recipe) -> list[str]:
    """Lines for a person: sizes, memory, and an estimate of the time, on the CPU or, where there is
    one, on the GPU."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    networks = [Network(spec_of(recipe, k)).to(device) for k in range(len(recipe.sounds))]
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


def made_up(recipe: Recipe, n: int, seed: int, device: torch.device) -> Clips:
    """Clips of noise, of the sizes that a recipe's have."""
    rng = np.random.default_rng(seed)
    size, window = recipe.size, spec_of(recipe, 0).window
    pictures = rng.integers(0, 256, (n, size, size, 3), np.uint8)
    samples = rng.normal(0, 0.1, (n, window)).astype(np.float32)
    boxes = np.tile(np.array([0.2, 0.2, 0.6, 0.7], np.float32), (n, 1, 1))
    return Clips(
        spec_of(recipe, 0).map_size,
        [f"clip {i}" for i in range(n)],
        torch.from_numpy(pictures),
        torch.from_numpy(samples),
        torch.from_numpy(boxes),
        torch.ones(n, dtype=torch.bool),
        torch.ones(n, dtype=torch.bool),
        torch.from_numpy(rng.random((n, WEAK + STRONG), np.float32)),
    ).to(device)


def step_seconds(recipe: Recipe, networks: list[Network], device: torch.device) -> dict[str, float]:
    """Seconds of a step of each stage, all its batches included."""
    for network in networks:
        cast(Any, network).to(memory_format=torch.channels_last)
    model: Any = Students(networks)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    # The forward pass alone, as the trainer has it.
    half = torch.autocast(device.type, torch.bfloat16, enabled=recipe.precision == "bf16")
    model.forward = half(model.forward)

    def run(stage: str) -> None:
        few = [made_up(recipe, recipe.labelled_batch, k, device) for k in range(len(networks))]
        whole = [made_up(recipe, recipe.batch, k, device) for k in range(len(networks))]
        if stage == "warm-up":
            loss, _ = warm_up_loss(model, Step(whole, None), recipe, gather)
        else:
            many = made_up(recipe, max(1, recipe.unlabelled_batch), 9, device)
            step = Step(few[:1], many if recipe.unlabelled_batch else None)
            loss, _ = unbiased_loss(model, networks, step, 0, recipe, gather)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        if device.type == "cuda":
            torch.cuda.synchronize()

    seconds = {}
    for stage in ("warm-up", "unbiased"):
        run(stage)  # the first one allocates
        began = time.perf_counter()
        run(stage)
        seconds[stage] = (time.perf_counter() - began) * recipe.accumulate
    # One student of two, and both teachers.
    return seconds | {"distill": 0.6 * seconds["unbiased"]}


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
