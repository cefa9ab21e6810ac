"""Fixtures: the fake devices. Where a system package is missing, tests skip and say which."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # what lies here also runs as programs, and is no package

import rig  # noqa: E402
from live_process import LiveProcess, PlugIn, StartLive  # noqa: E402
from rig import Env, FakeCamera, FakeMicrophone  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Real time on a machine that others use, too: what fails here is tried twice more, and shown
    as R. test_window.py has a reason of its own."""
    for item in items:
        if HERE in item.path.parents and not item.get_closest_marker("flaky"):
            item.add_marker(pytest.mark.flaky(reruns=2))


@contextlib.contextmanager
def skipping() -> Iterator[None]:
    """A package that is missing skips the test."""
    try:
        yield
    except rig.MissingPackage as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def opencv() -> None:
    with skipping():
        rig.need_opencv()


@pytest.fixture
def plug_in(tmp_path: Path, opencv: None) -> Iterator[PlugIn]:
    """Plugs in a camera: `plug_in(clip, start)`."""
    folder = tmp_path / "camera"
    folder.mkdir()
    with contextlib.ExitStack() as stack, skipping():

        def plug(clip, start: float = 0.0) -> FakeCamera:  # type: ignore[no-untyped-def]
            return stack.enter_context(rig.fake_camera(folder, clip, start))

        rig.build_camera(folder)
        yield plug


@pytest.fixture
def microphone() -> Iterator[FakeMicrophone]:
    with skipping():
        rig.need_portaudio()
        with rig.fake_microphone() as fake:
            yield fake


@pytest.fixture
def display(opencv: None) -> Iterator[Env]:
    """A display for each test: a key that is down when its window goes stays down, and would be
    pressed in the next one's."""
    with skipping():
        rig.need(xdotool="xdotool")
        with rig.fake_display() as env:
            yield env


@pytest.fixture
def start_live(tmp_path: Path) -> Iterator[StartLive]:
    """Starts the live program: `start_live(env, camera="0", ...)`; ends it after the test."""
    with contextlib.ExitStack() as stack:

        def start(env: Env, **options: object) -> LiveProcess:
            return stack.enter_context(LiveProcess(tmp_path, env, **options))

        yield start


@pytest.fixture
def soon() -> float:
    """A full second of the monotonic clock at which clip and sound begin together."""
    return float(int(time.monotonic()) + 3)
