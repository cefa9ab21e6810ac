"""Annotate a folder of videos: `python demos/examples/annotate_folder.py FOLDER OUT_FOLDER`.

What `avsl-live FOLDER -o OUT_FOLDER/` does, as a start for a program of your own.
"""

from __future__ import annotations

import sys
from pathlib import Path

from avsl.engines import UserError, choose_engine
from avsl.realtime import annotate, find_videos


def main(source: Path, target: Path) -> None:
    """Annotates each video of `source` into `target`, with its events beside it."""
    engine = choose_engine()
    target.mkdir(parents=True, exist_ok=True)
    for video in find_videos([source]):
        out = target / f"{video.stem}.mp4"
        try:
            report = annotate(video, out, engine, events=out.with_suffix(".jsonl"), overwrite=True)
        except UserError as error:
            print(f"left out: {error}")
            continue
        print(f"{out}: {report.frames} frames, {report.frames / report.seconds:.0f} frames/s")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
