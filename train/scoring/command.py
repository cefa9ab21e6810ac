"""`avsl-train evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from avsl.engines import UserError, choose_engine
from avsl.train.bars import bars
from avsl.train.recipe import cast_of

FAILURES = 30
"""How many scenes the PNG of failures shows, at the most."""

APART = {
    "--movers": ("--backend", "--clips", "--failures"),
    "--clips": ("--scenes", "--cutouts", "--failures"),
    "--speakers": ("--movers", "--clips", "--scenes", "--cutouts", "--failures"),
}
"""Options of `evaluate` of which one would be dropped in silence beside the other."""

Cutouts = Annotated[
    Path | None,
    typer.Option(help="Folder of your own cut-outs: a folder per family with PNGs and sounds."),
]


def evaluate(
    engine: Annotated[
        str | None,
        typer.Argument(help="both, real, drawn, motion, or a folder; by default what ships."),
    ] = None,
    scenes: Annotated[
        int | None,
        typer.Option(min=1, help="How many scenes: 1000, or 12 of each kind of --movers."),
    ] = None,
    movers: Annotated[
        bool, typer.Option("--movers", help="Measure on animated scenes instead.")
    ] = False,
    clips: Annotated[
        Path | None, typer.Option(help="Measure on a folder of clips with boxes instead.")
    ] = None,
    speakers: Annotated[
        Path | None,
        typer.Option(help="A table of clips of one person each: measure who is said to speak."),
    ] = None,
    look: Annotated[
        Path | None,
        typer.Option(help="With --speakers: a folder of avsl-train import, measured beside."),
    ] = None,
    picture_at: Annotated[
        str | None,
        typer.Option(help="Where in a clip's sound its picture is: end (the default) or middle."),
    ] = None,
    backend: Annotated[
        str, typer.Option(help="What runs it, as avsl-live's; not with --movers.")
    ] = "auto",
    cutouts: Cutouts = None,
    out: Annotated[Path | None, typer.Option("--json", help="Write the scores here too.")] = None,
    failures: Annotated[
        Path | None, typer.Option(help="A PNG of scenes in which it was wrong.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out clips that can't be used.")
    ] = False,
) -> None:
    """Measure an engine on scenes, or clips, that no training has seen.

    Examples: avsl-train evaluate --cutouts prepared --failures wrong.png

    avsl-train evaluate --speakers clips.tsv
    """
    from avsl.train.scoring.card import kinds_lines, score_lines, table_lines
    from avsl.train.scoring.evaluate import evaluate_clips, evaluate_scenes
    from avsl.train.scoring.movers import evaluate_movers, movers_lines

    asked = {
        "--movers": movers,
        "--clips": clips,
        "--speakers": speakers,
        "--scenes": scenes,
        "--cutouts": cutouts,
        "--failures": failures,
        "--backend": backend != "auto",
        "--picture-at": picture_at,
        "--skip-bad": skip_bad,
    }
    for one, others in APART.items():
        for other in others:
            if asked[one] and asked[other]:
                raise UserError(f"evaluate: {one} and {other} don't go together; leave out one")
    for option in ("--picture-at", "--skip-bad"):
        if asked[option] and not clips:
            raise UserError(f"evaluate: {option} is of clips; add --clips FOLDER")
    if look and not speakers:
        raise UserError("evaluate: --look is of speakers; add --speakers TABLE")
    for path in filter(None, (out, failures)):  # before it measures for minutes
        if not path.parent.is_dir() or path.is_dir():
            raise UserError(f"{path}: can't be written; its folder does not exist, or it is one")
    if failures:
        from avsl.train.scoring.plots import draw_failures
    count = scenes or (12 if movers else 1000)
    # Of drawn scenes the engine for real things knows nothing.
    engine = engine or ("both" if cutouts or movers or clips or speakers else "drawn")
    with bars() as progress:

        def told(done: int, total: int = count) -> None:
            progress("evaluate", done, total)

        if movers:
            scores = evaluate_movers(
                engine,
                count,
                cast=cast_of(cutouts, "test") if cutouts else None,
                progress=told,
            )
        elif speakers:
            # They need OpenCV, which nothing else here does.
            from avsl.train.speakers.evaluate import evaluate_speakers
            from avsl.train.speakers.importing import open_look

            chosen = choose_engine(engine, backend)
            beside = open_look(look) if look else None
            scores = evaluate_speakers(chosen, speakers, beside, progress)
        elif clips:
            scores = evaluate_clips(
                choose_engine(engine, backend),
                clips,
                picture_at or "end",
                skip_bad=skip_bad,
                progress=told,
            )
        else:
            wrong: list[Any] = []
            scores = evaluate_scenes(
                choose_engine(engine, backend),
                count,
                cast=cast_of(cutouts, "test"),
                others={"drawn-scenes engine": choose_engine("drawn")} if cutouts else None,
                failed=lambda *one: wrong.append(one) if len(wrong) < FAILURES else None,
                progress=told,
            )
            if failures:
                draw_failures(failures, wrong)
    if movers:
        print("\n".join(movers_lines(scores)))
    elif speakers:
        from avsl.train.speakers.report import speakers_lines

        print("\n".join(speakers_lines(scores)))
    else:
        lines = [*score_lines(scores), "", *kinds_lines(scores), *table_lines(scores)]
        print("\n".join(lines).strip())
    if out:
        try:
            out.write_text(json.dumps(scores, indent=2) + "\n", "utf-8")
        except OSError as error:
            raise UserError(f"{out}: can't be written ({error.strerror})") from None
