"""`avsl-train`: practice scenes, a fit, its scores."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, TaskID

from avsl.demos.cutouts import load_cutouts
from avsl.demos.scenes import DRAWN, Cast
from avsl.engines import DEFAULT, UserError, open_engine
from avsl.engines.errors import exit_on_user_error

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
    help="""Make engines for avsl-live: practice scenes, training, honest scores.

    A first engine for your own things:

    avsl-train fit recipe.toml --run runs/mine --set 'cutouts="mine"'

    avsl-live film.mp4 -o out.mp4 --engine runs/mine/engine
    """,
)

Cutouts = Annotated[
    Path | None,
    typer.Option(help="Folder of your own cut-outs: a folder per family with PNGs and sounds."),
]


def _cast(cutouts: Path | str | None) -> Cast:
    if not cutouts:
        return DRAWN
    try:
        return load_cutouts(Path(cutouts))
    except ValueError as error:
        raise UserError(str(error)) from None


@contextmanager
def _bars() -> Iterator[Callable[[str, int, int], None]]:
    """Progress bars by name, on a terminal: `progress(what, done, total)`."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bars:
        tasks: dict[str, TaskID] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done)

        yield progress


@app.command()
def scenes(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Which series.")] = 1,
    cutouts: Cutouts = None,
) -> None:
    """Write practice scenes with the truth about them.

    Makes OUT/frames/*.jpg, OUT/audio/*.wav and OUT/boxes.json, the layout of the field's data sets.

    Example: avsl-train scenes practice --count 500
    """
    from avsl.train.dataset import write_scenes

    with _bars() as progress:
        write_scenes(
            out,
            count,
            seed,
            cast=_cast(cutouts),
            progress=lambda done: progress("scenes", done, count),
        )
    print(f"{out}: {count} scenes")


@app.command()
def fit(
    recipe: Annotated[Path, typer.Argument(help="A recipe (TOML).")],
    run: Annotated[Path, typer.Option(help="Folder for this training.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: --set steps=100")
    ] = None,
    resume: Annotated[bool, typer.Option(help="Go on with a training that was stopped.")] = False,
) -> None:
    """Train an engine; it ends up in RUN/engine, ready for avsl-live.

    Example: avsl-train fit engines/default/recipe.toml --run runs/first
    """
    from avsl.train.finish import finish, score_lines
    from avsl.train.fit import fit as fit_network
    from avsl.train.recipe import load_recipe

    chosen = load_recipe(recipe, settings)
    cast = _cast(chosen.cutouts)
    network = fit_network(chosen, run, cast=cast, resume=resume)
    with _bars() as progress:
        scores = finish(
            network,
            chosen,
            run / "engine",
            version=importlib.metadata.version("avsl"),
            cast=cast,
            made_by=f"avsl-train fit {recipe.name}",
            progress=progress,
        )
    print("\n".join(score_lines(scores)))
    print(f"{run / 'engine'}: the engine; avsl-live FILE -o OUT --engine {run / 'engine'}")


@app.command()
def evaluate(
    engine: Annotated[Path, typer.Argument(help="Engine folder; by default what ships.")] = DEFAULT,
    count: Annotated[int, typer.Option("--scenes", min=10, help="Held-out scenes.")] = 1000,
    cutouts: Cutouts = None,
    out: Annotated[Path | None, typer.Option("--json", help="Write the scores here too.")] = None,
) -> None:
    """Measure an engine on scenes that no training has seen.

    Example: avsl-train evaluate runs/first/engine --scenes 200
    """
    from avsl.train.evaluate import evaluate_scenes
    from avsl.train.finish import score_lines, table_lines

    opened = open_engine(engine)
    with _bars() as progress:
        scores = evaluate_scenes(
            opened,
            count,
            cast=_cast(cutouts),
            progress=lambda done: progress("evaluate", done, count),
        )
    print("\n".join([*score_lines(scores), "", *table_lines(scores)]))
    if out:
        out.write_text(json.dumps(scores, indent=2) + "\n", "utf-8")


def main() -> None:
    """Runs the program; a fault that a user can mend is one line and exit code 2."""
    with exit_on_user_error():
        app()


if __name__ == "__main__":
    main()
