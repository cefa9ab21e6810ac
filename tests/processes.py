"""Run by test_processes.py, in one process or two: losses and gradients of one
batch, batch norm's statistics frozen.

torchrun --standalone --nproc_per_node N processes.py PACK OUT
"""

import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from avsl.engines.networks import Network
from avsl.train.dmt import Students, unbiased_loss, warm_up_loss
from avsl.train.fit import gather
from avsl.train.material import Steps, open_material, spec_of
from avsl.train.recipe import Recipe

pack, out = sys.argv[1:]
torch.set_num_threads(1)
recipe = Recipe(
    data=pack,
    labelled=8,
    unlabelled=12,
    validation=4,
    size=64,
    width=4,
    labelled_batch=4,
    unlabelled_batch=6,
    pseudo_ramp=1,
    delta=0.02,  # untrained teachers must agree on something, or nothing is tested
    tau=0.01,
    precision="fp32",
)
accelerator = Accelerator(cpu=True)
rank, world = accelerator.process_index, accelerator.num_processes
material = open_material(recipe, Path(pack))
found: dict[str, torch.Tensor] = {"world": torch.tensor(world)}
for stage in ("warm-up", "unbiased"):
    torch.manual_seed(0)
    networks = [Network(spec_of(recipe, k)) for k in range(2)]
    teachers = [Network(spec_of(recipe, k)).eval() for k in range(2)]
    model = accelerator.prepare(Students(networks)).eval()
    step = Steps(material, recipe, stage == "warm-up", rank, world)[0]
    if stage == "warm-up":
        loss, log = warm_up_loss(model, step, recipe, gather)
    else:
        loss, log = unbiased_loss(model, teachers, step, 0, recipe, gather)
    accelerator.backward(loss)
    found |= {f"{stage}.{name}": torch.as_tensor(value) for name, value in log.items()}
    for k, network in enumerate(networks):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
            found[f"{stage}.{k}.{name}"] = parameter.grad.clone()
if accelerator.is_main_process:
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, out)
accelerator.end_training()
