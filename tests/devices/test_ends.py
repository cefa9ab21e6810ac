"""What a person can mend is one line with what to do, and exit code 2. No device is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from live_process import PlugIn
from rig import Env, FakeMicrophone
from scene import flashes

APP = Path(__file__).parent / "live_app.py"


def fault(env: Env, folder: Path, *arguments: str) -> str:
    """The one line with which the live program ends."""
    clean = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "PULSE_SERVER")}
    done = subprocess.run(
        [sys.executable, str(APP), *arguments],
        env={**clean, "XDG_RUNTIME_DIR": str(folder), **env}, cwd=folder,
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_no_display(opencv: None, tmp_path: Path) -> None:
    assert "no display to open a window on (DISPLAY isn't set); avsl-live --no-window" in fault(
        {}, tmp_path
    )
    # Qt would abort the process here.
    assert "the display :987 doesn't answer or refuses" in fault({"DISPLAY": ":987"}, tmp_path)


def test_no_way_out(opencv: None, tmp_path: Path) -> None:
    assert "two files" in fault({}, tmp_path, "out='a.mp4'", "record='a.mp4'")
    assert "without a window nothing would come out" in fault({}, tmp_path, "window=False")


@pytest.mark.parametrize("name", ["camera", "film.mp4", "-1", "ftp://a"])
def test_no_name_of_a_camera(opencv: None, tmp_path: Path, name: str) -> None:
    assert f"camera {name}: a camera is a number" in fault({}, tmp_path, f"camera={name!r}")


HEADLESS = ("window=False", "record='a.mp4'")


def test_no_camera(opencv: None, tmp_path: Path) -> None:
    if Path("/dev/video7").exists():
        pytest.skip("there is a /dev/video7 on this computer")
    line = fault({}, tmp_path, "camera='7'", *HEADLESS)
    assert "camera 7: there is no /dev/video7; avsl-live --list-devices" in line


def test_no_answer_from_an_address(opencv: None, tmp_path: Path) -> None:
    line = fault({}, tmp_path, "camera='http://127.0.0.1:9/camera'", *HEADLESS)
    assert "no pictures come from this address" in line
    line = fault({}, tmp_path, "camera='http://me:secret@127.0.0.1:9/camera'", *HEADLESS)
    assert "camera http://127.0.0.1:9/camera" in line and "secret" not in line


@pytest.mark.parametrize(
    ("number", "words"),
    [(13, "no permission for /dev/video0; sudo usermod"), (16, "busy; close the other program")],
)
def test_camera_refused(plug_in: PlugIn, tmp_path: Path, number: int, words: str) -> None:
    env = {**plug_in(flashes()).env, "FAKECAM_ERRNO": str(number)}
    assert f"camera 0: {words}" in fault(env, tmp_path, *HEADLESS)


def test_no_microphone(plug_in: PlugIn, microphone: FakeMicrophone, tmp_path: Path) -> None:
    env = plug_in(flashes()).env
    assert "no microphone found; plug one in, or run with --microphone none" in fault(
        env, tmp_path, *HEADLESS
    )
    line = fault({**env, **microphone.env}, tmp_path, "microphone='Nowhere'", *HEADLESS)
    assert "microphone Nowhere: not found; there are: pulse, default" in line
    line = fault({**env, **microphone.env}, tmp_path, "microphone='99'", *HEADLESS)
    assert "microphone 99: not found" in line


def test_no_portaudio(plug_in: PlugIn, tmp_path: Path) -> None:
    (tmp_path / "sounddevice.py").write_text("raise OSError('PortAudio library not found')")
    env = {**plug_in(flashes()).env, "PYTHONPATH": str(tmp_path)}
    assert "PortAudio, which opens microphones, isn't installed; " in fault(
        env, tmp_path, *HEADLESS
    )


def test_no_libgl(tmp_path: Path) -> None:
    (tmp_path / "cv2.py").write_text(
        "raise ImportError('libGL.so.1: cannot open shared object file')"
    )
    line = fault({"PYTHONPATH": str(tmp_path)}, tmp_path)
    assert "libGL.so.1" in line and "sudo apt install libgl1" in line


def test_file_that_exists(plug_in: PlugIn, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("dear")
    env = plug_in(flashes()).env
    assert "a.mp4: exists already; --overwrite" in fault(
        env, tmp_path, "microphone='none'", *HEADLESS
    )
    assert (tmp_path / "a.mp4").read_text() == "dear"


def test_list_devices(plug_in: PlugIn, microphone: FakeMicrophone) -> None:
    code = "from avsl.realtime.sources.devices import list_devices; list_devices()"
    env = {**os.environ, **plug_in(flashes()).env, **microphone.env}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stderr == ""
    assert "0  Fake UVC Camera" in done.stdout
    assert "default  (ALSA, the default)" in done.stdout
