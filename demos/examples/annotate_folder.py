"""Annotate a folder of videos: `python demos/examples/annotate_folder.py FOLDER OUT_FOLDER`.

What `avsl-live FOLDER -o OUT_FOLDER/` does, as a start for a program of your own.
"""

from __future__ import annotations

import sys
from pathlib import Path

from avsl.engines import UserError, choose_engine
from avsl.realtime import annotate, find_videos


def say(line: str) -> None:
    """A line on the terminal; names of files may hold what would do something to it."""
    print("".join(c if c.isprintable() else "?" for c in line), file=sys.stderr)


def main(arguments: list[str]) -> None:
    """Annotates each video of a folder into another one, with its events beside it."""
    if len(arguments) != 2:
        raise UserError("two folders are needed: annotate_folder.py FOLDER OUT_FOLDER")
    source, target = map(Path, arguments)
    if not source.is_dir():
        raise UserError(f"{source}: no such folder")
    if target.resolve() == source.resolve():
        raise UserError(f"{target}: is where the videos are; name another folder to write to")
    videos = find_videos([source])
    engine = choose_engine()
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{target}: can't be made; {error.strerror}") from None
    for video in videos:
        out = target / f"{video.stem}.mp4"
        try:
            report = annotate(video, out, engine, events=out.with_suffix(".jsonl"), overwrite=True)
        except UserError as error:
            say(f"left out: {error}")
            continue
        rate = report.frames / max(report.seconds, 1e-3)
        say(f"{out}: {report.frames} frames, {rate:.0f} frames/s")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        say(f"error: {error}")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
