"""`avsl-train speakers` and `avsl-train import`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avsl.train.bars import bars


def speakers(
    teachers: Annotated[Path, typer.Option(help="Folder with the teachers' files or wheels.")],
    photos: Annotated[
        list[Path], typer.Option(help="Folder of photographs, with people and without.")
    ],
    clips: Annotated[Path, typer.Option(help="Table (TSV) of clips of speaking and silent faces.")],
    run: Annotated[Path, typer.Option(help="Folder of this training; goes on with what is there.")],
    sounds: Annotated[
        Path | None, typer.Option(help="Folder of recordings without voices, to speak through.")
    ] = None,
    steps: Annotated[float, typer.Option(min=0.0001, help="Train so many times as long.")] = 1.0,
) -> None:
    """Make the networks that tell who speaks, with MediaPipe's face networks as teachers.

    CLIPS has the columns file, person, speaks (own or silent), set, licence_class (of `web` nothing
    is learnt; it is measured on) and, if you like, split (train, fit or test; else persons are
    dealt). --photos may be given several times. Stopped, it goes on with the same command.

      avsl-train speakers --teachers T --photos P --clips clips.tsv --run runs/speakers
    """
    from avsl.engines.speakers.sight import HERE
    from avsl.train.extra import TEACHING, need_all
    from avsl.train.speakers.making import Plan, make_networks

    need_all(*TEACHING)
    with bars() as progress:
        lines = make_networks(Plan(teachers, tuple(photos), clips, sounds, steps), run, progress)
    print("\n".join(lines))
    print(f"{run / 'networks'}: the networks; those that avsl runs lie in {HERE}")


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
