"""`avsl-train teach`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from avsl.train.bars import bars


def teach(
    prepared: Annotated[Path, typer.Argument(help="Folder that avsl-train prepare has made.")],
    run: Annotated[Path, typer.Option(help="Folder of this training; goes on with what is there.")],
    teachers: Annotated[Path, typer.Option(help="Folder with the teachers' files or wheels.")],
    portraits: Annotated[Path, typer.Option(help="Folder of photographs of one face each.")],
    film: Annotated[
        Path | None, typer.Option(help="Folder with film.json; half of it is calibrated on.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Steps of the sound network.")] = 5_000,
    scenes: Annotated[
        int, typer.Option(min=50, help="Scenes with people, and as many with things.")
    ] = 4_000,
    seed: Annotated[int, typer.Option(min=0, help="What it draws by.")] = 1,
) -> None:
    """Teach an engine that knows things by name, with public networks as teachers.

    YAMNet says what is heard, EfficientNet-Lite0 what is seen, face detectors where heads are.
    Stopped, it goes on with the same command.

      avsl-train prepare DATA -o prepared

      avsl-train teach prepared --teachers T --portraits P --run runs/kinds

      avsl-live film.mp4 -o out.mp4 --engine runs/kinds/engine
    """
    from avsl.train.extra import TEACHING, need_all
    from avsl.train.teach.teach import Plan, teach_engine

    need_all(*TEACHING)
    plan = Plan(prepared, teachers, portraits, film, steps, scenes, seed)
    with bars() as progress:
        engine = teach_engine(plan, run, progress=progress)
    print(f"{engine}: an engine of {len(plan.check())} kinds")
