"""Bundles that know things by name: every backend gives what torch gives, and listens; a picture
keeps its shape; a bundle that lies is one line."""

from __future__ import annotations

import importlib.util
import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the networks are made by torch: '.[train]'")
torch.set_num_threads(1)  # beside others on two cores, threads spin for minutes

from kinds_networks import (  # noqa: E402
    BLUE,
    GREEN,
    KINDS,
    NOMINAL,
    OPENED,
    RED,
    TWO,
    Hears,
    Sees,
    kinds_bundle,
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
    open_engine,
)
from avsl.engines.backends.onnxruntime import OnnxRuntimeEngine  # noqa: E402
from avsl.engines.both import BothEngine  # noqa: E402
from avsl.engines.bundle import DRAWN  # noqa: E402
from avsl.realtime import event  # noqa: E402

SHAPES = {
    "16:9": ((1080, 1920), (128, 224)),
    "4:3": ((480, 640), (128, 160)),
    "portrait": ((1920, 1080), (224, 128)),
    "square": ((500, 500), (160, 160)),
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return kinds_bundle(tmp_path_factory.mktemp("bundle") / "engine")


@pytest.fixture(scope="module", params=OPENED)
def backend(request: pytest.FixtureRequest, bundle: Bundle) -> tuple[float, NetworkEngine]:
    """How far its maps may be from torch's own, and a backend."""
    name = request.param.split()[0]
    if importlib.util.find_spec(name) is None:
        pytest.skip(f"{name} is not installed")
    return 0.05 if "bf16" in request.param else 5e-3, OPENED[request.param](bundle)


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
