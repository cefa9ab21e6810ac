"""Without the extra `train`: every command that needs it says so in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from avsl.train.extra import PACKAGES

# As where they were never installed: importing them is a ModuleNotFoundError.
WITHOUT = (
    "import sys, runpy; sys.modules.update(dict.fromkeys({packages!r})); module = sys.argv[1]; "
    "del sys.argv[0]; runpy.run_module(module, run_name='__main__', alter_sys=True)"
)
CLI = "avsl.train.cli"


def run(*command: object, packages: tuple[str, ...] = PACKAGES) -> subprocess.CompletedProcess[str]:
    code = [sys.executable, "-c", WITHOUT.format(packages=packages)]
    return subprocess.run(
        [*code, *map(str, command)], capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "mine.toml").write_text("steps = 5\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.toml").write_text("steps = 5\n")
    return tmp_path


NEEDS = [
    (CLI, "fit", "{}/mine.toml", "--run", "{}/new"),
    (CLI, "fit", "{}/mine.toml", "--run", "{}/new", "--dry-run"),
    (CLI, "fit", "{}/mine.toml", "--run", "{}/new", "--resume"),
    (CLI, "build", "{}/run"),
    (CLI, "bench", "quick", "--out", "{}/bench"),
    (CLI, "evaluate", "drawn", "--failures", "{}/wrong.png"),
    ("avsl.train.bench.speed",),
    ("avsl.train.papers_pair", "{}/pair"),
]


@pytest.mark.parametrize("command", NEEDS, ids=lambda c: " ".join(c[:3]))
def test_one_line_and_nothing_written(command: tuple[str, ...], place: Path) -> None:
    before = sorted(place.rglob("*"))
    done = run(*(word.format(place) for word in command))
    assert done.returncode == 2
    assert done.stderr.startswith("error: training needs ")
    assert done.stderr.endswith("; pip install '.[train]'\n")
    assert done.stderr.count("\n") == 1
    assert not done.stdout
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("package", PACKAGES)
def test_any_one_of_them_may_be_missing(package: str, place: Path) -> None:
    pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")
    done = run(CLI, "fit", place / "mine.toml", "--run", place / "new", packages=(package,))
    assert done.returncode == 2
    assert done.stderr == f"error: training needs {package}; pip install '.[train]'\n"


@pytest.mark.parametrize(
    "command",
    [
        (CLI, "bench", "quick", "--list"),
        *((CLI, name, "--help") for name in ("scenes", "prepare", "fit", "evaluate", "build")),
        (CLI, "--help"),
        (CLI, "scenes", "{}/scenes", "--count", "2"),
        ("avsl.train.bench.speed", "--help"),
    ],
    ids=lambda c: " ".join(c[1:3]),
)
def test_what_needs_none_of_it_works(command: tuple[str, ...], place: Path) -> None:
    done = run(*(word.format(place) for word in command))
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_a_fault_of_ours_is_not_taken_for_it() -> None:
    from avsl.train.extra import extra_train

    with pytest.raises(ModuleNotFoundError), extra_train():
        import avsl.nothing_of_this_name  # type: ignore[import-not-found]  # noqa: F401


def test_stars_in_the_help_are_stars() -> None:
    done = run(CLI, "scenes", "--help")
    assert "OUT/frames/*.jpg" in done.stdout
    assert "OUT/audio/*.wav" in done.stdout
