"""The house: which room may know of which, no circles, nothing that nobody would find, and a wheel
that holds it all."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WINGS = ("engines", "realtime", "train", "demos")
LONGEST = 400
"""Lines of a file."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    parts = parts[1:] if parts[:2] == ("realtime", "avsl") else ("avsl", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for wing in WINGS for path in (ROOT / wing).rglob("*.py")}


def imported(source: str) -> Iterator[str]:
    """The modules of ours that a file names in an import, at its top or anywhere in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FILES)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in FILES or node.module in FILES:
                    yield inner if inner in FILES else node.module


IMPORTS = {name: set(imported(path.read_text("utf-8"))) for name, path in FILES.items()}


def circle(imports: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in turn, the first one again at the end; none: empty."""
    done: set[str] = set()

    def walk(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for other in sorted(imports[name]):
            if found := walk(other, [*way, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(imports) if (found := walk(name, []))), [])


def test_no_files_import_each_other_in_a_circle() -> None:
    assert not (found := circle(IMPORTS)), " -> ".join(found)


def test_a_circle_would_be_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert "avsl.engines.bundle" in IMPORTS["avsl.engines.localization"]
    assert "avsl.train.methods.dmt" in IMPORTS["avsl.train.scoring.plots"]


@pytest.mark.parametrize(
    ("room", "may_know"),
    [
        ("engines", "engines"),
        ("demos.scenes", "demos.scenes"),
        ("realtime", "realtime engines demos.scenes"),
        ("train", "train engines demos.scenes"),
        ("demos.film", "demos.film"),
        ("demos.examples", "engines realtime"),  # as somebody else's program would
        ("realtime.sources", "realtime.sources realtime.live_options engines"),
        ("realtime.drawing", "realtime.drawing realtime.sources engines"),
        ("train.data", "train.data train.recipe engines demos.scenes"),
        ("train.methods", "train.methods train.data train.scoring train.recipe engines"),
    ],
)
def test_arrows_run_one_way(room: str, may_know: str) -> None:
    allowed = tuple(f"avsl.{one}." for one in may_know.split())
    known = {
        (name, other)
        for name, others in IMPORTS.items()
        if f"{name}.".startswith(f"avsl.{room}.")
        for other in others
    }
    wrong = [
        f"{name} imports {other}"
        for name, other in sorted(known)
        if not f"{other}.".startswith(allowed)
    ]
    assert known and not wrong, "\n".join(wrong)


def test_examples_use_the_public_interface_alone() -> None:
    for name, others in IMPORTS.items():
        if name.startswith("avsl.demos.examples."):
            assert others <= {"avsl", "avsl.engines", "avsl.realtime"}, name


def test_files_are_short() -> None:
    files = [*FILES.values(), *(ROOT / "tests").rglob("*.py")]
    lines = {str(path.relative_to(ROOT)): path.read_text("utf-8").count("\n") for path in files}
    assert not {path: count for path, count in lines.items() if count >= LONGEST}


def test_tests_mirror_the_wings() -> None:
    tests = ROOT / "tests"
    for wing in WINGS:
        assert list((tests / wing).glob("test_*.py")), wing
        assert (ROOT / wing / "README.md").exists(), wing


def test_the_readme_is_a_page() -> None:
    assert (ROOT / "README.md").read_text("utf-8").count("\n") < 130


@pytest.mark.parametrize(
    "page",
    sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("[!.]*/*.md")),
    ids=lambda page: page.relative_to(ROOT).as_posix(),
)
def test_what_a_page_points_to_is_there(page: Path) -> None:
    text = page.read_text("utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert not [link for link in links if not (page.parent / link).exists()]


def listed(*command: str) -> list[str]:
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\n")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from what git keeps, away from here: setuptools leaves folders where it builds."""
    try:
        kept = listed("git", "ls-files", "-co", "--exclude-standard")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout: what belongs to the wheel isn't known")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in kept:
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (made,) = out.glob("*.whl")
    return made


DATA = (
    "engines/default",
    "engines/drawn",
    "engines/speakers/networks",
    "train/recipes",
    "realtime/demo_film",
)


def test_what_ships_names_no_place_on_a_machine() -> None:
    """PyTorch's exporter writes stack traces into a graph, with the paths of who exported it."""
    shipped = [path for folder in DATA for path in (ROOT / folder).iterdir() if path.is_file()]
    assert len([path for path in shipped if path.suffix == ".onnx"]) >= 7
    for path in shipped:
        content = path.read_bytes()
        assert b"stack_trace" not in content and b"/engines/networks/" not in content, path


def test_the_wheel_holds_every_module_and_what_they_read(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    modules = {
        f"{name.replace('.', '/')}/__init__.py"
        if path.name == "__init__.py"
        else f"{name.replace('.', '/')}.py"
        for name, path in FILES.items()
    }
    assert {name for name in names if name.endswith(".py")} == modules
    data = {name for name in names if not name.endswith((".py", "py.typed"))}
    wanted = {
        f"avsl/{path.relative_to(ROOT).as_posix()}"
        for folder in DATA
        for path in (ROOT / folder).iterdir()
        if path.is_file()
    }
    assert data == wanted | {"avsl/train/teach/kinds.tsv"}
    assert all(f"avsl/{wing}/py.typed" in names for wing in WINGS)


def test_the_wheel_installed_runs_the_demo(wheel: Path, tmp_path: Path) -> None:
    """In a folder of its own, with the libraries that are here and none of the checkout."""
    place = tmp_path / "installed"
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(place)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); import avsl, avsl.realtime.cli as cli;"
        "print(avsl.__file__, cli.__file__); cli.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(place), "--demo"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(str(place)) == 2, "the checkout was imported"
    assert (tmp_path / "avsl-demo.mp4").stat().st_size > 100_000
