"""The trainer: takes the networks of a method (see methods/) through its stages, and keeps them."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from avsl.engines import UserError
from avsl.engines.networks import Ensemble, Network
from avsl.train.data.batches import loader
from avsl.train.data.material import Material, spec_of
from avsl.train.methods.method import Networks, Students, method_of
from avsl.train.processes import gather, share_statistics
from avsl.train.recipe import Recipe, load_recipe
from avsl.train.run import (
    LAST,
    append_metrics,
    cut_metrics,
    load_checkpoint,
    save_checkpoint,
)
from avsl.train.scoring.plots import draw_curves, draw_examples

LOG_EVERY = 25


@dataclass(frozen=True)
class Stage:
    """A stretch of steps with an optimizer and a learning rate of its own."""

    name: str
    start: int
    stop: int


def stages(recipe: Recipe) -> list[Stage]:
    """The stages of a recipe's method, in order; empty ones are left out."""
    found, start = [], 0
    for name, steps in method_of(recipe).stages(recipe).items():
        if steps:
            found.append(Stage(name, start, start + steps))
            start += steps
    return found


def learning_rate(step: int, steps: int, recipe: Recipe) -> float:
    """Linear warm-up, then half a cosine to zero."""
    if step < recipe.lr_warm_up:
        return recipe.lr * (step + 1) / recipe.lr_warm_up
    done = (step - recipe.lr_warm_up) / max(1, steps - recipe.lr_warm_up)
    return recipe.lr * 0.5 * (1 + math.cos(math.pi * done))


class Trainer:
    """The networks of a run, the stage they are in, and how they are kept."""

    def __init__(self, recipe: Recipe, run: Path, material: Material) -> None:
        self.recipe, self.run, self.material = recipe, run, material
        self.accelerator = Accelerator(
            mixed_precision="bf16" if recipe.precision == "bf16" else "no",
            cpu=not torch.cuda.is_available(),
            gradient_accumulation_steps=recipe.accumulate,
        )
        self.device = self.accelerator.device
        self.method = method_of(recipe)
        self._begun = networks_to_start_from(recipe) if recipe.start else []
        students = [self._network(k) for k in range(len(recipe.sounds))]
        self.networks = Networks(students, averages=students)
        self.best = -1.0
        self.step = 0

    def _network(self, k: int) -> Network:
        # A and B must not begin alike, whatever their make.
        torch.manual_seed(self.recipe.seed * 100 + k)
        network = self.method.network(self.recipe, k)
        if self.recipe.start:
            part = "picture." if self.recipe.start_with == "picture" else ""
            begun = self._begun[k].state_dict()
            taken = {name: value for name, value in begun.items() if name.startswith(part)}
            network.load_state_dict(network.state_dict() | taken)
        if self.recipe.imagenet:
            from avsl.engines.networks.backbones import load_imagenet

            load_imagenet(cast(Any, network.picture).body)
        return cast(Any, network).to(self.device, memory_format=torch.channels_last)

    def resume(self) -> None:
        """Takes up `last.safetensors`, if there is one."""
        path = self.run / LAST
        if not path.exists():  # it was stopped before the first one
            return
        tensors, state = load_checkpoint(path)
        self.step = int(state["step"])
        self.enter(self._stage_of_last_step())
        self.best = float(state["best"])
        for name, group in self._groups().items():
            for k, network in enumerate(group):
                network.load_state_dict(_under(tensors, f"{name}.{k}."))
        moments = {}
        for i, parameter in enumerate(self.model.parameters()):
            # Laid out in memory as the weights are, like those that were kept.
            moments[i] = {
                name: torch.empty_like(parameter).copy_(tensor) if tensor.dim() else tensor
                for name, tensor in _under(tensors, f"optimizer.{i}.").items()
            }
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})

    def train(self, show: Callable[[Stage, int, float], None]) -> None:
        """Runs what is left of all stages."""
        for stage in stages(self.recipe):
            if self.step < stage.stop:
                if self.step == stage.start:
                    self.enter(stage)
                self._run_stage(stage, show)

    def _stage_of_last_step(self) -> Stage:
        return next(s for s in stages(self.recipe) if s.start < self.step <= s.stop)

    def enter(self, stage: Stage) -> None:
        """Makes the networks of a stage out of those of the stage before, and its optimizer."""
        networks = self.networks
        self.method.enter(stage.name, networks, self._load_best)
        for network in [*networks.teachers, *networks.averages]:
            network.requires_grad_(False)
        self.accelerator.free_memory()
        self.model: Any = Students(networks.students).requires_grad_(True).train()
        self.optimizer: Any = torch.optim.AdamW(
            self.model.parameters(), lr=self.recipe.lr, weight_decay=self.recipe.weight_decay
        )
        self.model, self.optimizer = self.accelerator.prepare(self.model, self.optimizer)
        self.best = -1.0

    def _run_stage(self, stage: Stage, show: Callable[[Stage, int, float], None]) -> None:
        recipe = self.recipe
        ranks = self.accelerator.process_index, self.accelerator.num_processes
        steps = self.method.batches(stage.name, self.material, recipe, *ranks)
        micro = recipe.accumulate
        first = (self.step - stage.start) * micro
        batches = iter(loader(steps, first, (stage.stop - stage.start) * micro, recipe.workers))
        sums = Sums()
        for at in range(self.step - stage.start, stage.stop - stage.start):
            asked = time.perf_counter()
            step = [next(batches) for _ in range(micro)]
            began = time.perf_counter()
            for log in self.learn(stage, step, at):
                sums.add(log)
            self.step += 1
            now = time.perf_counter()
            sums.count(recipe.batch * micro, now - asked, began - asked)
            self._after_step(stage, step[-1], sums)
            show(stage, self.step, sums.speed)

    def learn(self, stage: Stage, batches: list[Any], at: int) -> list[dict[str, Tensor]]:
        """Step `at` of a stage: the gradients of its batches, one move of the weights, and the
        averages after them."""
        accelerator = self.accelerator
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(at, stage.stop - stage.start, self.recipe)
        logs = []
        for batch in batches:
            batch = batch.to(self.device)
            with accelerator.accumulate(self.model):
                loss, log = self.method.loss(
                    stage.name, self.model, self.networks, batch, at, self.recipe, gather
                )
                self._check(loss, batch)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(self.model.parameters(), 5.0)
                self.optimizer.step()
                self.optimizer.zero_grad()
            logs.append(log)
        share_statistics(self.networks.students)
        self.method.after_step(self.networks, at, self.recipe)
        return logs

    def _check(self, loss: Tensor, batch: Any) -> None:
        if not torch.isfinite(loss):
            kept = self.run / LAST
            good = f"the last good checkpoint is {kept}" if kept.exists() else "no checkpoint yet"
            clips = ", ".join(batch.names[:64])
            raise UserError(
                f"{self.run}: the loss is not a number at step {self.step}; {good}; clips: {clips}"
            )

    def _after_step(self, stage: Stage, batch: Any, sums: Sums) -> None:
        """Logs, validates and keeps, each when its time has come; the first process alone."""
        recipe, done = self.recipe, self.step
        last = done == stage.stop
        keeps = last or done % recipe.checkpoint_every == 0
        validates = last or done % recipe.validate_every == 0
        logs = keeps or validates or done % LOG_EVERY == 0
        means = sums.means() if logs else {}
        if not self.accelerator.is_main_process:
            return
        if logs:
            line = {"step": done, "stage": stage.name, **means}
            if validates:
                averages = self.networks.averages
                scores = self.method.validate(averages, self.material, self.device)
                line |= {f"val_{name}": value for name, value in scores.items()}
                if scores["mean"] > self.best:
                    self.best = scores["mean"]
                    self._save(self.run / best_of(stage.name), {"averages": averages})
                if examples := self.method.examples(stage.name, self.networks, batch):
                    folder = self.run / "examples"
                    folder.mkdir(exist_ok=True)
                    teachers, clips = examples
                    path = folder / f"{done:06d}.png"
                    draw_examples(path, teachers, clips.to(self.device), recipe)
            append_metrics(self.run / "metrics.jsonl", line)
            if validates:
                draw_curves(self.run)
        if keeps:
            self._save(self.run / LAST, self._groups(), self.optimizer)

    def _groups(self) -> dict[str, list[Network]]:
        n = self.networks
        groups = {"students": n.students, "teachers": n.teachers}
        if n.averages is not n.students and n.averages is not n.teachers:
            groups["averages"] = n.averages
        return groups

    def _save(self, path: Path, groups: dict[str, list[Network]], optimizer: Any = None) -> None:
        tensors = {
            f"{name}.{k}.{key}": tensor
            for name, group in groups.items()
            for k, network in enumerate(group)
            for key, tensor in network.state_dict().items()
        }
        if optimizer is not None:
            for i, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{i}.{key}": torch.as_tensor(v) for key, v in state.items()}
        state = {"step": self.step, "best": self.best}
        save_checkpoint(path, tensors, state)

    def _load_best(self, stage: str, networks: list[Network]) -> None:
        """A stage begins with what did best on validation in the one before."""
        self.accelerator.wait_for_everyone()
        if (self.run / best_of(stage)).exists():
            tensors, _ = load_checkpoint(self.run / best_of(stage))
            for k, network in enumerate(networks):
                network.load_state_dict(_under(tensors, f"averages.{k}."))


class Sums:
    """Means of what was logged since the last line."""

    def __init__(self) -> None:
        self.speed = 0.0
        self._reset()

    def _reset(self) -> None:
        self._logs: list[dict[str, Tensor]] = []
        self._clips, self._seconds, self._waited = 0, 0.0, 0.0

    def add(self, log: dict[str, Tensor]) -> None:
        self._logs.append(log)

    def count(self, clips: int, seconds: float, waited: float) -> None:
        self._clips += clips
        self._seconds += seconds
        self._waited += waited
        self.speed = self._clips / self._seconds

    def means(self) -> dict[str, float]:
        """Means by name, and the speed; what was not a number is left out. Starts anew."""
        line: dict[str, float] = {}
        for name in self._logs[0]:
            values = torch.stack([log[name] for log in self._logs if name in log])
            values = values[values.isfinite()]
            if len(values):
                line[name] = round(float(values.mean()), 6)
        line["samples_per_s"] = round(self.speed, 1)
        line["loading_share"] = round(self._waited / self._seconds, 4)
        self._reset()
        return line


def best_of(stage: str) -> str:
    """Name of the file with a stage's best networks."""
    return f"{stage}.safetensors"


def _under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def stage_networks(recipe: Recipe, run: Path, stage: str | None = None) -> list[Network]:
    """The networks that did best in a stage of a run, by default the last that has got that far, in
    eval mode, on the CPU.

    Raises:
        UserError: the run has not got far enough to have any.
    """
    names = [stage] if stage else [s.name for s in reversed(stages(recipe))]
    reached = [name for name in names if (run / best_of(name)).exists()]
    if not reached:
        raise UserError(f"{run}: no networks in it yet; go on training it with --resume")
    tensors, _ = load_checkpoint(run / best_of(reached[0]))
    method, networks = method_of(recipe), list[Network]()
    while kept := _under(tensors, f"averages.{len(networks)}."):
        network = method.network(recipe, len(networks))
        network.load_state_dict(kept)
        networks.append(network.eval())
    return networks


def networks_to_start_from(recipe: Recipe) -> list[Network]:
    """The best networks of the run that a recipe goes on from.

    Raises:
        UserError: there are none, or they are of another make.
    """
    folder = Path(recipe.start)
    networks = stage_networks(load_recipe(folder / "recipe.toml"), folder)
    wanted = [spec_of(recipe, k) for k in range(len(recipe.sounds))]
    if [network.spec for network in networks] != wanted:
        raise UserError(f"{folder}: its networks are of another make than the recipe's")
    return networks


@contextmanager
def ctrl_c_between_steps() -> Iterator[Callable[[], None]]:
    """Ctrl-C is raised by what this gives, which is called after each step. Amid one it may strike
    where Python loses it, or a batch that a worker hands over. A second Ctrl-C doesn't wait."""
    asked = False

    def ask(number: int, frame: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:  # ignored, as by nohup, or another's concern
        yield check
        return
    signal.signal(signal.SIGINT, ask)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


def fit(recipe: Recipe, run: Path, material: Material, *, resume: bool = False) -> Ensemble:
    """Trains in `run` (which `prepare_run` has made) and returns what did best on validation.

    Raises:
        UserError: the loss is not a number.
    """
    trainer = Trainer(recipe, run, material)
    if resume:
        trainer.resume()
    if trainer.accelerator.is_main_process:
        cut_metrics(run / "metrics.jsonl", trainer.step)
    console = Console(stderr=True)
    total = stages(recipe)[-1].stop
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    quiet = not (console.is_terminal and trainer.accelerator.is_main_process)
    with (
        ctrl_c_between_steps() as check,
        Progress(*columns, console=console, disable=quiet) as bar,
    ):
        task = bar.add_task("fit", total=total, completed=trainer.step, speed="")

        def show(stage: Stage, step: int, speed: float) -> None:
            said = f"{speed:.0f} samples/s"
            bar.update(task, description=stage.name, completed=step, speed=said)
            check()

        trainer.train(show)
    trainer.accelerator.wait_for_everyone()
    return trainer.method.export(stage_networks(recipe, run), recipe.combine)
