"""A supervised fit on scenes: boxes are known, so every cell has an answer."""

from __future__ import annotations

import copy
import dataclasses
import json
import platform
from pathlib import Path

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)
from safetensors.torch import load_file, save_file
from torch import Tensor

from avsl.demos.scenes import DRAWN, Cast
from avsl.engines import UserError
from avsl.engines.networks import Network, NetworkSpec, unit
from avsl.train.pool import Batch, Pool
from avsl.train.recipe import Recipe

CHECKPOINT_STEPS = 250


def loss_on(logits: Tensor, target: Tensor, recipe: Recipe) -> Tensor:
    """Pixel-wise cross entropy against how much of each cell sounds, and, where something sounds,
    the cross entropy of the map's peak: -log of the share of softmax(logits) inside the thing.

    Args:
        logits, target: `[B, m, n]`.
    """
    positive = torch.tensor(recipe.positive_weight)
    cells = F.binary_cross_entropy_with_logits(logits, target, pos_weight=positive)
    heard = target.amax((1, 2)) > 0.5
    inside = target[heard].flatten(1).clamp_min(1e-4).log()
    peak = -torch.logsumexp(logits[heard].flatten(1).log_softmax(1) + inside, 1)
    return 10 * cells + recipe.peak_weight * peak.sum() / len(logits)


def pictures_to_input(pictures: Tensor) -> Tensor:
    """uint8 `[B, h, w, 3]` to float `[B, 3, h, w]` in [-1, 1], as the exported graph does it."""
    return pictures.float().permute(0, 3, 1, 2) / 127.5 - 1


def augment(x: Tensor, generator: torch.Generator) -> Tensor:
    """What cameras do to a picture: light, colour balance, contrast, blur and noise."""

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(len(x), *shape, 1, 1, generator=generator) * (high - low) + low

    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * draw(0.4, 1.3, 1)
    x = x * draw(0.6, 1.25, 1) * draw(0.85, 1.15, 3) + draw(-0.25, 0.25, 1)
    blurred = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
    x = x + (blurred - x) * draw(-0.5, 1, 1).clamp_min(0)
    x = x + torch.randn(x.shape, generator=generator) * draw(0, 0.08, 1)
    return x.clamp(-1, 1)


def update_average(average: torch.nn.Module, network: torch.nn.Module, decay: float) -> None:
    """average <- decay * average + (1 - decay) * network, batch norm's statistics included."""
    with torch.no_grad():
        for mean, value in zip(
            average.state_dict().values(), network.state_dict().values(), strict=True
        ):
            if mean.is_floating_point():
                mean.lerp_(value, 1 - decay)
            else:
                mean.copy_(value)


def learning_rate(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine to zero."""
    if step < recipe.warmup:
        return recipe.lr * (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return float(recipe.lr * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * done))))


def fit(recipe: Recipe, run: Path, *, cast: Cast = DRAWN, resume: bool = False) -> Network:
    """Trains the small network and returns its averaged weights.

    `run` receives `recipe.json`, `environment.json`, `metrics.jsonl`, and a checkpoint every
    `CHECKPOINT_STEPS` steps; with `resume` the last one is taken up.

    Raises:
        UserError: `run` holds another training, or none to resume; or the loss is not a number.
    """
    _prepare_run(recipe, run, resume)
    torch.manual_seed(recipe.seed)
    spec = NetworkSpec()
    network = Network(spec).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(network)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=recipe.lr, weight_decay=recipe.weight_decay
    )
    start = 0
    if resume:
        start = _load_checkpoint(run / "last.safetensors", network, average, optimizer)
    pool = Pool(recipe.seed, recipe.pictures, recipe.voices, spec.picture_size, cast)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    bar = Progress(*columns, console=console, disable=not console.is_terminal)
    with bar as progress, (run / "metrics.jsonl").open("a") as metrics:
        task = progress.add_task("fit", total=recipe.steps, completed=start, speed="")
        total = 0.0
        for step, batch in enumerate(
            pool.batches(recipe.seed, start, recipe.steps, recipe.batch), start
        ):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step, recipe)
            loss = _step(network, batch, step, recipe)
            if not torch.isfinite(loss):
                raise UserError(
                    f"{run}: the loss is not a number at step {step}; "
                    f"the last good checkpoint is {run / 'last.safetensors'}"
                )
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            optimizer.zero_grad()
            # Early on the weights move too fast for a long memory.
            update_average(average, network, min(recipe.ema, (step + 1) / (step + 10)))
            total += loss.item()
            done = step + 1
            speed = progress.tasks[task].speed
            progress.update(
                task, completed=done, speed=f"{(speed or 0) * recipe.batch:.0f} samples/s"
            )
            if done % CHECKPOINT_STEPS == 0 or done == recipe.steps:
                _save_checkpoint(run / "last.safetensors", done, network, average, optimizer)
                line = {"step": done, "loss": round(total / CHECKPOINT_STEPS, 4)}
                metrics.write(json.dumps(line) + "\n")
                metrics.flush()
                total = 0.0
    average.eval()
    return average


def _step(network: Network, batch: Batch, step: int, recipe: Recipe) -> Tensor:
    generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
    x = augment(pictures_to_input(torch.from_numpy(batch.pictures)), generator)
    x = x.contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        features = network.features(x)
        # The spectrogram's range is far beyond what bfloat16 can tell apart.
        with torch.autocast("cpu", enabled=False):
            log_mel = network.spectrogram(torch.from_numpy(batch.samples))
        embedding = unit(network.sound(log_mel).float())
    logits = network.logits(features, embedding)
    return loss_on(logits, torch.from_numpy(batch.target).clamp(0, 1), recipe)


def _prepare_run(recipe: Recipe, run: Path, resume: bool) -> None:
    settings = json.dumps(dataclasses.asdict(recipe), indent=2)
    known = run / "recipe.json"
    if resume:
        if not (run / "last.safetensors").exists():
            raise UserError(f"{run}: no checkpoint to resume; leave out --resume to start")
        if known.read_text() != settings:
            raise UserError(f"{run}: was trained with another recipe; name another run folder")
        return
    if known.exists():
        raise UserError(f"{run}: holds a training already; --resume goes on with it")
    run.mkdir(parents=True, exist_ok=True)
    known.write_text(settings)
    environment = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": torch.get_num_threads(),
    }
    (run / "environment.json").write_text(json.dumps(environment, indent=2))


def _save_checkpoint(
    path: Path,
    step: int,
    network: Network,
    average: Network,
    optimizer: torch.optim.Optimizer,
) -> None:
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.state_dict().items()}
    for i, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{i}.{k}": v for k, v in state.items()}
    beside = path.with_suffix(".part")
    # safetensors would refuse what is not contiguous, and a copy must not alias the weights.
    save_file(
        {k: v.detach().clone(memory_format=torch.contiguous_format) for k, v in tensors.items()},
        beside,
        {"step": str(step)},
    )
    beside.replace(path)


def _load_checkpoint(
    path: Path, network: Network, average: Network, optimizer: torch.optim.Optimizer
) -> int:
    tensors = load_file(path)
    state: dict[int, dict[str, Tensor]] = {}
    weights: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "optimizer":
            index, _, key = rest.partition(".")
            state.setdefault(int(index), {})[key] = tensor
        else:
            weights[kind][rest] = tensor
    network.load_state_dict(weights["network"])
    average.load_state_dict(weights["average"])
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return int(next(iter(state.values()))["step"].item())
