"""`avsl-train import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_(
    file: Annotated[Path, typer.Argument(help="A state-dict of PyTorch that you have.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder.")],
) -> None:
    """Take over a published network that says when a face speaks: Light-ASD or LR-ASD.

    Which it is, is told by its tensors. The folder holds look.onnx and look.json; none of their
    files comes with avsl. Another look at faces, to be measured beside ours:

      avsl-train import finetuning_TalkSet.model -o looks/talkset
    """
    from avsl.train.extra import need_all
    from avsl.train.speakers.importing import import_look

    need_all()
    meta = import_look(file, out)
    print(f"{out}: {meta['network']}; learnt from: {meta['learnt']}; licence: {meta['licence']}")
