"""What the fake microphone hears: plays a sound in real time into PulseAudio's null sink.

    python speaker.py SOUND.npy --start MONOTONIC

SOUND.npy holds float32 at 48 kHz, `[n]` or `[n, channels]`. Sample k is played at
start + k / 48000 on `time.monotonic()`; before that it plays silence, and the sound repeats without
end. It comes back when the sound server does.
"""

from __future__ import annotations

import argparse
import fcntl
import struct
import subprocess
import termios
import time

import numpy as np

RATE = 48_000
BLOCK = 480
parser = argparse.ArgumentParser()
parser.add_argument("sound")
parser.add_argument("--start", type=float, required=True)
arguments = parser.parse_args()
sound = (np.load(arguments.sound) * 32767).astype("<i2")
sound = sound[: len(sound) // BLOCK * BLOCK].reshape(-1, BLOCK, *sound.shape[1:])
channels = 1 if sound.ndim == 2 else sound.shape[2]
# Written in time and with so little buffered, sound is captured about 10 ms later.
PLAYER = ["pacat", "--playback", "--raw", f"--rate={RATE}", f"--channels={channels}",
          "--format=s16le", "--latency-msec=20", "--process-time-msec=5"]  # fmt: skip

while True:
    player = subprocess.Popen(PLAYER, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0)
    assert player.stdin
    block = int((time.monotonic() - arguments.start) * RATE / BLOCK)
    try:
        while player.poll() is None:
            block += 1
            time.sleep(max(0.0, arguments.start + block * BLOCK / RATE - time.monotonic()))
            samples = sound[block % len(sound)] if block >= 0 else np.zeros_like(sound[0])
            # What has piled up while someone was late would delay all that follows.
            waiting = struct.unpack("i", fcntl.ioctl(player.stdin, termios.FIONREAD, bytes(4)))[0]
            if waiting <= samples.nbytes:
                player.stdin.write(samples.tobytes())
    except BrokenPipeError:
        pass
    player.kill()
    player.wait()
    time.sleep(0.2)
