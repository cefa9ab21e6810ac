"""The public interface: one page names and shows all of it, and what it says holds."""

from __future__ import annotations

import doctest
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import avsl
from avsl.demos.scenes.clips import demo_scene, write_clip

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "demos" / "PYTHON.md"
DOORS = ("avsl.engines", "avsl.realtime")


@pytest.mark.parametrize("door", DOORS)
def test_every_public_name_is_on_the_page_and_says_what_it_is(door: str) -> None:
    package, page = importlib.import_module(door), PAGE.read_text("utf-8")
    code = "\n".join(re.findall(r"^(?:>>>|\.\.\.) (.*)$", page, re.MULTILINE))
    for name in package.__all__:
        # OpenCV is what live needs and files don't.
        if name == "run_live" and not _importable("cv2"):
            continue
        offered = getattr(package, name)
        assert re.search(rf"\b{name}\b", code), f"{name} has no example in {PAGE.name}"
        if isinstance(offered, type) or callable(offered):
            module = getattr(offered, "__module__", "")
            if module.startswith("avsl"):
                assert offered.__doc__, f"{name} has no docstring"
    with pytest.raises(AttributeError, match="no attribute nonsense"):
        package.nonsense  # noqa: B018


def _importable(name: str) -> bool:
    return not subprocess.run(
        [sys.executable, "-c", f"import {name}"], capture_output=True
    ).returncode


def test_the_page_s_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_clip(demo_scene(), Path("film.mp4"), 2.0)
    text = PAGE.read_text("utf-8").replace("```", "")
    if not _importable("cv2"):  # the last section is about cameras
        text = text.split("## Live")[0]
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    examples = doctest.DocTestParser().get_doctest(text, {}, PAGE.name, str(PAGE), 0)
    assert len(examples.examples) > 40
    said: list[str] = []
    runner.run(examples, out=said.append)
    assert not runner.failures, "".join(said)


def test_avsl_has_a_version_and_runs(tmp_path: Path) -> None:
    assert avsl.__version__
    done = subprocess.run(
        [sys.executable, "-m", "avsl", "--version"], capture_output=True, text=True, cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (0, f"avsl {avsl.__version__}\n"), done.stderr
    done = subprocess.run(
        [sys.executable, "-m", "avsl", "absent.mp4", "-o", "out.mp4", "--engine", "motion"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (2, "error: absent.mp4: no such file\n")
