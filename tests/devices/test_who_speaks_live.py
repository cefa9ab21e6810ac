"""Who speaks, live: the woman of the demo before a camera, her voice on a microphone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from live_process import PlugIn
from rig import FakeMicrophone, running

from avsl.realtime.demo import FILM

SECONDS = 3.0
RATE = 48_000


def pictures() -> np.ndarray:
    """Her panel alone, BGR, 30 a second."""
    with av.open(str(FILM)) as film:
        shown = [frame.to_ndarray(format="bgr24") for frame in film.decode(video=0)]
    times = np.arange(round(30 * SECONDS)) / 30
    here = [shown[round(24 * time)][6:176, 6:316] for time in times]
    return np.stack([np.kron(picture, np.ones((2, 2, 1), np.uint8)) for picture in here])


def voice() -> np.ndarray:
    with av.open(str(FILM)) as film:
        blocks = [frame.to_ndarray()[0] for frame in film.decode(audio=0)]
    sound = np.concatenate(blocks)[: round(SECONDS * RATE)].astype(np.float32)
    sound[round(2.1 * RATE) :] = 0  # a dog barks from here on
    return sound


@pytest.mark.parametrize("hers", [True, False])
def test_lips_make_the_voice_live_as_in_files(
    plug_in: PlugIn, microphone: FakeMicrophone, tmp_path: Path, soon: float, hers: bool
) -> None:
    camera = plug_in(pictures(), soon)
    t = np.arange(round(SECONDS * RATE)) / RATE
    microphone.play(voice() if hers else (0.2 * np.sin(700 * t)).astype(np.float32), soon)
    command = "-m avsl.realtime.cli --camera 0 --engine small --no-window --duration 6"
    files = "--events live.jsonl"
    with running(
        [sys.executable, *command.split(), *files.split()],
        {**camera.env, **microphone.env}, cwd=tmp_path,
    ) as process:  # fmt: skip
        assert process.wait(60) == 0
    lines = (tmp_path / "live.jsonl").read_text().splitlines()[1:]
    events: list[dict[str, Any]] = [json.loads(line) for line in lines]
    seen = [event["tracks"][0] for event in events if event["tracks"]]
    assert len(seen) > 20, "she is followed"
    surest = max((track["speaking"] or 0.0) for track in seen)
    by_lips = [event for event in events if "lips" in event["evidence"]]
    print(len(events), len(seen), surest, len(by_lips))
    if not hers:
        assert not by_lips
        return
    assert surest > 0.6 and by_lips
    for event in by_lips:
        place = event["evidence"].index("lips")
        x, y, p = event["peaks"][place]
        x0, y0, x1, y1 = event["tracks"][0]["box"]
        assert x0 <= x <= x1 and y0 <= y <= y1 and p >= 0.6 and event["kinds"][place] == "voice"
