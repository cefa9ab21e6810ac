"""What a person can mend is one line with what to do, and exit code 2. No device is needed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
    assert "two files" in fault({}, tmp_path, "record='a.mp4'", "events='./a.mp4'")
    assert "without a window nothing would come out" in fault({}, tmp_path, "window=False")


@pytest.mark.parametrize("name", ["camera", "film.mp4", "-1", "ftp://a", "²", "9" * 20, ""])
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
    line = fault({**env, **microphone.env}, tmp_path, "microphone='²'", *HEADLESS)
    assert "microphone ²: not found" in line


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


@contextlib.contextmanager
def answering(status: int, body: bytes = b"", kind: str = "text/plain") -> Iterator[str]:
    """The address of a web server that gives all who ask the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}/video"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (401, "it wants another name and password: http://NAME:PASSWORD@ADDRESS"),
        (403, "it forbids this address"),
        (404, "it has no such address"),
        (503, "it answers with error 503, not with pictures"),
        (200, "no pictures come from this address"),
    ],
)
def test_an_address_that_answers_without_pictures(
    opencv: None, tmp_path: Path, status: int, said: str
) -> None:
    with answering(status) as address:
        line = fault({}, tmp_path, f"camera='http://me:secret@{address}'", *HEADLESS)
    assert f"camera http://{address}: {said}" in line and "secret" not in line


GARBAGE = b"".join(
    b"--picture\r\nContent-Type: image/jpeg\r\nContent-Length: 900\r\n\r\n"
    + b"\xff\xd8"
    + bytes(range(256))[:224] * 4
    + b"\xff\xd9\r\n"
    for _ in range(2000)
)


def test_a_camera_that_never_gives_a_picture(opencv: None, tmp_path: Path) -> None:
    kind = "multipart/x-mixed-replace; boundary=picture"
    with answering(200, GARBAGE, kind) as address:
        arguments = f"camera='http://{address}'", "microphone='none'", "duration=3.0"
        environment = {k: v for k, v in os.environ.items() if k != "DISPLAY"}
        done = subprocess.run(
            [sys.executable, str(APP), *arguments, *HEADLESS],
            env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "there was not one in 3 s" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
