"""The microphone: PortAudio's callback into a ring, and a thread that puts its sound on the clock.

Samples are counted, and the count is fitted to `time.monotonic()`. PortAudio's own times are not
used: on Linux they are on the wall clock, through PulseAudio they wander by tens of milliseconds
(at 44.1 kHz by 7 ms a second), and on some hosts they are zero.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import math
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np

from avsl.engines.errors import UserError
from avsl.engines.windows import Samples, SoundTimeline
from avsl.realtime.sources.mono import Mono
from avsl.realtime.sources.source import device_number

RATE = 48_000
"""What devices are asked for; one that can't gives its own rate."""
MOST_CHANNELS = 8
"""What claims to have more is a sound server, which makes as many as it is asked for out of what
there is: two are asked for, so that it doesn't mix them itself."""
BLOCK_S = 0.01
RING_S = 4.0
POLL_S = 0.01
STALL_S = 1.0
"""A microphone whose callback hasn't come for so long is opened again: a suspended source just
stops, with no flag and no exception."""
MUTE_S = 2.0
"""So much digital silence is a switch that is off, not a quiet room."""
RETRY_S = (0.25, 1.0)
"""First and longest pause between two attempts to open the microphone again."""
JUMP_S = 0.02
"""Sound this far off its place is moved there at once, which leaves a gap or cuts off an overlap;
less is made good by stretching it by up to half a percent."""
SLACK_S = 0.0005


class SampleClock:
    """At which moment was a sample captured? The lowest line through the arrivals of the blocks.

    A block arrives when its last sample has been captured, or later: scheduling only makes it
    late. The line has the slope of the nominal rate, and is taken over the last `SPAN_S` seconds
    only: a crystal that is 200 ppm off moves it by a millisecond in that time.
    """

    SPAN_S = 5.0
    SETTLE = 10
    """So many blocks must have come before the line is believed."""
    LATE = 30
    LOST_S = 0.04
    """So many blocks in a row that all come so much late: sound was lost, start anew. Less is
    found out when `SPAN_S` has passed."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self.restart()

    def restart(self) -> None:
        """Forgets everything: the device was opened anew or has lost sound."""
        self._lowest: deque[tuple[float, float]] = deque()  # arrival, offset; both ascending
        self._latest: deque[tuple[float, float]] = deque(maxlen=self.LATE)
        self._blocks = 0

    def heard(self, count: int, arrival: float) -> None:
        """A block has arrived (`time.monotonic()`) whose last sample is number `count` - 1."""
        point = arrival, arrival - count / self._rate
        self._blocks += 1
        self._latest.append(point)
        self._put(point)
        if len(self._latest) == self.LATE:
            limit = self._lowest[0][1] + self.LOST_S
            if all(offset > limit for _, offset in self._latest):
                self._lowest.clear()
                for late in self._latest:
                    self._put(late)

    def _put(self, point: tuple[float, float]) -> None:
        lowest = self._lowest
        while lowest and lowest[-1][1] >= point[1]:
            lowest.pop()
        lowest.append(point)
        while point[0] - lowest[0][0] > self.SPAN_S:
            lowest.popleft()

    @property
    def zero(self) -> float | None:
        """The moment of sample 0; None until enough blocks have come."""
        return self._lowest[0][1] if self._blocks >= self.SETTLE else None


class Microphone:
    """A microphone by number or part of its name (None: the system's default one), which is opened
    at once and, once started, opened again whenever it fails.

    Raises:
        UserError: no such microphone, none at all, or no PortAudio.
    """

    def __init__(self, device: str | None) -> None:
        self._portaudio = portaudio()
        self._device = device
        self._problem: str | None = None
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        number = self._find()
        if number is None:
            raise UserError(_none_found(self._portaudio, device))
        self.rate, self._channels = self._choose(number)
        self._ring = np.zeros((0, self._channels), np.float32)
        self._mono = Mono(self.rate)
        self._marks: list[tuple[int, float, bool]] = [(0, 0.0, False)] * 1024
        self._clock = SampleClock(self.rate)
        # Counters: samples and blocks that came, and those that were handed on.
        self._count = self._blocks = self._seen = self._seen_blocks = 0
        self._arrival = self._loud_at = time.monotonic()
        try:
            self._stream = self._open(number)
        except self._portaudio.PortAudioError as error:
            raise UserError(
                f"microphone {device or number}: can't be opened ({_reason(error)}); "
                "avsl-live --list-devices shows the others, --microphone none does without"
            ) from None

    def start(
        self,
        zero: float,
        timeline: SoundTimeline,
        deliver: Callable[[int, Samples], None] = lambda _index, _samples: None,
        late: float = 0.0,
    ) -> None:
        """From now on the sound goes into `timeline` at the rate of that, and to
        `deliver(index, samples)` at the device's (`rate`), both in the microphone's own thread.

        Index 0 is the moment `zero` (`time.monotonic()`). Sound that is known to come `late`
        seconds after the pictures is put so much earlier.
        """
        self._zero = zero + late
        self._timeline = timeline
        self._deliver = deliver
        self._thread = threading.Thread(target=self._run, name="microphone", daemon=True)
        self._thread.start()

    @property
    def missing(self) -> str | None:
        """What is wrong with the microphone now, or None."""
        if self._problem is None and time.monotonic() - self._loud_at > MUTE_S:
            return "digital silence, muted?"
        return self._problem

    @property
    def comes(self) -> bool:
        """Whether sound arrives, so that waiting for more makes sense."""
        return self._problem is None and time.monotonic() - self._arrival < STALL_S / 4

    def close(self, timeout: float = 0.3) -> None:
        """Stops the thread. One that hangs, for the sound server does, is left behind."""
        self._stop.set()
        if self._thread is None:
            self._end(self._stream)
            return
        self._thread.join(timeout)
        if self._thread.is_alive():
            # What sounddevice does when Python ends would hang, too.
            atexit.unregister(self._portaudio._exit_handler)

    # In PortAudio's thread: copies, counts, and nothing else.

    def _callback(self, block: Samples, frames: int, _time: object, status: Any) -> None:
        arrival = time.monotonic()
        ring, at = self._ring, self._count % len(self._ring)
        head = min(frames, len(ring) - at)
        ring[at : at + head] = block[:head]
        ring[: frames - head] = block[head:]
        self._count += frames
        mark = self._count, arrival, bool(status.input_overflow)
        self._marks[self._blocks % len(self._marks)] = mark
        self._arrival = arrival
        self._blocks += 1  # last: what lies before it is whole

    # In the microphone's own thread.

    def _run(self) -> None:
        pause = RETRY_S[0]
        stream = self._stream
        while not self._stop.is_set():
            if stream is not None:
                if self._listen():
                    pause = RETRY_S[0]
                self._end(stream)
            if self._stop.wait(pause):
                return
            pause = min(2 * pause, RETRY_S[1])
            stream = self._reopen()

    def _listen(self) -> bool:
        """Hands sound on until none comes any more, or `close`; returns whether any came."""
        place: int | None = None  # where the next sample belongs, at the device's rate
        while not self._stop.wait(POLL_S):
            if self._ended.is_set():
                self._problem = "gone"
                break
            if time.monotonic() - self._arrival > STALL_S:
                self._problem = "no sound comes"
                break
            first, samples = self._drain()
            if len(samples) == 0:
                continue
            self._problem = None
            if samples.any():
                self._loud_at = time.monotonic()
            place = self._place(place, first, samples)
        return self._blocks > 0

    def _drain(self) -> tuple[int, Samples]:
        """The samples that came since the last time, mixed to one channel, and the number of the
        first of them."""
        blocks = self._blocks
        for number in range(max(self._seen_blocks, blocks - len(self._marks)), blocks):
            count, arrival, overflow = self._marks[number % len(self._marks)]
            if overflow:
                self._clock.restart()
            self._clock.heard(count, arrival)
        self._seen_blocks = blocks
        if self._clock.zero is None:
            return self._seen, np.zeros(0, np.float32)
        count = self._marks[(blocks - 1) % len(self._marks)][0]
        first = max(self._seen, count - len(self._ring))
        self._seen = count
        came = np.take(self._ring, np.arange(first, count), axis=0, mode="wrap")
        return first, self._mono(came.T)

    def _place(self, place: int | None, first: int, samples: Samples) -> int:
        """Puts `samples` on the clock, next to `place` where that is right, and returns the place
        after them."""
        assert self._clock.zero is not None
        target = round((self._clock.zero - self._zero) * self.rate) + first
        if place is None or abs(target - place) > JUMP_S * self.rate:
            # Only on this grid both rates have a sample at the same moment.
            grid = self.rate // math.gcd(self.rate, self._timeline.rate)
            place = -(-target // grid) * grid
            samples = samples[place - target :]
            self._start_resampling(place)
        elif abs(target - place) > SLACK_S * self.rate:
            most = len(samples) // 200
            shift = min(max(target - place, -most), most)
            old = np.linspace(0, len(samples) - 1, len(samples) + shift)
            samples = np.interp(old, np.arange(len(samples)), samples).astype(np.float32)
        if len(samples):
            self._deliver(place, samples)
            block = av.AudioFrame.from_ndarray(samples[None], "flt", "mono")
            block.sample_rate = self.rate
            for frame in self._resampler.resample(block):
                resampled = frame.to_ndarray()[0]
                self._timeline.write(self._resampled, resampled)
                self._resampled += len(resampled)
        return place + len(samples)

    def _start_resampling(self, place: int) -> None:
        self._resampler = av.AudioResampler("flt", "mono", self._timeline.rate)
        self._resampled = place * self._timeline.rate // self.rate

    # Opening.

    def _find(self) -> int | None:
        """PortAudio's number of the microphone, None while there is none."""
        devices = enumerate(self._portaudio.query_devices())
        inputs = {n: d for n, d in devices if d["max_input_channels"]}
        if self._device is None:
            number = self._portaudio.default.device[0]
            return number if number in inputs else None
        if (number := device_number(self._device)) is not None:
            return number if number in inputs else None
        named = [n for n, d in inputs.items() if self._device.lower() in d["name"].lower()]
        return named[0] if named else None

    def _choose(self, number: int, rate: int | None = None) -> tuple[int, int]:
        """The rate, where it is not given, and the number of channels to open it with: all that it
        has, for the sound may be in any of them."""
        device = self._portaudio.query_devices(number)
        own_rate, own = int(device["default_samplerate"]), int(device["max_input_channels"])
        wanted = dict.fromkeys((own if own <= MOST_CHANNELS else 2, 1, own))
        rates = (RATE, own_rate) if rate is None else (rate,)
        with quiet_stderr():
            for hz, channels in itertools.product(rates, wanted):
                with contextlib.suppress(self._portaudio.PortAudioError):
                    self._portaudio.check_input_settings(number, channels, "float32", samplerate=hz)
                    return hz, channels
        return rates[-1], own

    def _open(self, number: int) -> Any:
        self._ring = np.zeros((round(RING_S * self.rate), self._channels), np.float32)
        self._mono = Mono(self.rate)
        with quiet_stderr():
            stream = self._portaudio.InputStream(
                device=number,
                samplerate=self.rate,
                blocksize=round(BLOCK_S * self.rate),
                channels=self._channels,
                dtype="float32",
                latency="low",
                callback=self._callback,
                finished_callback=self._finished,
            )
            stream.start()
        return stream

    def _end(self, stream: Any) -> None:
        for step in (stream.abort, stream.close):
            with contextlib.suppress(self._portaudio.PortAudioError):
                step()

    def _finished(self) -> None:  # PortAudio wants a callback that returns None
        self._ended.set()

    def _reopen(self) -> Any:
        """The stream, opened again; None while that doesn't work."""
        try:
            with quiet_stderr():
                # PortAudio looks for devices only once; there is no public call to look again.
                self._portaudio._terminate()
                self._portaudio._initialize()
                number = self._find()
            self._ended.clear()
            self._clock.restart()
            self._count = self._blocks = self._seen = self._seen_blocks = 0
            self._arrival = self._loud_at = time.monotonic()
            if number is None:
                self._problem = "gone"
                return None
            self._channels = self._choose(number, self.rate)[1]
            return self._open(number)
        except self._portaudio.PortAudioError as error:
            self._problem = f"can't be opened ({_reason(error)})"
            return None


def portaudio() -> Any:
    """The module `sounddevice`; importing it starts PortAudio.

    Raises:
        UserError: PortAudio isn't installed.
    """
    try:
        with quiet_stderr():
            import sounddevice
    except OSError:
        raise UserError(
            "PortAudio, which opens microphones, isn't installed; on Debian and Ubuntu: sudo apt "
            "install libportaudio2 libasound2-plugins; or run with --microphone none"
        ) from None
    return sounddevice


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Keeps off the terminal what ALSA and PortAudio print when they look for devices: dozens of
    lines about ones that nobody asked for. They write to the descriptor, past Python."""
    sys.stderr.flush()
    kept = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _none_found(sounddevice: Any, device: str | None) -> str:
    names = [d["name"] for d in sounddevice.query_devices() if d["max_input_channels"]]
    if not names:
        return "no microphone found; plug one in, or run with --microphone none"
    if device is None:
        return f"no default microphone; choose one with --microphone: {', '.join(names)}"
    return f"microphone {device}: not found; there are: {', '.join(names)}"


def _reason(error: Exception) -> str:
    """PortAudio's words without its numbers."""
    return str(error.args[0]).split(" [")[0] if error.args else type(error).__name__
