"""One step of training by one process, by two, and in halves, each in a fork of this process.
`test_processes.py` starts this with a folder and looks at the files that are left in it."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import replace
from pathlib import Path

import torch
from forks import RECIPE, ended, fork, material
from safetensors.torch import save_file

from avsl.train.data.batches import Clips, Step, Steps
from avsl.train.data.material import Material
from avsl.train.fit import Trainer, stages
from avsl.train.recipe import Recipe

ONE = replace(
    RECIPE,
    labelled_batch=4,
    unlabelled_batch=8,
    precision="fp32",
    accumulate=1,
    delta=0.1,
    tau=0.05,
)
PLAIN = replace(ONE, contrastive_weight=0.0)
"""Without negatives, whose choice changes with the batch."""


def learn(name: str, recipe: Recipe, folder: Path, clips: Material, rank: int, world: int) -> None:
    """Writes the loss and the gradients of a step of the first two stages; then what becomes of the
    networks in two more steps."""
    if world > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
    for stage in stages(recipe)[:2]:
        trainer = Trainer(recipe, folder, clips)
        trainer.enter(stage)
        for module in trainer.model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()
        steps = Steps(clips, recipe, stage.name == "warm-up", rank, world)
        found = gradients(trainer)
        batches = [steps[3]] if recipe.accumulate == 1 else [half(steps[3], i) for i in (0, 1)]
        logs = trainer.learn(stage, batches, 3)
        for key in logs[0]:
            found[key] = torch.stack([log[key] for log in logs]).mean()
        save_file(found, folder / f"{name}-{rank}-{stage.name}.safetensors")
    trainer.model.train()
    for at in (4, 5):
        trainer.learn(stage, [steps[at]] * recipe.accumulate, at)
    kept = trainer.networks
    tensors = {
        f"{group}.{k}.{key}": tensor.contiguous()
        for group, networks in {"students": kept.students, "teachers": kept.teachers}.items()
        for k, network in enumerate(networks)
        for key, tensor in network.state_dict().items()
    }
    save_file(tensors, folder / f"{name}-{rank}-after.safetensors")


def gradients(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Those of the trainer's next step, once it is done."""
    found = {}

    def keep(parameters, limit: float) -> None:
        for i, parameter in enumerate(parameters):
            found.setdefault(f"gradient.{i}", parameter.grad.clone().contiguous())

    trainer.accelerator.clip_grad_norm_ = keep
    return found


def half(step: Step, which: int) -> Step:
    def cut(clips: Clips) -> Clips:
        n = len(clips.names) // 2
        mine = slice(which * n, (which + 1) * n)
        tensors = {name: getattr(clips, name)[mine] for name in Clips.TENSORS}
        return replace(clips, names=clips.names[mine], **tensors)

    return Step([cut(clips) for clips in step.labelled], step.unlabelled and cut(step.unlabelled))


def main(folder: Path) -> None:
    clips = material(folder / "pack")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    children = [
        fork(lambda job=job: learn(job[0], job[1], folder, clips, job[2], job[3]))
        for job in (
            ("one", ONE, 0, 1),
            ("two", ONE, 0, 2),
            ("two", ONE, 1, 2),
            ("whole", PLAIN, 0, 1),
            ("halves", replace(PLAIN, accumulate=2), 0, 1),
        )
    ]
    assert all([ended(child) for child in children])  # noqa: C419  waits for each


if __name__ == "__main__":
    main(Path(sys.argv[1]))
