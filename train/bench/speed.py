"""How fast DMT trains: `python -m avsl.train.bench.speed`; see plain_loop.py."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from avsl.engines.backends.machine import cpu
from avsl.engines.errors import exit_on_user_error
from avsl.train.extra import extra_train
from avsl.train.recipe import recipe_of


def run(
    size: Annotated[int, typer.Option(help="Width of the pictures, in pixels.")] = 112,
    width: Annotated[int, typer.Option(help="Channels the small networks begin with.")] = 16,
    batch: Annotated[int, typer.Option(help="Clips a step; a quarter is labelled.")] = 64,
) -> None:
    """Samples a second of DMT's step, and of a plain loop over the same networks."""
    import torch

    from avsl.train.bench.plain_loop import compare

    few = batch // 4
    settings = {"size": size, "width": width, "labelled_batch": few}
    recipe = recipe_of({**settings, "unlabelled_batch": batch - few}, "speed")
    print(
        f"{cpu()}; {torch.get_num_threads()} threads; {size} pixels, width {width}, batch {batch}"
    )
    with tempfile.TemporaryDirectory() as folder:
        found = compare(recipe, Path(folder))
    print("\n| | samples/s |\n|---|---:|")
    print(f"| DMT's step | {found['ours']:.0f} |")
    print(f"| plain loop, single precision | {found['plain']:.0f} |")
    print(f"| ratio | {found['ratio']:.2f} |")
    print(f"\nwaiting for batches: {100 * found['waiting']:.1f} % of a step")


if __name__ == "__main__":
    with exit_on_user_error(), extra_train():
        typer.run(run)
