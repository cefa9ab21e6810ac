"""What a bundle must be, and the line a person reads when it isn't."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from avsl.engines import DEFAULT, UserError, load_bundle, open_engine
from avsl.engines.bundle import DRAWN


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DRAWN, tmp_path / "engine"))


def change(folder: Path, **values: object) -> None:
    meta = json.loads((folder / "model.json").read_text())
    meta.update(values)
    (folder / "model.json").write_text(json.dumps(meta))


@pytest.mark.parametrize("folder", [DEFAULT, DRAWN], ids=lambda path: path.name)
def test_what_ships_is_whole_and_small(folder: Path) -> None:
    bundle = load_bundle(folder)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 20e6
    assert bundle.meta["scores"]["scenes"] >= 1000
    assert (folder / "README.md").is_file()


def test_a_copy_opens_anywhere(copy: Path) -> None:
    assert open_engine(copy).bundle.name == load_bundle(DRAWN).name


def test_on_the_cpu_nothing_large_is_imported() -> None:
    code = (
        "import sys; from avsl.engines.bundle import DRAWN; from avsl.engines import open_engine; "
        "open_engine(DRAWN, 'onnxruntime'); "
        "print({'torch', 'tensorrt', 'onnx'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "set()\n", done.stderr


def fault(folder: Path) -> str:
    with pytest.raises(UserError) as caught:
        open_engine(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def test_no_folder(tmp_path: Path) -> None:
    assert "no such engine folder" in fault(tmp_path / "none")


def test_an_empty_folder(tmp_path: Path) -> None:
    assert "model.json is missing" in fault(tmp_path)


@pytest.mark.parametrize("graph", ["sound.onnx", "picture.onnx"])
def test_a_missing_graph(copy: Path, graph: str) -> None:
    (copy / graph).unlink()
    assert f"{graph} is missing" in fault(copy)


@pytest.mark.parametrize("graph", ["sound.onnx", "picture.onnx"])
def test_a_changed_graph(copy: Path, graph: str) -> None:
    data = bytearray((copy / graph).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / graph).write_bytes(bytes(data))
    assert "sha256" in fault(copy)


def test_a_graph_that_is_no_graph(copy: Path) -> None:
    import hashlib

    (copy / "sound.onnx").write_bytes(b"not a graph")
    hashes = load_bundle(DRAWN).meta["sha256"] | {
        "sound.onnx": hashlib.sha256(b"not a graph").hexdigest()
    }
    change(copy, sha256=hashes)
    assert "can't load it" in fault(copy)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"schema": 1}', "\ud83d", '{"schema": 1, "name": {}}']
)
def test_json_that_says_something_else(copy: Path, text: str) -> None:
    (copy / "model.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    fault(copy)


@pytest.mark.parametrize(
    "values",
    [
        {"schema": 99},
        {"window": {"rate": 0, "length": 1, "hop": 1, "guard": 0}},
        {"window": {"rate": 16000, "length": 16000, "hop": 800, "guard": -5}},
        {"picture_size": [160]},
        {"picture_size": [10**9, 160]},
        {"thresholds": {}},
        {"embedding_size": "many"},
        {"sha256": {}},
    ],
)
def test_values_that_make_no_sense(copy: Path, values: dict[str, object]) -> None:
    change(copy, **values)
    fault(copy)
