"""`avsl-train`: practice scenes, a fit, its scores."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from avsl.engines import UserError
from avsl.engines.errors import exit_on_user_error
from avsl.train.bars import bars
from avsl.train.extra import extra_train
from avsl.train.recipe import Recipe, cast_of, load_recipe
from avsl.train.scoring.command import Cutouts, evaluate
from avsl.train.speakers.command import import_, speakers
from avsl.train.teach.command import teach

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

app.command()(evaluate)
app.command()(teach)
app.command()(speakers)
app.command("import")(import_)


@app.command()
def scenes(
    out: Annotated[Path, typer.Argument(help="Folder to make.")],
    count: Annotated[int, typer.Option(min=1, help="How many.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Which series.")] = 1,
    cutouts: Cutouts = None,
) -> None:
    """Write practice scenes with the truth about them.

    Makes `OUT/frames/*.jpg`, `OUT/audio/*.wav` and `OUT/boxes.json`, the layout of the field's
    data sets.

    Example: avsl-train scenes practice --count 500
    """
    from avsl.train.data.dataset import write_scenes

    with bars() as progress:
        write_scenes(
            out,
            count,
            seed,
            cast=cast_of(cutouts, "train"),
            progress=lambda done: progress("scenes", done, count),
        )
    print(f"{out}: {count} scenes")


@app.command()
def prepare(
    source: Annotated[Path, typer.Argument(help="Folder with pictures/ and sounds/.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="New folder.")] = Path("prepared"),
) -> None:
    """Make photographs and recordings ready to train on.

    SOURCE has a folder for each kind of thing, `pictures/KIND` and `sounds/KIND`, and beside them
    `pictures/_silent`, `pictures/_background` and `sounds/_offscreen`. Things are cut out, and all
    is split into training, validation and test. Phones, cameras, cars and helicopters with few
    recordings are given made ones to train on:

      avsl-train prepare mine -o prepared

      avsl-train fit train/recipes/photographs.toml --run runs/mine
    """
    from avsl.train.data.prepare import prepare as prepare_folder

    with bars() as progress:
        counts, left_out = prepare_folder(
            source, out, progress=lambda done, total: progress("prepare", done, total)
        )
    for line in left_out:
        print(f"left out: {line}")
    print(f"{out}: " + ", ".join(f"{count} files for {split}" for split, count in counts.items()))


@app.command()
def fit(
    recipe: Annotated[Path, typer.Argument(help="A recipe (TOML).")],
    run: Annotated[Path, typer.Option(help="Folder for this training.")],
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Change a setting: --set steps=100")
    ] = None,
    distill: Annotated[
        bool, typer.Option("--distill", help="End with one network that learns from both teachers.")
    ] = False,
    resume: Annotated[bool, typer.Option(help="Go on with a training that was stopped.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out clips that can't be used.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say how large it is and how long it takes; stop.")
    ] = False,
) -> None:
    """Train an engine; it ends up in RUN/engine, ready for avsl-live.

    Example: avsl-train fit train/recipes/photographs.toml --run runs/mine
    """
    chosen = load_recipe(recipe, [*(settings or []), *(["distill=true"] if distill else [])])
    from avsl.train.checks import enough_memory

    if dry_run:
        from avsl.train.dry_run import describe_run

        with enough_memory(chosen):
            print("\n".join(describe_run(chosen, run, resume=resume, skip_bad=skip_bad)))
        return

    try:
        with enough_memory(chosen):
            _fit(chosen, run, resume, skip_bad, f"avsl-train fit {recipe.name}")
    except KeyboardInterrupt:
        if os.environ.get("RANK", "0") == "0":
            begun = (run / "recipe.toml").exists()
            how = "; the same command with --resume goes on" if begun else ""
            print(f"{run}: stopped{how}", file=sys.stderr)
        raise typer.Exit(130) from None


def _fit(chosen: Recipe, run: Path, resume: bool, skip_bad: bool, made_by: str) -> None:
    """Of several processes the first makes what is on disk, and speaks."""
    from avsl.train.checks import check, remarks
    from avsl.train.data.material import open_material
    from avsl.train.finish import finish
    from avsl.train.fit import fit as fit_networks
    from avsl.train.processes import processes
    from avsl.train.run import prepare_run
    from avsl.train.scoring.card import kinds_lines, score_lines, table_lines

    process = processes()
    casts, _ = check(chosen, run, resume=resume, skip_bad=skip_bad, processes=process.num_processes)
    with process.main_process_first(), bars() as progress:
        if process.is_main_process:
            prepare_run(chosen, run, resume)
        material = open_material(chosen, run, casts=casts, skip_bad=skip_bad, progress=progress)
    if process.is_main_process:
        for line in remarks(chosen, material.leaks, len(material.unlabelled.ids)):
            print(line)
    ensemble = fit_networks(chosen, run, material, resume=resume)
    process.destroy_process_group()
    if not process.is_main_process:
        return
    with bars() as progress:
        scores = finish(
            ensemble,
            chosen,
            run / "engine",
            material if chosen.data else None,
            casts=casts,
            made_by=made_by,
            progress=progress,
        )
    lines = [*score_lines(scores), "", *kinds_lines(scores)]
    print("\n".join(table_lines(scores) if chosen.data else lines).strip())
    print(f"{run / 'engine'}: the engine; avsl-live FILE -o OUT --engine {run / 'engine'}")


@app.command()
def build(
    source: Annotated[Path, typer.Argument(help="A run folder, or an engine folder.")],
    out: Annotated[Path | None, typer.Option(help="Where to; else RUN/engine.")] = None,
    stage: Annotated[
        str | None, typer.Option(help="Of a run: warm-up, unbiased or distill; else the last.")
    ] = None,
    combine: Annotated[
        str | None, typer.Option(help="Of two teachers: mean, product, A or B.")
    ] = None,
    sm: Annotated[
        str | None, typer.Option("--for", help="An engine's plans for SM89, say.")
    ] = None,
) -> None:
    """Make an engine of a run, also of one that was stopped; of an engine, the fastest that this
    machine can run, or (--for) plans to take to a machine with a GPU.

    Example: avsl-train build runs/first --stage unbiased --combine product --out pair
    """
    from avsl.train.build import build as build_engine

    with bars() as progress:
        lines = build_engine(source, out, stage, combine, sm, progress=progress)
    print("\n".join(lines))


@app.command()
def bench(
    size: Annotated[str, typer.Argument(help="quick (about an hour) or full (a night).")] = "quick",
    out: Annotated[Path, typer.Option(help="Folder for scenes, runs and results.")] = Path("bench"),
    rows: Annotated[list[str] | None, typer.Option("--row", help="Only these; see --list.")] = None,
    labels: Annotated[
        list[int] | None, typer.Option("--labels", help="Labelled clips. quick: 64.")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="Trainings of a row. quick: 1, full: 3.")
    ] = None,
    times: Annotated[int, typer.Option(min=1, help="Train so many times as long.")] = 1,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Trainings at once; one a core by default.")
    ] = None,
    list_rows: Annotated[bool, typer.Option("--list", help="Name the rows and stop.")] = False,
) -> None:
    """Compare DMT with its controls and ablations; what is done already is kept.

    quick trains each row with settings fixed beforehand, full with the best of three:

      avsl-train bench quick

      avsl-train bench quick --row DMT --row "no filter" --seeds 3
    """
    from avsl.train.bench.rows import LABELS, QUICK, ROWS

    if list_rows:
        print("\n".join(ROWS))
        return
    wrong = [row for row in rows or [] if row not in ROWS]
    if wrong or size not in ("quick", "full"):
        raise UserError(
            f"bench: there is no row {wrong[0]!r}; avsl-train bench --list names them"
            if wrong
            else f"bench: {size!r} is neither quick nor full"
        )
    from avsl.train.bench import jobs as b  # and torch with it, before scenes are drawn
    from avsl.train.bench.report import report

    with bars() as progress:
        b.make_material(out, progress)
        many = processes or os.cpu_count() or 1
        if size == "quick":
            jobs = b.quick_jobs(rows or QUICK, labels or [64], seeds or 1, times)
            results = b.run_jobs(jobs, out, many, progress)
        else:
            results = b.full_results(
                rows or ROWS, labels or LABELS, seeds or 3, times, out, many, progress
            )
    print("\n".join(report(results, out)))


def main() -> None:
    """Runs the program; a fault that a user can mend is one line and exit code 2."""
    with exit_on_user_error(), extra_train():
        app()


if __name__ == "__main__":
    main()
