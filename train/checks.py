"""What is looked at before a training begins, by a fit and by its dry run alike."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from avsl.engines import UserError
from avsl.train.data.material import Survey, survey
from avsl.train.extra import need_all
from avsl.train.fit import networks_to_start_from
from avsl.train.processes import check_shares
from avsl.train.recipe import Casts, Recipe, casts_of
from avsl.train.run import check_run


def check(
    recipe: Recipe, run: Path, *, resume: bool, skip_bad: bool, processes: int = 1
) -> tuple[Casts, Survey]:
    """What scenes are composed of, and what clips there are. Nothing is written.

    Raises:
        UserError: the training can't begin.
    """
    need_all()
    check_run(recipe, run, resume)
    check_shares(recipe, processes)
    if recipe.imagenet:
        from avsl.engines.networks.backbones import imagenet_weights

        imagenet_weights()
    if recipe.start:
        networks_to_start_from(recipe)
    found = survey(recipe, run if resume else None, skip_bad=skip_bad)
    return casts_of(recipe.cutouts), found


def remarks(recipe: Recipe, leaks: int, unlabelled: int) -> list[str]:
    """What a person must know of the clips that a training takes."""
    lines = []
    if leaks:
        lines.append(f"{leaks} clips left out of training: they are among the test clips")
    if recipe.unlabelled_batch and unlabelled < recipe.unlabelled:
        lines.append(
            f"{unlabelled} unlabelled clips are there; the recipe takes up to {recipe.unlabelled}"
        )
    return lines


@contextmanager
def enough_memory(recipe: Recipe) -> Iterator[None]:
    """
    Raises:
        UserError: in place of what numpy and torch say where there is no memory left.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        full = isinstance(error, MemoryError | torch.OutOfMemoryError)
        if not full and "allocate memory" not in str(error):
            raise
        raise UserError(
            f"{recipe.name}: takes more memory than there is; set labelled_batch, "
            "unlabelled_batch, size, width or seconds lower, or fewer clips"
        ) from None
