"""Fake devices that real drivers' interfaces open: camera, microphone, display. No pytest here, for
the live benchmark uses them too. Each is a context manager that ends what it started."""

from __future__ import annotations

import contextlib
import ctypes.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).parent
HARDWARE = ["nice", "-n", "-15"]
"""Devices don't get slower when the computer is busy. Without the right to it, `nice` runs them as
they are; an underrun then delays the sound for good."""
Env = dict[str, str]


class MissingPackage(Exception):
    """A system package that a fake device needs isn't installed."""


def need(**packages: str) -> None:
    """Raises MissingPackage unless each program (keyword) is there, and says which Debian package
    (value) holds it."""
    for program, package in packages.items():
        if not shutil.which(program):
            raise MissingPackage(f"{program} is missing: apt install {package}")


def need_opencv() -> None:
    """Raises MissingPackage unless cv2 can be imported and can open windows."""
    code = "import ctypes, cv2; [ctypes.CDLL(f'lib{n}.so.6') for n in ('SM', 'ICE')]"
    if subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode:
        raise MissingPackage("cv2 can't start: apt install libgl1 libglib2.0-0 libsm6 libice6")


def need_portaudio() -> None:
    """Raises MissingPackage unless sounddevice can reach PulseAudio."""
    if not ctypes.util.find_library("portaudio"):
        raise MissingPackage("PortAudio is missing: apt install libportaudio2")
    if not any(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so")):
        raise MissingPackage("ALSA's pulse plugin is missing: apt install libasound2-plugins")


@contextlib.contextmanager
def running(
    command: list[str], env: Env | None = None, **options: object
) -> Iterator[subprocess.Popen[str]]:
    """A process that is ended, at the latest, with the block."""
    environment = {**os.environ, **(env or {})}
    process = subprocess.Popen(command, env=environment, text=True, **options)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGCONT)
            process.terminate()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe:
                pipe.close()


def build_camera(folder: Path) -> Path:
    """Compiles fakev4l2.so into `folder`."""
    need(gcc="gcc libc6-dev")
    library = folder / "fakev4l2.so"
    if not library.exists():
        source = HERE / "fakev4l2.c"
        command = ["gcc", "-O2", "-fPIC", "-shared", "-o", library, source, "-ldl", "-lpthread"]
        built = subprocess.run(command, capture_output=True, text=True, check=False)
        if built.returncode:
            raise MissingPackage(f"fakev4l2.c can't be built: apt install libc6-dev {built.stderr}")
    return library


@dataclass
class FakeCamera:
    """A camera that is plugged in. `env` is for the program that opens it as camera 0."""

    env: Env
    socket: Path

    def fault(self, name: str, value: float) -> None:
        """`pause` 1 or 0, `drop` probability, `unplug` seconds."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(f"{name} {value}".encode(), f"{self.socket}.control")


@contextlib.contextmanager
def fake_camera(
    folder: Path, clip: NDArray[np.uint8], start: float = 0.0, fps: float = 30.0
) -> Iterator[FakeCamera]:
    """Plays `clip` (BGR, `[n, h, w, 3]`), picture k at start + k / fps, as camera 0 of programs
    that run with its `env`."""
    library = build_camera(folder)
    np.save(folder / "clip.npy", clip)
    path = folder / "camera.sock"
    with contextlib.suppress(FileNotFoundError):
        Path(f"{path}.control").unlink()
    command = [*HARDWARE, sys.executable, str(HERE / "camera_feeder.py"), str(folder / "clip.npy"),
               "--fps", str(fps), "--start", str(start), "--socket", str(path)]  # fmt: skip
    with running(command, stdout=subprocess.PIPE) as feeder:
        assert feeder.stdout and feeder.stdout.readline() == "ready\n"
        yield FakeCamera({"LD_PRELOAD": str(library), "FAKECAM_SOCKET": str(path)}, path)


@contextlib.contextmanager
def http_camera(folder: Path, clip: NDArray[np.uint8], start: float = 0.0) -> Iterator[str]:
    """The address of a camera that sends MJPEG; faults at ADDRESS/control?pause=1."""
    np.save(folder / "clip.npy", clip)
    command = [*HARDWARE, sys.executable, str(HERE / "camera_feeder.py"), str(folder / "clip.npy"),
               "--fps", "30", "--start", str(start), "--http"]  # fmt: skip
    with running(command, stdout=subprocess.PIPE) as feeder:
        assert feeder.stdout
        yield feeder.stdout.readline().strip()


def http_fault(address: str, name: str, value: float) -> None:
    """As `FakeCamera.fault`, for `http_camera`."""
    urllib.request.urlopen(f"{address}/control?{name}={value}").read()


MODULES = """
load-module module-native-protocol-unix auth-anonymous=1
load-module module-null-sink sink_name=speaker rate=48000 channels=2 format=s16le norewinds=1
load-module module-remap-source source_name=fakemic master=speaker.monitor
set-default-sink speaker
set-default-source fakemic
"""
# Without norewinds the first block comes a second late and the sound's start is lost.


@dataclass
class FakeMicrophone:
    """A PulseAudio daemon of one's own, whose default source hears what `play` plays."""

    folder: Path
    env: Env
    daemon: subprocess.Popen[bytes] | None = None
    _players: list[contextlib.ExitStack] = field(default_factory=list)

    def start(self) -> None:
        """Starts the daemon, also again after `stop`."""
        (self.folder / "config").write_text(MODULES)
        (self.folder / "pulse").mkdir(exist_ok=True, mode=0o700)
        (self.folder / "pulse" / "pid").unlink(missing_ok=True)
        config = str(self.folder / "config")
        command = [*HARDWARE, "pulseaudio", "--daemonize=no", "-n", "-F", config,
                   "--exit-idle-time=-1", "--realtime=no", "--high-priority=no",
                   f"--log-target=file:{self.folder / 'log'}"]  # fmt: skip
        quiet = subprocess.DEVNULL
        self.daemon = subprocess.Popen(
            command, env={**os.environ, **self.env}, stdout=quiet, stderr=quiet
        )
        for _ in range(200):
            if self.pactl("info") == 0:
                return
            time.sleep(0.05)
        raise RuntimeError(f"PulseAudio doesn't start; see {self.folder / 'log'}")

    def stop(self) -> None:
        """Ends the daemon: the microphone has gone."""
        assert self.daemon
        self.daemon.kill()
        self.daemon.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self.daemon
        self.daemon.send_signal(number)

    def pactl(self, *arguments: str) -> int:
        command = ["pactl", *arguments]
        quiet = subprocess.DEVNULL
        return subprocess.run(
            command, env={**os.environ, **self.env}, stdout=quiet, stderr=quiet, check=False
        ).returncode

    def suspend(self, yes: bool) -> None:
        for source in ("fakemic", "speaker.monitor"):
            self.pactl("suspend-source", source, str(int(yes)))

    def play(self, sound: NDArray[np.float32], start: float = 0.0) -> None:
        """Plays 48 kHz sound, `[n]` or `[n, channels]`, over and over from `start` (monotonic)
        until the end."""
        path = self.folder / f"sound{len(self._players)}.npy"
        np.save(path, sound)
        command = [
            *HARDWARE,
            sys.executable,
            str(HERE / "speaker.py"),
            str(path),
            "--start",
            str(start),
        ]
        stack = contextlib.ExitStack()
        stack.enter_context(running(command, env=self.env))
        self._players.append(stack)

    def end(self) -> None:
        for player in self._players:
            player.close()
        if self.daemon and self.daemon.poll() is None:
            self.daemon.send_signal(signal.SIGCONT)
            self.stop()


@contextlib.contextmanager
def fake_microphone() -> Iterator[FakeMicrophone]:
    """A microphone that programs find which run with its `env`."""
    need(pulseaudio="pulseaudio", pactl="pulseaudio-utils", pacat="pulseaudio-utils")
    with tempfile.TemporaryDirectory(prefix="pulse-") as name:  # a socket's path must be short
        folder = Path(name)
        env = {
            "XDG_RUNTIME_DIR": name,
            "PULSE_RUNTIME_PATH": f"{name}/pulse",
            "PULSE_STATE_PATH": f"{name}/state",
            "PULSE_COOKIE": f"{name}/cookie",
            "PULSE_SERVER": f"unix:{name}/pulse/native",
        }
        microphone = FakeMicrophone(folder, env)
        try:
            microphone.start()
            yield microphone
        finally:
            microphone.end()


@contextlib.contextmanager
def fake_display() -> Iterator[Env]:
    """An X server without a screen."""
    need(Xvfb="xvfb")
    read, write = os.pipe()
    command = ["Xvfb", "-displayfd", str(write), "-screen", "0", "1400x900x24",
               "-nolisten", "tcp", "-noreset"]  # fmt: skip
    quiet = subprocess.DEVNULL
    with running(command, pass_fds=[write], stdout=quiet, stderr=quiet):
        os.close(write)
        with os.fdopen(read) as ready:
            number = ready.readline().strip()
        yield {"DISPLAY": f":{number}"}
