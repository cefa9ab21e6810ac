"""What the picture network of kinds is made of and taught: Lite0's layers in their order, scenes
with heads, calibration of heard with seen, and the engine that comes of it."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")
pytest.importorskip("cv2", reason="scenes with people need OpenCV and its libGL")

import cv2
import torch
from helpers import make_video

from avsl.engines import UserError, load_bundle
from avsl.engines.backends.onnxruntime import OnnxRuntimeEngine
from avsl.engines.networks.hearing import Hearing
from avsl.engines.networks.seeing import Lite0, Seeing, load_lite0, normalised
from avsl.train.data.dataset import write_wav
from avsl.train.teach import heads, see, trunk
from avsl.train.teach.calibrate import Evidence, calibrate_kinds, inside_of
from avsl.train.teach.kinds import families, load_kinds
from avsl.train.teach.moments import film_moments, halves
from avsl.train.teach.people import Crowd, Photo, person_mask, read_portraits
from avsl.train.teach.teach import (
    DARK,
    SPEC,
    Plan,
    balanced,
    hearing,
    teach_engine,
    write_engine,
)
from avsl.train.teach.teachers import find

KINDS = load_kinds()
NUMBER = {kind.key: k for k, kind in enumerate(KINDS)}
NONE = np.zeros((0, 5), np.float32)
NO_HEADS = torch.zeros(len(KINDS), 2), torch.zeros(len(KINDS), 1)


def seeing() -> Seeing:
    """A picture network with random weights, of three kinds: class 7 shows the first, heads the
    second, the head for things the first and the third."""
    torch.manual_seed(0)
    members, people_of, things_of = torch.zeros(3, 1000), torch.zeros(3, 2), torch.zeros(3, 2)
    members[0, 7] = people_of[1, 0] = things_of[0, 0] = things_of[2, 1] = 1
    return Seeing(members, people_of, things_of, torch.ones(3)).eval()


def test_published_weights_lie_in_the_same_order() -> None:
    torch.manual_seed(1)
    one, other = Lite0().eval(), Lite0().eval()
    flat = {f"_blocks.{i}": w for i, w in enumerate(one.state_dict().values())}
    flat[f"_blocks.{len(flat) - 2}"] = one.classes.weight[:, :, 0, 0]  # published as a linear layer
    load_lite0(other, flat)
    x = torch.randn(1, 3, 64, 96)
    assert torch.equal(one.logits(one(x)[1]), other.logits(other(x)[1]))
    with pytest.raises(ValueError, match="not the weights"):
        load_lite0(other, dict(list(flat.items())[:-1]))


def test_padding_is_tensorflows_same() -> None:
    """At stride 2 on even sizes one row less at the top and left: a first cell looks at rows 0 to 2
    with a kernel of 3, not at -1 to 1."""
    network = Lite0().eval()
    x = torch.zeros(1, 3, 64, 64, requires_grad=True)
    network.stem[0](x)[0, 0, 0, 0].backward()
    assert x.grad is not None
    assert sorted(set(x.grad[0, 0].nonzero()[:, 0].tolist())) == [0, 1, 2]


def test_a_kind_is_seen_where_its_classes_are() -> None:
    network = seeing()
    x = normalised(torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8))
    with torch.no_grad():
        z = network.evidence(x)[0]
        network.things.head[-1].bias.sub_(20)
        alone = network.evidence(x)[0]
        network.trunk.classes.bias[7] += 8.0
        more = network.evidence(x)[0]
    assert z.shape == (3, 4, 6)
    assert (more[0] > alone[0] + 2).all() and torch.equal(more[1], z[1])
    # A class or a head: whichever sees it better. What has only a head is what that says.
    assert (alone[0] <= z[0]).all() and (alone[2] < z[2] - 10).all()


def face(folder: Path, colour: tuple[int, int, int], name: str) -> np.ndarray:
    """A portrait: a round head over shoulders, on grey."""
    picture = np.full((200, 160, 3), 90, np.uint8)
    cv2.ellipse(picture, (80, 190), (70, 70), 0, 0, 360, (30, 30, 160), -1)
    cv2.ellipse(picture, (80, 75), (35, 45), 0, 0, 360, colour, -1)
    folder.mkdir(exist_ok=True)
    cv2.imwrite(str(folder / name), picture[..., ::-1])
    return picture


BOX = np.array([[45 / 160, 30 / 200, 115 / 160, 120 / 200, 0.95]], np.float32)


def crowd(tmp_path: Path, size: tuple[int, int] = (128, 224)) -> Crowd:
    face(tmp_path / "portraits", (240, 190, 160), "a.png")
    (tmp_path / "portraits" / "broken.jpg").write_bytes(b"no picture")
    portraits = read_portraits(tmp_path / "portraits", lambda picture: BOX)  # type: ignore[arg-type]
    assert len(portraits) == 1
    green = np.zeros((120, 200, 3), np.uint8)
    green[..., 1] = 150
    return Crowd([Photo(green, NONE)], portraits, size)


def test_a_person_is_cut_out(tmp_path: Path) -> None:
    picture = face(tmp_path, (240, 190, 160), "a.png")
    mask = person_mask(picture, BOX[0, :4] * np.array([160, 200, 160, 200], np.float32))
    truth = (picture != 90).any(2)
    assert (mask[truth] > 0.5).mean() > 0.9 and (mask[~truth] > 0.5).mean() < 0.1


def test_scenes_mark_the_heads_that_they_show(tmp_path: Path) -> None:
    some = crowd(tmp_path)
    right, heads = [], 0
    for i in range(60):
        picture, head, body, sure = some.scene(np.random.default_rng(i))
        again = some.scene(np.random.default_rng(i))[0]
        assert np.array_equal(picture, again), "a scene depends on its seed alone"
        assert picture.shape == (128, 224, 3) and head.shape == body.shape == sure.shape == (8, 14)
        small = cv2.resize(picture, (14, 8), interpolation=cv2.INTER_AREA).astype(float)
        skin = small[..., 0] - small[..., 1]  # heads are red before green, all else isn't
        if np.ptp(small.reshape(-1, 3).std(0)) > 1 and head.max() > 0.9:
            heads += 1
            right.append(skin[head > 0.9].mean() > skin[(head < 0.01) & (body < 0.01)].mean() + 5)
    assert heads > 20 and np.mean(right) > 0.9


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """What `avsl-train prepare` makes: red discs are dogs, blue squares are pianos."""
    rng = np.random.default_rng(0)
    for key, colour in (("dog", (0, 0, 220, 255)), ("piano", (220, 0, 0, 255))):
        folder = tmp_path / "prepared" / "train" / key
        folder.mkdir(parents=True)
        thing = np.zeros((90, 90, 4), np.uint8)
        if key == "dog":
            cv2.circle(thing, (45, 45), 44, colour, -1)
        else:
            thing[10:80] = colour
        cv2.imwrite(str(folder / "a.png"), thing)
        write_wav(folder / "a.wav", rng.standard_normal(16_000).astype(np.float32) / 9, 16_000)
    (tmp_path / "prepared" / "prepared.json").write_text("{}")
    return tmp_path / "prepared"


def test_scenes_mark_the_things_that_they_show(prepared: Path) -> None:
    scene = see.things_scenes(prepared, ["piano", "dog"], (128, 224), seed=1)
    right = []
    for i in range(16):
        picture, known = scene(i)
        assert picture.shape == (128, 224, 3) and known.shape == (2, 8, 14)
        cells = cv2.resize(picture, (14, 8), interpolation=cv2.INTER_AREA).astype(float)
        blue, red = cells[..., 2] - cells[..., 0], cells[..., 0] - cells[..., 2]
        for colour, cover in zip((blue, red), known, strict=True):
            if cover.max() > 0.9 and cover.min() < 0.1:
                right.append(colour[cover > 0.9].mean() > colour[cover < 0.1].mean() + 20)
    assert len(right) > 12 and np.mean(right) > 0.8, "some cameras show no colours"


def test_heads_are_learnt_and_kept(
    tmp_path: Path, prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    some = crowd(tmp_path)
    monkeypatch.setattr(see, "SIZE", some.size)
    monkeypatch.setattr(heads, "LR", 1e-2)
    monkeypatch.setattr(heads, "BATCH", 8)
    monkeypatch.setattr(trunk, "BATCH", 2)
    monkeypatch.setattr(trunk, "HELD_OUT", 2)
    monkeypatch.setattr(see, "Faces", lambda folder: None)
    monkeypatch.setattr(see, "read_portraits", lambda folder, faces: some.portraits)
    monkeypatch.setattr(see, "read_photos", lambda paths, faces: some.photos)
    monkeypatch.setattr(see, "_pictures", lambda prepared, seed: [])
    monkeypatch.setattr(see, "find", lambda folder, teacher: folder)
    monkeypatch.setattr(see.torch, "load", lambda path, **how: Lite0().state_dict())
    run = tmp_path / "run"
    run.mkdir()
    torch.manual_seed(0)
    network = see.seeing(KINDS, prepared, tmp_path)
    places = prepared, tmp_path, tmp_path, run
    see.teach_seeing(network, KINDS, *places, 1, 50)
    lines = [json.loads(line) for line in (run / "people.jsonl").read_text().splitlines()]
    assert lines[-1]["val"] < 0.7 * lines[0]["val"]
    scene = see.things_scenes(prepared, ["dog", "piano"], some.size, seed=1)
    inside = []
    for picture, known in map(scene, range(4, 16)):  # of those that it has learnt from
        with torch.no_grad():
            found = network.things(*network.trunk(normalised(torch.tensor(picture)[None])))
        for z, cover in zip(found[0].numpy(), known, strict=True):
            if cover.max() > 0.9 and cover.min() < 0.1:
                inside.append(z[cover > 0.9].mean() > z[cover < 0.1].mean())
    assert len(inside) > 8 and np.mean(inside) > 0.8
    fresh = see.seeing(KINDS, prepared, tmp_path)
    see.teach_seeing(fresh, KINDS, *places, 1, 50)
    x = normalised(torch.from_numpy(scene(0)[0])[None])
    with torch.no_grad():
        assert torch.equal(network.evidence(x), fresh.evidence(x)), "taken from the run"


def test_without_pictures_of_a_kind_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no pictures of kinds in train/"):
        see._shown(tmp_path, KINDS)


def test_the_trunk_learns_to_see_in_poor_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    network = seeing()
    rng = np.random.default_rng(0)
    pictures = [cv2.resize(rng.integers(0, 256, (5, 7, 3), np.uint8), (160, 120)) for _ in range(6)]
    for name, value in (("BATCH", 2), ("HELD_OUT", 4), ("CHECKPOINT_EVERY", 3), ("LR", 1e-3)):
        monkeypatch.setattr(trunk, name, value)
    before = copy.deepcopy(network.trunk.state_dict())
    trunk.teach_trunk(network, pictures, (64, 96), tmp_path, 9)
    vals = [json.loads(line)["val"] for line in (tmp_path / "trunk.jsonl").read_text().splitlines()]
    assert vals[-1] < vals[0]
    after = network.trunk.state_dict()
    assert all(torch.equal(before[k], after[k]) for k in before if k.startswith(("stem", "fine")))
    assert not torch.equal(before["classes.weight"], after["classes.weight"])

    # Stopped and taken up again, it ends the same.
    class Stopped(Exception):
        pass

    def stop(what: str, done: int, total: int) -> None:
        if done == 5:
            raise Stopped

    other = seeing()
    (tmp_path / "again").mkdir()
    with pytest.raises(Stopped):
        trunk.teach_trunk(other, pictures, (64, 96), tmp_path / "again", 9, progress=stop)
    other = seeing()
    trunk.teach_trunk(other, pictures, (64, 96), tmp_path / "again", 9)
    for name, value in after.items():
        assert torch.equal(value, other.trunk.state_dict()[name]), name


def test_calibration_lights_what_is_heard_and_seen() -> None:
    """Pianos stand left; when they are heard they are right, and a dog on the right is dark."""
    hears = hearing(Hearing(len(KINDS), len(families(KINDS)), 521), KINDS)
    members = torch.zeros(len(KINDS), 1000)
    sees = Seeing(members, *NO_HEADS, torch.ones(len(KINDS)))
    rng = np.random.default_rng(0)
    moments = []
    for i in range(12):
        heard = torch.full((len(KINDS), 3), -6.0)
        z = torch.full((len(KINDS), 2, 4), -8.0)
        z[NUMBER["piano"], :, :2] = float(rng.uniform(-1, 2))
        z[NUMBER["dog"], :, 2:] = float(rng.uniform(-1, 2))
        boxes = np.zeros((0, 4), np.float32)
        if i % 2:
            heard[NUMBER["piano"]] = torch.tensor([-2.0, -2.0, 2.0])
            boxes = np.array([[0, 0, 0.5, 1]], np.float32)
        inside = torch.from_numpy(inside_of(boxes, (2, 4)))
        moments.append(Evidence(heard, z, inside, True, 1.0))
    begun = hears.weights.detach().clone()
    calibrate_kinds(moments, KINDS, hears, sees)
    assert not torch.equal(begun, hears.weights)
    for one in moments:
        heard = (one.heard @ hears.weights + hears.bias).sigmoid()
        seen = (sees.gain[:, None, None] * one.z + sees.bias[:, None, None]).sigmoid()
        map_ = 1 - (1 - heard[:, None, None] * seen).prod(0)
        if one.inside.any():
            assert map_[one.inside].max() > 0.5 > map_[~one.inside].max()
        else:
            assert map_.max() < 0.5


def test_scenes_count_as_film_and_darkness_more() -> None:
    def seen(weight: float, inside: bool) -> Evidence:
        return Evidence(
            torch.zeros(1, 3), torch.zeros(1, 1, 1), torch.tensor([[inside]]), True, weight
        )

    scenes, film = [seen(1, True), seen(1, True), seen(1, False)], [seen(0.5, True)] * 12
    weights = [e.weight for e in balanced(scenes, film)]
    assert weights == [0.5] * 12 + [2.0, 2.0, 2.0 * DARK] and DARK > 1
    assert [e.weight for e in balanced(scenes, [])] == [1.0, 1.0, DARK]


def test_halves_share_no_film(tmp_path: Path) -> None:
    def clip(name: str, sources: list[str]) -> dict[str, object]:
        return {"file": name, "group": "dogs", "source": sources, "composed": len(sources) > 1}

    clips = [clip(f"{i}.mp4", [f"film {i}"]) for i in range(6)]
    clips.append(clip("both.mp4", ["film 0", "film 1"]))
    side = halves(clips)
    assert sorted(side.values()) == ["A"] * 3 + ["B"] * 3
    make_video(tmp_path / "0.mp4", size=(96, 64))
    at = {"t": 0.5, "state": "visible", "boxes": [[0, 0, 0.5, 1]], "confidence": "high"}
    clips = [clip("0.mp4", ["one"]) | {"moments": [at, at | {"confidence": "low"}]}]
    (tmp_path / "film.json").write_text(json.dumps(clips))
    (moment,) = film_moments(tmp_path, "A", SPEC)
    assert moment.picture.shape[:2] == SPEC.fitted(64, 96).picture_size
    assert np.abs(moment.samples).max() > 0 and moment.boxes.shape == (1, 4)
    assert film_moments(tmp_path, "B", SPEC) == []
    (tmp_path / "film.json").write_text("[{}]")
    with pytest.raises(UserError, match="not a list of film clips"):
        film_moments(tmp_path, "A", SPEC)


def test_what_is_missing_is_said_before_anything_long(tmp_path: Path) -> None:
    plan = Plan(tmp_path, tmp_path, tmp_path, None, 1, 50)
    with pytest.raises(UserError, match="not there; it comes from"):
        teach_engine(plan, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError):
        find(tmp_path, see.LITE0)


def test_the_engine_is_what_was_taught(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    hears = hearing(Hearing(len(KINDS), len(families(KINDS)), 521), KINDS)
    members = torch.zeros(len(KINDS), 1000)
    members[range(len(KINDS)), range(len(KINDS))] = 1
    sees = Seeing(members, *NO_HEADS, torch.ones(len(KINDS))).eval()
    with torch.no_grad():
        hears.weights.copy_(torch.tensor([0.5, 0.3, 0.2]))
        sees.bias.add_(3.0)
    write_engine(hears, sees, KINDS, tmp_path / "engine", {})
    engine = OnnxRuntimeEngine(load_bundle(tmp_path / "engine"))
    assert engine.spec.kinds == tuple(kind.words for kind in KINDS)
    rng = np.random.default_rng(0)
    samples = 0.1 * rng.standard_normal(16_000).astype(np.float32)
    heard = engine.embed(samples)
    with torch.no_grad():
        assert np.abs(hears(torch.from_numpy(samples)[None])[0].numpy() - heard).max() < 0.02
    for size in ((256, 448), (448, 256)):
        picture = rng.integers(0, 256, (*size, 3), np.uint8)
        map_, kinds = engine.for_pictures(*size).localize_kinds(picture, heard)
        with torch.no_grad():
            one, named = sees(torch.from_numpy(picture)[None], torch.from_numpy(heard)[None])
        assert map_.shape == (size[0] // 16, size[1] // 16)
        assert np.abs(one[0].numpy() - map_).max() < 0.03
        assert (named[0].numpy() == kinds).mean() > 0.9
