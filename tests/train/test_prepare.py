"""Photographs and recordings made ready: things found, splits kept apart, scenes that are true."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")
pytest.importorskip("cv2", reason="finding things in photographs needs OpenCV and its libGL")

import torch

from avsl.demos.scenes import RATE, boxes, make_scene
from avsl.demos.scenes.cutouts import load_cutouts, picture
from avsl.demos.scenes.photos import extent
from avsl.engines import UserError
from avsl.train.data.dataset import write_jpeg, write_wav
from avsl.train.data.pool import Pool, kind_names, render_still
from avsl.train.data.prepare import MADE, SHARES, _split, head_mask, prepare, thing_mask
from avsl.train.data.views import Geometry
from avsl.train.methods.kinds import crossed_loss, directions
from avsl.train.methods.objectives import pixel_loss
from avsl.train.recipe import Recipe, casts_of

torch.set_num_threads(1)

COLOURS = {"bell": (220, 180, 30), "horn": (200, 40, 40), "cup": (40, 60, 210)}
PITCHES = {"bell": 2000.0, "horn": 300.0}


def photograph(seed: int, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A coloured ellipse in a grey, grainy room, and where it is."""
    rng = np.random.default_rng(seed)
    h, w = 120, 180
    y, x = np.mgrid[:h, :w]
    cx, cy = w * rng.uniform(0.45, 0.55), h * rng.uniform(0.45, 0.55)
    inside = ((x - cx) / (w * 0.3)) ** 2 + ((y - cy) / (h * 0.33)) ** 2 < 1
    room = 110 + 40 * x / w + rng.normal(0, 6, (h, w))
    rgb = np.repeat(room[..., None], 3, 2)
    rgb[inside] = np.array(colour) + rng.normal(0, 8, (int(inside.sum()), 3))
    return rgb.clip(0, 255).astype(np.uint8), inside


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("material")
    for kind, colour in COLOURS.items():
        name = kind if kind in PITCHES else "_silent"
        (folder / "pictures" / name).mkdir(parents=True)
        for i in range(9):
            rgb, _ = photograph(i + 100 * len(kind), colour)
            write_jpeg(folder / "pictures" / name / f"{kind}_image_{i:04d}.jpg", rgb)
    (folder / "pictures" / "_background").mkdir()
    for i in range(6):
        room = np.full((90, 160, 3), 60 + 20 * i, np.uint8)
        write_jpeg(folder / "pictures" / "_background" / f"image_{i:04d}.jpg", room)
    t = np.arange(RATE) / RATE
    for kind, pitch in PITCHES.items():
        (folder / "sounds" / kind).mkdir(parents=True)
        for i in range(9):
            wave = 0.5 * np.sin(2 * np.pi * pitch * (1 + 0.002 * i) * t)
            write_wav(folder / "sounds" / kind / f"001-x-{i // 2}-{'AB'[i % 2]}.wav", wave, RATE)
    (folder / "sounds" / "_offscreen").mkdir()
    rng = np.random.default_rng(0)
    for i in range(6):
        hiss = rng.normal(0, 0.2, RATE).astype(np.float32)
        write_wav(folder / "sounds" / "_offscreen" / f"rain-{i}.wav", hiss, RATE)
    (folder / "ATTRIBUTION.md").write_text("# Whose\n\nEverything: nobody's.\n", "utf-8")
    return folder


@pytest.fixture(scope="module")
def prepared(material: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "prepared"
    counts, left_out = prepare(material, out)
    assert left_out == []
    assert sum(counts.values()) == 3 * 9 + 6 + 2 * 9 + 6
    return out


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_the_thing_in_the_middle_is_found() -> None:
    for seed in range(4):
        rgb, inside = photograph(seed, COLOURS["horn"])
        assert overlap(thing_mask(rgb) > 127, inside) > 0.9


def test_where_nothing_stands_out_most_of_the_photograph_is_the_thing() -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (100, 150, 3), np.uint8)
    assert 0.5 < (thing_mask(rgb) > 127).mean() < 0.95


def test_a_head_is_found_by_its_crop() -> None:
    rng = np.random.default_rng(3)
    room = rng.integers(0, 255, (200, 300, 3), np.uint8)
    mask = head_mask(room, room[40:160, 130:230].copy()) > 127
    x0, y0, x1, y1 = extent(np.dstack([room, 255 * mask.astype(np.uint8)]))
    assert 130 < x0 < 155 and 205 < x1 < 230
    assert 40 <= y0 < 60 and 140 < y1 <= 160


def test_splits_share_nothing_that_belongs_together(prepared: Path) -> None:
    recordings = {
        split: {p.stem[:-2] for p in (prepared / split / "horn").glob("*.wav")} for split in SHARES
    }
    pictures = {split: {p.name for p in (prepared / split).rglob("*.png")} for split in SHARES}
    for found in (recordings, pictures):
        assert all(found.values()), "each split has some"
        one, two, three = found.values()
        assert not (one & two or one & three or two & three)


def test_speakers_and_both_series_of_a_photograph_stay_together() -> None:
    names = [f"Faces{easy}_image_{i:04d}.jpg" for i in range(1, 436) for easy in ("", "_easy")]
    names += [f"a-librispeech-b-{s}-{s}-{k}.ogg" for s in range(40) for k in range(3)]
    split = {path.name: which for which, path in _split([Path(name) for name in names])}
    for i in range(1, 436):
        assert split[f"Faces_image_{i:04d}.jpg"] == split[f"Faces_easy_image_{i:04d}.jpg"]
    assert len({split[f"Faces_image_{i:04d}.jpg"] for i in range(22, 42)}) == 1, "one person"
    for s in range(40):
        assert len({split[f"a-librispeech-b-{s}-{s}-{k}.ogg"] for k in range(3)}) == 1
    assert set(split.values()) == set(SHARES)


def test_scenes_show_and_mark_what_they_name(prepared: Path) -> None:
    cast = casts_of(prepared).train
    assert [f.name for f in cast.families] == ["bell", "horn"]
    assert kind_names(cast) == ["bell", "horn", "cup"]
    hosts, right = 0, []
    for index in range(30):
        scene = make_scene(3, index, kind="one", cast=cast)
        picture_, masks = scene.render(0, 180, 320)
        hosts += scene.background is not cast.background
        for thing, mask in zip(scene.things, masks, strict=True):
            inside = picture_[mask > 0.9].astype(float)
            if len(inside) > 100:  # in any light, unless it is grey, bell is yellow and horn red
                r, g, b = inside.mean(0) / inside.mean()
                if max(r, g, b) - min(r, g, b) > 0.3:
                    right.append((g > 0.8) == (thing.family == "bell"))
    assert 3 < hosts < 25
    assert len(right) > 15 and np.mean(right) > 0.9


def test_the_thing_of_a_host_is_where_its_box_says(prepared: Path) -> None:
    cast = casts_of(prepared).train
    rng = np.random.default_rng(0)
    hosts = [h for h in (cast.host(rng, 16 / 9) for _ in range(40)) if h]  # type: ignore[misc]
    assert len(hosts) > 5
    for host in hosts:
        canvas = host.place(rng, 90, 160, 16 / 9).copy()
        before = canvas.copy()
        cover, where = host.paint(canvas, 0.5, 0.3, 0.4, (160.0, 160.0))
        assert np.array_equal(canvas, before), "it is in the photograph already"
        mask = np.zeros((1, 90, 160), np.float32)
        mask[(0, *where)] = cover
        assert np.allclose(boxes(mask)[0], host.box, atol=0.04)


def test_kinds_of_cells_are_those_of_the_things(prepared: Path) -> None:
    cast = casts_of(prepared).train
    names = kind_names(cast)
    shown = set()
    for index in range(12):
        _, found, families, kinds = render_still(4, (64, 64), (8, 8), cast, index)
        shown |= set(np.unique(kinds).tolist())
        for box, family in zip(found, families, strict=True):
            x0, y0, x1, y1 = (int(v * 8 + 0.5) for v in box)
            if family >= 0 and (x1 - x0) * (y1 - y0) >= 12:
                part = kinds[y0:y1, x0:x1]
                hidden = ~np.isin(part, [family, len(names)])
                assert (part == family).mean() > 0.3 or hidden.mean() > 0.3
    assert shown == {0, 1, 2, 3}, "bell, horn, cup, and the place"


def test_labels_follow_the_view() -> None:
    labels = torch.arange(64).view(1, 8, 8)
    flipped = Geometry(torch.tensor([[-1.0, 1.0]]), torch.zeros(1, 2)).labels(labels)
    assert torch.equal(flipped, labels.flip(2))


def test_directions_are_at_right_angles() -> None:
    d = directions(30, 64)
    assert torch.allclose(d @ d.T, torch.eye(30), atol=1e-5)


def test_every_picture_is_heard_with_every_sound() -> None:
    torch.manual_seed(0)
    logits = torch.randn(3, 3, 4, 4)
    shown = torch.randint(0, 4, (3, 4, 4))  # bell, horn, cup (which never sounds), the place
    heard = torch.tensor([[1.0, 0.0, 0.0], [0.5, 0.5, 0.0], [0.0, 0.0, 1.0]])
    recipe = Recipe(pixel_weight=3.0)
    names = [{0}, {0, 1}, set()]
    losses = []
    for b in range(3):
        for c in range(3):
            target = sum((shown[b] == name).float() for name in names[c]) + torch.zeros(4, 4)
            one = (logits[b, c][None], target[None], torch.ones(1, 4, 4))
            losses.append(pixel_loss(*one, recipe.positive_weight, recipe.peak_weight))
    expected = 3.0 * torch.cat(losses).mean()
    assert torch.allclose(crossed_loss(logits, shown, heard, recipe), expected)


def test_voices_are_played_at_other_speeds_where_asked() -> None:
    def pitches(pool: Pool) -> np.ndarray:
        tone = 20_000 * np.sin(2 * np.pi * 1000 * np.arange(pool.clips.shape[2]) / RATE)
        pool.clips[:] = tone.astype(np.int16)
        rng = np.random.default_rng(1)
        windows = [pool._voice(rng, 0) for _ in range(60)]
        assert all(len(window) == RATE for window in windows)
        return np.array([np.argmax(np.abs(np.fft.rfft(window))) for window in windows])

    assert set(pitches(Pool(1, 1, 2, (32, 32)))) == {1000}
    spread = np.log(pitches(Pool(1, 1, 2, (32, 32), speeds=0.25)) / 1000)
    assert 0.18 < spread.std() < 0.32 and abs(spread.mean()) < 0.12


def test_machines_with_few_recordings_are_given_made_ones(material: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(material, tmp_path / "copy"))
    for what in ("pictures", "sounds"):
        (copy / what / "horn").rename(copy / what / "phone")
    prepare(copy, tmp_path / "out")
    made = {split: list((tmp_path / "out" / split).rglob("made-*")) for split in SHARES}
    assert {path.parent.name for path in made["train"]} == {"phone"}
    assert len(made["train"]) == MADE and not made["validation"] and not made["test"]
    assert "made by avsl itself: sounds of phone" in (tmp_path / "out/ATTRIBUTION.md").read_text()
    assert load_cutouts(tmp_path / "out" / "train").families


def test_a_training_on_them_learns_and_names_its_sources(prepared: Path, tmp_path: Path) -> None:
    settings = [
        f'cutouts = "{prepared}"',
        *('sounds = ["log-mel"]', 'picture = "medium"', "size = 64", "width = 8"),
        *("labelled = 100", "unlabelled = 0", "labelled_batch = 24", "unlabelled_batch = 0"),
        *("kinds_steps = 40", "warm_up_steps = 0", "steps = 12", "lr_warm_up = 5", "ema = 0.9"),
        *("voices = 20", "validation = 12", "held_out = 16", "workers = 0"),
        *("contrastive_weight = 0.0", "validate_every = 20", 'precision = "fp32"'),
    ]
    recipe = tmp_path / "recipe.toml"
    recipe.write_text("\n".join(settings), "utf-8")
    command = [sys.executable, "-m", "avsl.train.cli", "fit", str(recipe), "--run", "run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    kinds = [line for line in lines if line["stage"] == "kinds"]
    assert kinds[-1]["sounds_right"] > 0.5, "two pitches and a hiss"
    assert kinds[-1]["cells_right"] > kinds[0]["cells_right"] + 0.1
    engine = tmp_path / "run" / "engine"
    card = (engine / "README.md").read_text("utf-8")
    assert "## Whose" in card and "nobody's" in card
    assert str(prepared.parent) not in card + (engine / "model.json").read_text("utf-8")
    scores = json.loads((engine / "model.json").read_text("utf-8"))["scores"]
    assert set(scores["kinds"]) == {"bell", "horn"}
    rows = {"engine", "shuffled sound", "image only", "centre disc", "most motion"}
    assert rows <= set(scores["table"])
    # And another goes on from its picture encoder, with kinds alone.
    further = ["--set", "start=run", "--set", "start_with=picture", "--set", "steps=0"]
    further += ["--set", "kinds_steps=4", "--set", "labelled=30"]
    command = [*command[:-1], "further", *further]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "further" / "engine" / "picture.onnx").exists()


def test_faults_are_one_line(material: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        prepare(tmp_path, tmp_path / "out")
    spoilt = tmp_path / "spoilt"
    spoilt.mkdir()
    for name in ("pictures", "sounds"):
        (spoilt / name).symlink_to(material / name)
    (tmp_path / "out").mkdir()
    with pytest.raises(UserError, match="exists already"):
        prepare(spoilt, tmp_path / "out")


def test_a_damaged_file_is_left_out_and_said(material: Path, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(material, tmp_path / "copy"))
    (copy / "pictures" / "bell" / "bell_image_0000.jpg").write_bytes(b"nonsense")
    (copy / "sounds" / "horn" / "001-x-0-A.wav").write_bytes(b"")
    _, left_out = prepare(copy, tmp_path / "out")
    assert len(left_out) == 2
    assert {line.split(": ")[0] for line in left_out} == {
        str(copy / "pictures" / "bell" / "bell_image_0000.jpg"),
        str(copy / "sounds" / "horn" / "001-x-0-A.wav"),
    }
    assert load_cutouts(tmp_path / "out" / "train").families
    photo = next((tmp_path / "out" / "train" / "bell").glob("*.png"))
    assert 0.1 < (picture(photo)[..., 3] > 127).mean() < 0.6
