"""Bundles with kinds, as they lie on the disk and are opened: the shape of their pictures, which of
their kinds are heard, and those that lie, a line each."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the networks are made by torch: '.[train]'")
torch.set_num_threads(1)  # beside others on two cores, threads spin for minutes

from kinds_networks import (  # noqa: E402
    BLUE,
    KINDS,
    NOMINAL,
    RED,
    TWO,
    kinds_bundle,
    openvino,
    picture,
    said,
    sound,
    torch_backend,
)

from avsl.engines import (  # noqa: E402
    Bundle,
    Localizer,
    NetworkEngine,
    SoundTimeline,
    UserError,
    choose_engine,
    kinds_of,
    load_bundle,
)
from avsl.engines.backends.onnxruntime import OnnxRuntimeEngine  # noqa: E402
from avsl.engines.both import BothEngine  # noqa: E402
from avsl.engines.bundle import DRAWN  # noqa: E402


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return kinds_bundle(tmp_path_factory.mktemp("bundle") / "engine")


# The shape of pictures


@pytest.mark.parametrize(
    ("stream", "size"),
    [
        ((1080, 1920), (256, 448)),
        ((720, 1280), (256, 448)),
        ((480, 640), (288, 384)),
        ((1920, 1080), (448, 256)),
        ((500, 500), (320, 320)),
        ((640, 480), (384, 288)),
        ((1024, 1280), (288, 352)),  # where 288 x 384 would be larger
        ((803, 1920), (224, 512)),
        ((1, 1), (320, 320)),
    ],
)
def test_a_picture_keeps_its_shape(
    bundle: Bundle, stream: tuple[int, int], size: tuple[int, int]
) -> None:
    from dataclasses import replace

    large = replace(bundle, picture_size=(256, 448), map_size=(16, 28))
    fitted = large.fitted(*stream)
    assert fitted.picture_size == size
    assert fitted.map_size == (size[0] // 16, size[1] // 16)


@pytest.mark.parametrize("stream", [(108, 1080), (1080, 108), (1, 1920), (1920, 1), (2, 16_384)])
def test_a_strip_breaks_nothing(bundle: Bundle, stream: tuple[int, int]) -> None:
    fitted = bundle.fitted(*stream)
    tall, wide = fitted.picture_size
    assert (tall % 32, wide % 32) == (0, 0)
    assert 0.5 * NOMINAL[0] * NOMINAL[1] < tall * wide <= NOMINAL[0] * NOMINAL[1]
    assert (tall < wide) == (stream[0] < stream[1])
    for engine in (OnnxRuntimeEngine(bundle), BothEngine(OnnxRuntimeEngine(bundle))):
        one = engine.for_pictures(*stream)
        timeline = SoundTimeline(16_000, 4)
        timeline.write(0, sound(RED, seconds=2))
        localize = Localizer(one)
        for k in range(4):
            map_ = localize(1.5 + k / 25, picture(*one.spec.picture_size), timeline).map
        assert map_.shape == fitted.map_size


def test_without_a_step_there_is_one_shape(tmp_path: Path) -> None:
    fixed = kinds_bundle(tmp_path / "engine", picture_step=None)
    for opened in (OnnxRuntimeEngine, torch_backend, openvino("f32")):
        assert opened(fixed).for_pictures(1920, 1080).spec.picture_size == NOMINAL


# Which are heard


def test_only_and_ignore(bundle: Bundle) -> None:
    for options, wanted in (
        ({"only": ["Red thing"]}, RED),
        ({"ignore": ["red thing", " green thing"]}, BLUE),
        ({"only": ["red thing", "blue thing"], "ignore": ["red thing"]}, BLUE),
    ):
        lines: list[str] = []
        name = f"both:{bundle.folder}"
        engine = choose_engine(name, "onnxruntime", say=lines.append, **options)
        assert "without motion" in lines[0]
        found = said(engine, *TWO, heard=(RED, BLUE))
        assert found.kinds == (KINDS[wanted],)
        assert [word for word, _ in found.heard] == [KINDS[wanted]]
        other = said(engine, *TWO, heard=(RED if wanted == BLUE else BLUE,))
        assert (other.state, other.heard) == ("unseen", ())


@pytest.mark.parametrize(
    ("name", "options", "line"),
    [
        ("", {"only": ["bleu thing"]}, "--only: colours knows no 'bleu thing', but blue thing"),
        ("", {"ignore": ["thing"]}, "--ignore: colours knows no 'thing', but red thing, green"),
        ("", {"only": ["tuba"]}, "--only: colours knows no 'tuba'; avsl-live --list-kinds shows"),
        ("", {"ignore": KINDS}, "--ignore: nothing is left to be heard"),
        (str(DRAWN), {"only": ["dog"]}, "--only: drawn knows no kinds by name; leave it out"),
        ("motion", {"ignore": ["dog"]}, "--ignore: motion knows no kinds; leave it out"),
    ],
)
def test_kinds_that_it_does_not_know_are_one_line(
    bundle: Bundle, name: str, options: dict[str, list[str]], line: str
) -> None:
    with pytest.raises(UserError) as caught:
        choose_engine(name or bundle.folder, **options)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_what_it_knows_can_be_asked(bundle: Bundle) -> None:
    assert kinds_of(f"both:{bundle.folder}") == kinds_of(bundle.folder) == KINDS
    for nothing in ("motion", DRAWN):
        with pytest.raises(UserError, match="knows no kinds"):
            kinds_of(nothing)


# Bundles that lie

LIES: list[tuple[dict[str, object], str]] = [
    ({"kinds": []}, "kinds must be 1 to 1024 different words"),
    ({"kinds": ["dog", "Dog", "cat"]}, "kinds must be 1 to 1024 different words"),
    ({"kinds": [str(k) for k in range(1025)]}, "kinds must be 1 to 1024 different words"),
    ({"kinds": "dog"}, "kinds must be a list of words"),
    ({"kinds": ["dog", 1, "cat"]}, "kinds must be a list of words"),
    ({"kinds": ["dog", "\x1b[2J", "cat"]}, "each of kinds must be up to 100 letters"),
    ({"kinds": ["dog", "", "cat"]}, "each of kinds must be up to 100 letters"),
    ({"kinds": ["dog", "cat, lion", "cow"]}, "each of kinds must be up to 100 letters"),
    ({"kinds": ["dog", "cat"]}, "sound.onnx: its heard is 3, model.json says 2"),
    ({"picture_step": 0}, "picture_step must be even and at least 8"),
    ({"picture_step": -32}, "picture_step must be even and at least 8"),
    ({"picture_step": 9, "picture_size": [63, 63]}, "picture_step must be even and at least 8"),
    ({"picture_step": 48}, "picture_step must divide picture_size"),
    ({"picture_step": 32.0}, "picture_step must be a whole number"),
    ({"picture_step": 8}, "map_size must divide picture_size into cells that divide picture_step"),
    ({"picture_step": 16, "picture_size": [16, 160]}, "picture_size, of 32 or more"),
    ({"map_size": [0, 14]}, "map_size must be at least 1"),
    ({"map_size": [900_000, 14]}, "map_size must be at least 1"),
    ({"map_size": [5, 14]}, "map_size must divide picture_size into cells"),
]


def changed(bundle: Bundle, folder: Path, values: dict[str, object], **graphs: Path) -> Path:
    """A bundle with another model.json, or other graphs, all hashes as they should be."""
    folder.mkdir()
    meta = {**json.loads((bundle.folder / "model.json").read_text()), **values}
    for name in ("sound", "picture"):
        data = graphs.get(name, bundle.folder / f"{name}.onnx").read_bytes()
        (folder / f"{name}.onnx").write_bytes(data)
        meta["sha256"][f"{name}.onnx"] = hashlib.sha256(data).hexdigest()
    (folder / "model.json").write_text(json.dumps(meta))
    return folder


def fault(folder: Path, opened: Callable[[Bundle], NetworkEngine]) -> str:
    with pytest.raises(UserError) as caught:
        opened(load_bundle(folder))
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize("case", range(len(LIES)))
def test_a_model_json_that_lies(bundle: Bundle, case: int, tmp_path: Path) -> None:
    values, says = LIES[case]
    assert says in fault(changed(bundle, tmp_path / "e", values), OnnxRuntimeEngine)


@pytest.mark.parametrize("opened", [OnnxRuntimeEngine, torch_backend, openvino("f32")])
def test_kinds_and_graphs_that_disagree(
    bundle: Bundle, tmp_path: Path, opened: Callable[[Bundle], NetworkEngine]
) -> None:
    without = {"kinds": ["dog", "cat", "cow", "horse"]}
    said_ = fault(changed(bundle, tmp_path / "four", without), opened)
    assert "its heard is 3, model.json says 4; get the engine again" in said_
    meta = json.loads((DRAWN / "model.json").read_text())
    drawn = changed(load_bundle(DRAWN), tmp_path / "drawn", {"kinds": ["dog"] * 1})
    assert "sound.onnx: gives no heard; get the engine again" in fault(drawn, opened)
    mixed = changed(bundle, tmp_path / "mixed", {}, picture=DRAWN / "picture.onnx")
    assert "takes no picture and heard" in fault(mixed, opened)
    cosine = changed(load_bundle(DRAWN), tmp_path / "c", meta, picture=bundle.picture_graph)
    assert "takes no picture and embedding" in fault(cosine, opened)
    fixed = kinds_bundle(tmp_path / "fixed", picture_step=None)
    stepped = changed(fixed, tmp_path / "stepped", {"picture_step": 32})
    assert "takes pictures of one size, model.json says picture_step" in fault(stepped, opened)


class Wrong(OnnxRuntimeEngine):
    """Gives kinds that it hasn't, or hears what can't be."""

    kind: float = 0.0
    hears: float | None = None

    def embed(self, samples: np.ndarray) -> np.ndarray:
        return super().embed(samples) if self.hears is None else np.full(3, self.hears, np.float32)

    def localize_kinds(self, picture: np.ndarray, heard: np.ndarray) -> tuple:
        map_, kinds = super().localize_kinds(picture, heard)
        return map_, kinds + np.int32(self.kind)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"kind": 3}, "colours: gives kinds that it hasn't"),
        ({"kind": -1}, "colours: gives kinds that it hasn't"),
        ({"hears": np.nan}, "colours: hears with values outside 0..1"),
        ({"hears": 40.0}, "colours: hears with values outside 0..1"),
    ],
)
def test_what_comes_out_is_looked_at(bundle: Bundle, values: dict[str, float], says: str) -> None:
    engine = Wrong(bundle)
    vars(engine).update(values)
    with pytest.raises(UserError, match=says):
        # As it is asked from a stream; `for_pictures` copies what was changed here, too.
        said(engine, *TWO, heard=(RED,))
