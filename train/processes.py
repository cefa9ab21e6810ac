"""Several processes that train as one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import torch
from accelerate import PartialState
from torch import Tensor, distributed
from torch.nn.modules.batchnorm import _BatchNorm

from avsl.engines import UserError
from avsl.engines.networks import Network
from avsl.train.recipe import Recipe


def processes() -> PartialState:
    """This process among those that train together, of which `torchrun` or `accelerate launch`
    start several. The others wait for the first as long as it takes to pack clips."""
    return PartialState(cpu=not torch.cuda.is_available(), timeout=timedelta(days=1))


def gather(x: Tensor) -> Tensor:
    """Joins the processes' rows, with a gradient: each process then has the whole batch's loss, and
    DistributedDataParallel's mean over processes is that loss's gradient."""
    if _alone():
        return x
    return cast(Tensor, _Gather.apply(x))  # type: ignore[no-untyped-call]


class _Gather(torch.autograd.Function):
    """Backward, a row's gradient is the sum of what it is in each process."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        rows = [torch.empty_like(x) for _ in range(distributed.get_world_size())]
        distributed.all_gather(rows, x.contiguous())
        return torch.cat(rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        whole = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(whole)
        return whole.chunk(distributed.get_world_size())[distributed.get_rank()]


@torch.no_grad()
def share_statistics(networks: list[Network]) -> None:
    """Gives batch norm's running statistics, which come from each process's own rows, their mean
    over the processes: the networks stay the same in all."""
    if _alone():
        return
    norms = [m for network in networks for m in network.modules() if isinstance(m, _BatchNorm)]
    statistics = [cast(Tensor, s) for m in norms for s in (m.running_mean, m.running_var)]
    means = torch.cat(statistics) / distributed.get_world_size()
    distributed.all_reduce(means)
    torch._foreach_copy_(statistics, means.split_with_sizes([len(s) for s in statistics]))


def _alone() -> bool:
    return not distributed.is_initialized() or distributed.get_world_size() == 1


def check_shares(recipe: Recipe, count: int) -> None:
    """
    Raises:
        UserError: a batch can't be shared out evenly among `count` processes.
    """
    for key in ("labelled_batch", "unlabelled_batch"):
        if getattr(recipe, key) % count:
            raise UserError(
                f"{recipe.name}: {key} = {getattr(recipe, key)} can't be shared out evenly among "
                f"{count} processes"
            )
    if recipe.batch < 2 * count:
        raise UserError(f"{recipe.name}: a batch needs two clips or more for each process")
