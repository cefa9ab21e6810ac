"""A session that has ended is gone: what runs them by the dozen doesn't grow."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
from live_process import HERE, PlugIn
from rig import FakeMicrophone
from scene import RATE, coloured_things

SESSIONS = 20


def test_twenty_sessions_in_one_process_leave_nothing(
    plug_in: PlugIn, microphone: FakeMicrophone, tmp_path: object
) -> None:
    camera = plug_in(coloured_things(1.0, size=(640, 480)))
    t = np.arange(RATE) / RATE
    microphone.play((0.25 * np.sin(2 * np.pi * 440 * t)).astype(np.float32))
    done = subprocess.run(
        [sys.executable, str(HERE / "sessions_app.py"), str(SESSIONS)],
        # With an arena a thread, glibc goes on growing by chance for a dozen sessions.
        env={**os.environ, **camera.env, **microphone.env, "MALLOC_ARENA_MAX": "1"},
        cwd=str(tmp_path),
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = np.array([[int(x) for x in line.split()] for line in done.stdout.splitlines()])
    assert lines.shape == (SESSIONS, 4)
    print(lines)
    threads, descriptors, megabytes, localized = lines.T
    # Libraries start what they keep for good with the first sessions.
    settled = slice(4, None)
    assert np.ptp(threads[settled]) == 0
    assert np.ptp(descriptors[settled]) == 0
    assert megabytes[-1] - megabytes[4] < 12  # two pictures kept of each would be 26, less gaps
    assert localized.min() > 5
