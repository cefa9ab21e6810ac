"""`avsl-train speakers` from its teachers to its table, on drawn faces that open their mouths with
a sound, with stand-ins for MediaPipe's networks and for small ones that have learnt for hours."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")
cv2 = pytest.importorskip("cv2", reason="pictures of faces need OpenCV and its libGL")
pytest.importorskip("ai_edge_litert", reason="teachers need the extra: pip install '.[teach]'")

from helpers import make_video  # noqa: E402

from avsl.engines.networks.faces import FacePoints, Heads  # noqa: E402
from avsl.engines.speakers.crop import Place  # noqa: E402
from avsl.engines.speakers.sight import Sight  # noqa: E402
from avsl.train.cli import main  # noqa: E402
from avsl.train.run import load_checkpoint  # noqa: E402
from avsl.train.speakers import making  # noqa: E402
from avsl.train.speakers.labels import Found, load_labels  # noqa: E402

POINTS = np.full((36, 3), 56, np.float32)
POINTS[:4, :2] = (30, 38), (42, 38), (70, 38), (82, 38)
POINTS[25:27, 1], POINTS[31, 1], POINTS[34:, 0] = 78, 104, (26, 86)
"""Of a drawn face in its crop."""
SECONDS = 3.2


def voice(person: int) -> Callable[[np.ndarray], np.ndarray]:
    """How loud somebody is, 0 to 1: syllables of all lengths."""
    rng = np.random.default_rng(person)
    level = np.interp(np.arange(400), np.cumsum(rng.uniform(2, 7, 200)), rng.random(200) ** 2)
    return lambda t: np.interp(t * 25, np.arange(400), level)


def drawn(opens: float, size: tuple[int, int] = (160, 120)) -> np.ndarray:
    """A face with its eyes 30 pixels apart, its mouth open by so much."""
    picture = np.full((size[1], size[0], 3), 20, np.uint8)
    cv2.ellipse(picture, (80, 64), (36, 48), 0, 0, 360, (220, 190, 170), -1)
    for x in (65, 95):
        cv2.ellipse(picture, (x, 50), (7, 4), 0, 0, 360, (60, 40, 40), -1)
    cv2.ellipse(picture, (80, 62), (3, 8), 0, 0, 360, (170, 140, 120), -1)
    cv2.ellipse(picture, (80, 80), (10, 1 + round(8 * opens)), 0, 0, 360, (40, 10, 10), -1)
    return picture


def place_in(grey: np.ndarray) -> Place | None:
    """Where the drawn face is: in the middle of what is bright."""
    y, x = np.nonzero(grey > 120)
    if len(x) < 40:
        return None
    wide = (x.max() - x.min() + 1) / 73
    return Place(float(x.min() + x.max()) / 2, float(y.min()) + 34 * wide, 30 * wide, 0.0)


def points_of(mouth: np.ndarray, pixel: float) -> np.ndarray:
    """In its crop, of a column of brightness through its mouth, of which each pixel is so many."""
    points = POINTS.copy()
    opens = pixel * float((mouth < 80).sum())
    points[[25, 26], 1] += -opens / 2, opens / 2
    return points


def teacher(rgb: np.ndarray) -> list[Found]:
    if not (place := place_in(rgb[..., 1])):
        return []
    y, k = round(place.y), place.eyes / 40
    mouth = rgb[y + round(22 * k) : y + round(62 * k), round(place.x), 1]
    return [Found(place, place.moved(points_of(mouth, 1 / k)), 0.95, 0.95)]


class Learnt(Sight):
    """Sees what the run's networks, which must be there, would see after hours."""

    def heads(self, luma: Any) -> list[tuple[Place, float]]:
        place = place_in(luma)
        return [(place, 0.9)] if place else []

    def points(self, crops: Any) -> tuple[np.ndarray, np.ndarray]:
        points = [points_of(crop[60:100, 56], 1.0) for crop in crops]
        return np.stack(points), np.full(len(crops), 3, np.float32)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos/ with a face and without, clips/ of eight persons, clips.tsv."""
    folder = tmp_path_factory.mktemp("material")
    (folder / "photos" / "none").mkdir(parents=True)
    (folder / "clips").mkdir()
    for i in range(14):
        picture = cv2.resize(drawn(i / 13), None, fx=1 + i / 13, fy=1 + i / 13)
        cv2.imwrite(str(folder / "photos" / f"{i}.png"), picture[..., ::-1])
    for i in range(4):
        place = np.random.default_rng(i).integers(0, 100, (9, 16, 3), np.uint8)
        cv2.imwrite(str(folder / "photos" / "none" / f"{i}.png"), cv2.resize(place, (160, 90)))
    lines = ["file\tperson\tspeaks\tset\tlicence_class\tsplit\tnote"]
    for i in range(8):
        speaks, split = i < 6, ("train", "fit", "test")[i % 3 if i < 6 else i - 5]
        loud = voice(i)
        make_video(
            folder / "clips" / f"{i}.mp4",
            seconds=SECONDS,
            paint=lambda n, w, h, loud=loud, speaks=speaks: drawn(loud(n / 25) if speaks else 0.1),
            waves=(lambda t, loud=loud: loud(t) * np.random.default_rng(0).normal(0, 0.2, len(t)),)
            if speaks
            else (),
        )
        said = "own" if speaks else "silent"
        web = "web" if split == "fit" else "open"
        lines.append(f"clips/{i}.mp4\tperson {i}\t{said}\tfilm\t{web}\t{split}\t")
    (folder / "clips.tsv").write_text("\n".join(lines) + "\n")
    return folder


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """`avsl-train speakers` in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["avsl-train", "speakers", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def asked(material: Path, out: Path) -> list[object]:
    return [
        *("--teachers", material, "--photos", material / "photos"),
        *("--clips", material / "clips.tsv", "--run", out, "--steps", 0.0008),
    ]


def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "find", lambda folder, teacher: folder)
    monkeypatch.setattr(making, "FacesAndMesh", lambda folder: teacher)
    monkeypatch.setattr(making, "Sight", Learnt)


def test_networks_come_of_photographs_and_clips(
    material: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.set_num_threads(1)
    stand_in(monkeypatch)
    out = tmp_path / "run"
    assert run(monkeypatch, *asked(material, out)) == 0
    said = capsys.readouterr().out.splitlines()
    assert float(said[0].split("teacher's ")[1].split(",")[0]) > 0.9
    assert said[1].startswith("heads: 1 of 1 found, 0 false")
    assert said[3].split() == ["over", "own", "dubbed", "late", "calm"]
    assert said[4].split()[:2] == ["1.5", "s"] and said[-1].startswith(f"{out / 'networks'}: ")
    made = {path.name: path.stat().st_size for path in (out / "networks").iterdir()}
    assert sorted(made) == ["heads.onnx", "lips.json", "points.onnx", "sync.onnx"]
    assert max(made.values()) < 2_000_000
    faces, pictures = load_labels(out / "faces.npz")
    assert {face.person for face in faces} == {"", "person 0", "person 3"}, (
        "none of web, none to measure on"
    )
    assert sum(not len(seen.heads) for seen in pictures) == 4

    # The graphs are the networks, of any number of faces, and of any size of picture.
    networks = {}
    for name, network in (("points", FacePoints()), ("heads", Heads())):
        tensors, _ = load_checkpoint(out / f"{name}.safetensors")
        network.load_state_dict({key: tensors[f"network.{key}"] for key in network.state_dict()})
        networks[name] = network.eval()
    sight = Sight(out / "networks")
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for count in (1, 3):
            crops = rng.uniform(0, 255, (count, 112, 112)).astype(np.float32)
            for ours, theirs in zip(
                sight.points(list(crops)), networks["points"](torch.from_numpy(crops)), strict=True
            ):
                assert ours == pytest.approx(theirs.numpy(), abs=1e-2)
        for size in ((64, 96), (448, 256)):
            picture = rng.uniform(0, 255, (1, *size)).astype(np.float32)
            (ours,) = sight._heads.run(None, {"picture": picture})
            assert ours == pytest.approx(
                networks["heads"](torch.from_numpy(picture)).numpy(), abs=1e-3
            )
            assert ours.shape == (1, 4, size[0] // 8, size[1] // 8)

    # What is there is not made again; lips.json always is.
    kept = {path: path.read_bytes() for path in (out / "networks").iterdir()}
    for name in ("label", "watch", "teach_points", "teach_heads", "teach_sync"):
        monkeypatch.setattr(making, name, None)
    (out / "networks" / "lips.json").unlink()
    assert run(monkeypatch, *asked(material, out)) == 0
    assert capsys.readouterr().out.splitlines() == said
    assert kept == {path: path.read_bytes() for path in kept}
    assert run(monkeypatch, *asked(material, out)[:-1], 1) == 2
    assert "begun with other settings" in capsys.readouterr().err


def changed(old: str, new: str) -> Callable[[Path], object]:
    return lambda table: table.write_text(table.read_text().replace(old, new))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (changed("licence_class", "licence"), "has no column 'licence_class'"),
        (changed("clips/3.mp4", "clips/none.mp4"), "none.mp4: can't be read as a film"),
        (changed("clips/3.mp4", "clips.tsv"), "clips.tsv: can't be read as a film"),
        (changed("silent\tfilm", "own\tfilm"), "6.mp4: is to speak, and has no sound"),
        (changed("own\tfilm", "sings\tfilm"), "line 2: a column is empty, or speaks"),
        (changed("fit", "fits"), "line 3: split is none of train, fit, test"),
        (changed("person 4", "person 3"), "line 6: person 3 is in two splits"),
        (changed("open\ttrain", "web\ttrain"), "line 2: of the class web nothing is learnt"),
        (changed("person 4", "person 1"), "fewer than two persons to fit on who speak"),
        (lambda table: table.write_text("file\tperson\n"), "no clips in it"),
        (lambda table: table.unlink(), "clips.tsv: can't be read"),
    ],
)
def test_a_table_that_is_wrong_is_one_line(
    change: Callable[[Path], object],
    says: str,
    material: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    stand_in(monkeypatch)
    for name in ("photos", "clips"):
        (tmp_path / name).symlink_to(material / name)
    (tmp_path / "clips.tsv").write_text((material / "clips.tsv").read_text())
    change(tmp_path / "clips.tsv")
    assert run(monkeypatch, *asked(tmp_path, tmp_path / "run")) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and says in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_what_is_missing_is_one_line(
    material: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, *asked(material, tmp_path / "run")) == 2
    error = capsys.readouterr().err
    assert "face_detection_short_range.tflite: not there; it comes from" in error
    stand_in(monkeypatch)
    none = [*asked(material, tmp_path / "run"), "--photos", tmp_path]
    assert run(monkeypatch, *none) == 2
    error += capsys.readouterr().err
    assert f"{tmp_path}: no photographs in it" in error
    people = [*asked(material, tmp_path / "run")]
    people[3] = material / "photos" / "none"
    assert run(monkeypatch, *people) == 2
    error += capsys.readouterr().err
    assert "the teachers see no face in any of them" in error and error.count("\n") == 3


def test_persons_without_a_split_are_dealt(material: Path, tmp_path: Path) -> None:
    """By name, never of two splits; who may not be learnt from is not trained on."""
    from avsl.train.speakers.table import _dealt

    def row(person: str, speaks: str, licence: str) -> dict[str, str]:
        return {"person": person, "speaks": speaks, "licence_class": licence}

    rows = [row(f"open {i}", "own", "open") for i in range(30)] * 2
    rows += [row(f"web {i}", "own", "web") for i in range(20)]
    rows += [row(f"still {i}", "silent", "open") for i in range(10)]
    rows += [row("open 3", "own", "web")]
    dealt = _dealt(rows)
    assert dealt == _dealt(rows[::-1]) and len(dealt) == 60 and dealt["open 3"] != "train"
    count = {
        (group, split): sum(p.startswith(group) and s == split for p, s in dealt.items())
        for group in ("open", "web", "still")
        for split in ("train", "fit", "test")
    }
    assert count["web", "train"] == count["still", "train"] == 0
    assert count["still", "fit"] == count["still", "test"] == 5
    assert 9 <= count["open", "train"] <= 10 and 9 <= count["open", "fit"] <= 12
