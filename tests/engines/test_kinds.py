"""Bundles that know things by name: every backend gives what torch gives, and listens; a picture
keeps its shape; a bundle that lies is one line."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the networks are made by torch: '.[train]'")
torch.set_num_threads(1)  # beside others on two cores, threads spin for minutes

from kinds_networks import KINDS, NOMINAL, Hears, Sees, kinds_bundle, picture, sound  # noqa: E402

from avsl.engines import (  # noqa: E402
    Bundle,
    Engine,
    Localization,
    Localizer,
    NetworkEngine,
    SoundTimeline,
    UserError,
    choose_engine,
    kinds_of,
    load_bundle,
    open_engine,
)
from avsl.engines.backends.onnxruntime import OnnxRuntimeEngine  # noqa: E402
from avsl.engines.both import BothEngine  # noqa: E402
from avsl.engines.bundle import DRAWN  # noqa: E402
from avsl.realtime import event  # noqa: E402

RED, GREEN, BLUE = range(3)
SHAPES = {
    "16:9": ((1080, 1920), (128, 224)),
    "4:3": ((480, 640), (128, 160)),
    "portrait": ((1920, 1080), (224, 128)),
    "square": ((500, 500), (160, 160)),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return kinds_bundle(tmp_path_factory.mktemp("bundle") / "engine")


def openvino(precision: str) -> Callable[[Bundle], NetworkEngine]:
    def opened(bundle: Bundle) -> NetworkEngine:
        from avsl.engines.backends.openvino import OpenVinoEngine

        if precision == "bf16" and OpenVinoEngine(bundle, 1).precision != "bf16":
            pytest.skip("this CPU has no instructions for bfloat16")
        return OpenVinoEngine(bundle, 1, precision)

    return opened


def torch_backend(bundle: Bundle) -> NetworkEngine:
    from avsl.engines.backends.torch import TorchEngine

    return TorchEngine(bundle, "cpu")


BACKENDS: dict[str, tuple[float, Callable[[Bundle], NetworkEngine]]] = {
    "onnxruntime": (5e-3, OnnxRuntimeEngine),
    "openvino f32": (5e-3, openvino("f32")),
    "openvino bf16": (0.05, openvino("bf16")),
    "torch": (5e-3, torch_backend),
}
"""How far from torch's own maps, and how it is opened."""


@pytest.fixture(scope="module", params=BACKENDS)
def backend(request: pytest.FixtureRequest, bundle: Bundle) -> tuple[float, NetworkEngine]:
    name = request.param.split()[0]
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    tolerance, opened = BACKENDS[request.param]
    return tolerance, opened(bundle)


def said(engine: Engine, *things: tuple[int, float, float], heard: tuple[int, ...]) -> Localization:
    """Of a picture with these things in it, in a fresh stream."""
    engine = engine.for_pictures(1080, 1920)
    timeline = SoundTimeline(16_000, 4)
    timeline.write(0, sound(*heard, seconds=2))
    return Localizer(engine)(1.9, picture(*engine.spec.picture_size, *things), timeline)


TWO = (RED, 0.25, 0.5), (BLUE, 0.75, 0.5)


@pytest.mark.parametrize("shape", SHAPES)
def test_every_backend_gives_torch_s_maps_in_every_shape(
    backend: tuple[float, NetworkEngine], shape: str
) -> None:
    tolerance, engine = backend
    given, wanted = SHAPES[shape]
    fitted = engine.for_pictures(*given)
    assert fitted.spec.picture_size == wanted
    assert fitted.spec.map_size == (wanted[0] // 16, wanted[1] // 16)
    seen = picture(*wanted, (RED, 0.2, 0.3), (GREEN, 0.8, 0.3), (BLUE, 0.5, 0.8))
    hears, sees = Hears().eval(), Sees().eval()
    for kinds in ((RED,), (BLUE,), (RED, GREEN), (RED, GREEN, BLUE), ()):
        with torch.no_grad():
            heard = hears(torch.from_numpy(sound(*kinds))[None])
            maps, carried = sees(torch.from_numpy(seen)[None], heard)
        ours = fitted.embed(sound(*kinds))
        assert np.abs(ours - heard[0].numpy()).max() < 0.02
        map_, kind = fitted.localize_kinds(seen, ours)
        assert (map_.dtype, kind.dtype) == (np.float32, np.int32)
        assert np.abs(map_ - maps[0].numpy()).max() < tolerance
        assert np.array_equal(map_, fitted.localize(seen, ours))
        lit = map_ > 0.3
        assert set(kind[lit].tolist()) == set(kinds)
        assert (kind[lit] == carried[0].numpy()[lit]).all()


def test_shapes_take_turns(backend: tuple[float, NetworkEngine]) -> None:
    """One engine is asked by many streams; what was given to one stays as it was."""
    engine = backend[1]
    fitted = [engine.for_pictures(*given) for given, _ in SHAPES.values()]
    heard = engine.embed(sound(RED))
    seen = [picture(*one.spec.picture_size, TWO[0]) for one in fitted]
    first = [one.localize(pixels, heard).copy() for one, pixels in zip(fitted, seen, strict=True)]
    again = [one.localize(pixels, heard) for one, pixels in zip(fitted, seen, strict=True)]
    assert all(map(np.array_equal, first, again))
    assert engine.spec.picture_size == NOMINAL


def test_the_map_follows_the_sound(backend: tuple[float, NetworkEngine]) -> None:
    engine = backend[1]
    for kind, x in ((RED, 0.25), (BLUE, 0.75)):
        found = said(engine, *TWO, heard=(kind,))
        assert (found.state, found.kinds) == ("sounding", (KINDS[kind],))
        assert abs(found.peaks[0][0] - x) < 0.1
        assert [word for word, _ in found.heard] == [KINDS[kind]]
        assert found.heard[0][1] > 0.9


def test_two_at_once_light_both(backend: tuple[float, NetworkEngine]) -> None:
    found = said(backend[1], *TWO, heard=(RED, BLUE))
    assert sorted(found.kinds) == [KINDS[BLUE], KINDS[RED]]
    assert {word for word, _ in found.heard} == {KINDS[BLUE], KINDS[RED]}
    at = dict(zip(found.kinds, found.peaks, strict=True))
    assert at[KINDS[RED]][0] < 0.5 < at[KINDS[BLUE]][0]


def test_what_touches_is_told_apart(backend: tuple[float, NetworkEngine]) -> None:
    found = said(backend[1], (RED, 0.4, 0.5), (BLUE, 0.6, 0.5), heard=(RED, BLUE))
    assert sorted(found.kinds) == [KINDS[BLUE], KINDS[RED]]
    left, right = sorted(found.boxes)
    assert left[2] == right[0], "they do touch"


@pytest.mark.parametrize(
    ("things", "heard", "names"),
    [
        (TWO, (3,), set()),  # a pitch that nobody knows
        (TWO, (GREEN,), {"green thing"}),  # heard, and not in view
        ((), (RED,), {"red thing"}),
    ],
)
def test_what_is_not_heard_or_not_in_view_stays_dark(
    backend: tuple[float, NetworkEngine],
    things: tuple[tuple[int, float, float], ...],
    heard: tuple[int, ...],
    names: set[str],
) -> None:
    found = said(backend[1], *things, heard=heard)
    assert (found.state, found.peaks, found.kinds) == ("unseen", (), ())
    assert {word for word, _ in found.heard} == names


def test_silence_is_silent(backend: tuple[float, NetworkEngine]) -> None:
    found = said(backend[1], *TWO, heard=())
    assert (found.state, found.kinds, found.heard) == ("silent", (), ())
    assert not found.map.any()


def test_at_torch_s_hands_batches_are_the_same(bundle: Bundle) -> None:
    engine = torch_backend(bundle).for_pictures(480, 640)
    size = engine.spec.picture_size
    seen = [picture(*size, TWO[0]), picture(*size, TWO[1]), picture(*size)]
    sounds = [sound(RED), sound(RED, BLUE), sound(BLUE)]
    heard = engine.embed_on(torch.from_numpy(np.stack(sounds)))
    maps, kinds = engine.localize_kinds_on(torch.from_numpy(np.stack(seen)), heard)
    for row, (pixels, samples) in enumerate(zip(seen, sounds, strict=True)):
        map_, kind = engine.localize_kinds(pixels, engine.embed(samples))
        assert np.allclose(map_, maps[row], atol=1e-5)
        assert np.array_equal(kind, kinds[row])


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


# With motion beside it


def test_with_motion_a_still_thing_has_its_name_and_a_strange_one_none(bundle: Bundle) -> None:
    """A grey square leaps with a sound that nobody knows; a red one lies still and hums."""
    engine = BothEngine(OnnxRuntimeEngine(bundle)).for_pictures(1080, 1920)
    assert engine.spec.kinds == KINDS
    tall, wide = engine.spec.picture_size
    timeline = SoundTimeline(16_000, 8)
    t = np.arange(6 * 16_000) / 16_000
    beats = (np.sin(2 * np.pi * (0.9 + 0.07 * t) * t) > 0.3).astype(np.float32)
    strange = 0.3 * np.sin(2 * np.pi * 4400 * t) * beats
    timeline.write(0, strange.astype(np.float32))
    localize, found = Localizer(engine), []
    for k in range(25, 140):
        pixels = picture(tall, wide, (RED, 0.2, 0.5))
        up = int(16 * beats[int(k / 25 * 16_000)])
        pixels[60 - up : 100 - up, 150:190] = (240, 240, 240)
        found.append(localize(k / 25, pixels, timeline))
    moving = [one for one in found if "motion" in one.evidence]
    assert len(moving) > 10
    for one in moving:
        assert set(one.kinds) == {""}
        assert len(one.kinds) == len(one.peaks) < 3, "one thing that moves is not many"
    assert said(engine, *TWO, heard=(RED,)).kinds == ("red thing",)


# What is written down


def test_an_event_says_what_is_what(bundle: Bundle) -> None:
    said_ = event(said(OnnxRuntimeEngine(bundle), *TWO, heard=(RED, BLUE)))
    assert len(said_["kinds"]) == len(said_["peaks"]) == len(said_["boxes"]) == 2
    assert {kind for kind, _ in said_["heard"]} == {"red thing", "blue thing"}
    json.dumps(said_)
    nothing = event(said(open_engine(DRAWN, "onnxruntime"), *TWO, heard=(RED,)))
    assert nothing["kinds"] == nothing["heard"] == []


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
    ({"picture_step": 0}, "picture_step must be at least 8"),
    ({"picture_step": 48}, "picture_step must be at least 8 and divide picture_size"),
    ({"picture_step": 32.0}, "picture_step must be a whole number"),
    ({"picture_step": 8}, "map_size must divide picture_size into cells that divide picture_step"),
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
