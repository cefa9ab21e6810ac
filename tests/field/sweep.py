"""Annotates every file of a collection and says what differs from what FFmpeg reads in it.

    python tests/field/sweep.py FOLDER [SECONDS]

Each file goes through a process of its own, which is ended after SECONDS (300). What is compared:
the number of pictures with the number that FFmpeg decodes, their times with those it gives (from
the first picture on), events with OUT, and each sound track's packets with the source's. A line for
each file that differs, fails, or is refused though FFmpeg decodes a film in it; at the end a count.
Returns 1 if there is such a line.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np

ROOT = Path(__file__).parents[2]
SLACK_S = 0.002
"""Matroska counts in milliseconds."""


def one(source: str, out: str, events: str) -> None:
    """What runs in the process of its own: annotates, and prints what was said as JSON."""
    from helpers import ToneEngine

    from avsl.engines import UserError
    from avsl.realtime.films import annotate

    try:
        report = annotate(Path(source), Path(out), ToneEngine(), events=Path(events))
        print(json.dumps({"frames": report.frames, "notes": report.notes}))
    except UserError as error:
        print(json.dumps({"refused": str(error)}))


def packets(container: Any, *streams: Any) -> Iterator[Any]:
    """As far as the file can be read."""
    demuxed = container.demux(*streams)
    while True:
        try:
            packet = next(demuxed, None)
        except av.error.FFmpegError:
            return
        if packet is None:
            return
        yield packet


def opened(path: Path) -> Any:
    lenient: Any = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "ignore"}
    return av.open(f"file:{path}", **lenient)


def truth(path: Path) -> tuple[list[float | None], list[list[bytes]]] | None:
    """The times of the pictures that FFmpeg decodes (of the track with most of them), in its order,
    and the packets of each sound track; None where it can't open the file."""
    try:
        container = opened(path)
    except (av.error.FFmpegError, OSError, ValueError):
        return None
    with container:
        times: dict[int, list[float | None]] = {s.index: [] for s in container.streams.video}
        sound: dict[int, list[bytes]] = {s.index: [] for s in container.streams.audio}
        streams = (*container.streams.video, *container.streams.audio)
        for packet in packets(container, *streams) if streams else ():
            stream = packet.stream
            if stream.type == "audio":
                if packet.size:
                    sound[stream.index].append(bytes(packet))
            elif stream.codec_context is not None:
                try:
                    times[stream.index] += [frame.time for frame in packet.decode()]
                except (av.error.FFmpegError, ValueError):
                    continue
    return max(times.values(), key=len, default=[]), list(sound.values())


def compare(source: Path, out: Path, events: Path, said: dict[str, Any]) -> list[str]:
    """What differs, a phrase each."""
    found = truth(source)
    times, sound = found or ([], [])
    if "refused" in said:
        return [f"refused, but FFmpeg decodes {len(times)} pictures"] if len(times) > 1 else []
    written = truth(out)
    if written is None:
        return ["OUT can't be read"]
    shown, copied = written
    lines = [json.loads(line) for line in events.read_text("utf-8").splitlines()][1:]
    wrong = []
    if len(shown) != len(times):
        wrong.append(f"{len(shown)} pictures of {len(times)}")
    if len(lines) != len(shown):
        wrong.append(f"{len(lines)} events of {len(shown)} pictures")
    now = np.array([time for time in shown if time is not None])
    before = np.array([time for time in times if time is not None])
    # Where FFmpeg's times are none, or go back, there is nothing to hold ours against.
    if len(before) == len(times) == len(now) > 1 and (np.diff(before) > 0).all():
        off = float(np.abs((now - now[0]) - (before - before[0])).max())
        if off > SLACK_S:
            wrong.append(f"times off by {off:.3f} s")
    if len(lines) == len(now) > 1:
        stamps = np.array([line["time"] for line in lines])
        off = float(np.abs((now - now[0]) - (stamps - stamps[0])).max())
        if off > SLACK_S:
            wrong.append(f"events off by {off:.3f} s")
    if len(copied) != len(sound):
        wrong.append(f"{len(copied)} sound tracks of {len(sound)}")
    elif not any("sound" in note for note in said["notes"]):
        for number, (old, new) in enumerate(zip(sound, copied, strict=True), 1):
            if old != new:
                wrong.append(f"sound track {number}: {len(new)} packets of {len(old)}, or changed")
    return wrong


def look_at(source: Path, seconds: float) -> tuple[str, list[str]]:
    """What became of one file, and what is wrong with it."""
    with tempfile.TemporaryDirectory() as folder:
        out, events = Path(folder) / "out.mkv", Path(folder) / "events.jsonl"
        command = [sys.executable, __file__, "--one", str(source), str(out), str(events)]
        try:
            done = subprocess.run(command, capture_output=True, timeout=seconds)
        except subprocess.TimeoutExpired:
            return "hangs", [f"not done after {seconds:g} s"]
        if done.returncode:
            return "fails", (done.stderr.decode(errors="replace").splitlines() or ["?"])[-1:]
        said = json.loads(done.stdout.splitlines()[-1])
        wrong = compare(source, out, events, said)
        left = {path.name for path in Path(folder).iterdir()} - {out.name, events.name}
        wrong += [f"leaves {name}" for name in sorted(left)]
        return ("refused" if "refused" in said else f"{said['frames']} pictures"), wrong


def main() -> int:
    folder = Path(sys.argv[1])
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 300.0
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    differ = 0
    for path in files:
        what, wrong = look_at(path, seconds)
        if wrong:
            differ += 1
            # A name may hold anything, and goes to a terminal.
            name = ascii(str(path.relative_to(folder)))[1:-1]
            print(f"{name:40} {what:14} {'; '.join(wrong)}", flush=True)
    print(f"{len(files)} files, {differ} differ")
    return differ > 0


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tests" / "typing")]
    if sys.argv[1:2] == ["--one"]:
        one(*sys.argv[2:])
    else:
        sys.exit(main())
