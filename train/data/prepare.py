"""Photographs and recordings made ready to compose scenes of: each thing marked by alpha, and all
of it split into training, validation and test.

FROM/pictures/KIND/*.jpg    photographs of a kind, the thing near the middle
FROM/pictures/_silent/      things that make no sound; NAME_123.jpg is of the kind NAME
FROM/pictures/_background/  places without any of them
FROM/sounds/KIND/*.ogg      recordings; KIND-more/ is of the same kind
FROM/sounds/_offscreen/     sounds of what is never in view
FROM/ATTRIBUTION.md         whose they are; goes into the model cards of what is trained on them

Tables (tab-separated) may say more: FOLDERS.tsv in pictures/ and sounds/ which `kind` a `folder` is
of, where it is called otherwise, and which files of `_silent` (`_silent/cup_*`) are of a kind after
all, and so left out; FILES.tsv in sounds/ which `item` a `file` belongs to; OFFSCREEN-KINDS.tsv
which `kind` a `file` of `_offscreen` is of.

Each of OUT/train, OUT/validation and OUT/test is a folder of cut-outs (demos/scenes/cutouts.py). Of
machines with few recordings, OUT/train has sounds made by arithmetic (demos/scenes/machines.py).
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from bisect import bisect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl.demos.scenes import RATE
from avsl.demos.scenes.cutouts import BACKGROUNDS, PICTURES, PREPARED, STRANGERS, picture
from avsl.demos.scenes.machines import MAKES, machine
from avsl.demos.scenes.recordings import SOUNDS, sound
from avsl.engines import UserError
from avsl.train.data.dataset import write_wav
from avsl.train.data.folders import new_folder
from avsl.train.data.workers import in_parallel

ATTRIBUTION = "ATTRIBUTION.md"
SHARES = {"train": 0.7, "validation": 0.12, "test": 0.18}
FEW, MADE = 40, 24
"""A machine with fewer recordings to train on than `FEW` is given `MADE` made ones."""
SIDE = 320
"""Photographs are kept at no more than this many pixels a side."""
PEOPLE = (
    *(1, 22, 42, 47, 69, 90, 113, 133, 138, 159, 164, 169, 174, 194, 215, 240, 262, 267, 286),
    *(306, 326, 346, 366, 388, 389, 390, 391, 393, 398, 419),
)
"""Number of the first photograph of each person in Caltech-101's Faces, read off the pictures."""
TOGETHER = (
    r"librispeech.*?-(\d+)-",  # a speaker
    r"^\d{3}-.*-(\d+)-[A-Z]$",  # ESC-10: parts of one recording
    r"^notes-([a-g]b?\d)-",  # guitar: a note, however often it was played
    r"^Samples-alto-([a-g]b?\d)-",
    r"^Samples-([a-g]b?\d)-s-",
    r"^Samples-[A-Za-z]+-([A-G]#?b?\d)",
    r"^src-assets-audio-(\w+)-",  # one keyboard
    r"^(berklee-.*?\d*)[a-d]$",  # variants of one recording
)
"""Files whose names give the same word here must not be parted by a split."""
Mask = NDArray[np.uint8]
Item = tuple[str, Path, Path]
"""What is to be done with a file, the file, and where it goes."""


def prepare(
    source: Path, out: Path, *, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[dict[str, int], list[str]]:
    """Makes `out` of `source`, beside it first.

    Returns:
        How many files each split has, and a line for each file that was left out.

    Raises:
        UserError: `source` has not what it must, or `out` exists or can't be written.
    """
    wanted = [source / "pictures", source / "sounds"]
    for folder in wanted:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; see avsl-train prepare --help")
    with new_folder(out) as beside:
        items = _items(source, beside)
        if not items:
            raise UserError(f"{source}: no pictures and sounds of the same kind in it")
        for _, _, goal in items:
            goal.parent.mkdir(parents=True, exist_ok=True)
        if (source / ATTRIBUTION).exists():
            shutil.copyfile(source / ATTRIBUTION, beside / ATTRIBUTION)
        said = []
        for done, fault in enumerate(in_parallel(_make, items), 1):
            said += [fault] if fault else []
            progress(done, len(items))
        if made := _make_sounds(beside / "train"):
            with (beside / ATTRIBUTION).open("a", encoding="utf-8") as file:
                file.write(
                    f"\nBeside recordings, made by avsl itself: sounds of {', '.join(made)}.\n"
                )
        counts = {split: sum(1 for p in (beside / split).rglob("*.*")) for split in SHARES}
        (beside / PREPARED).write_text(json.dumps({"schema": 1, "files": counts}) + "\n", "utf-8")
    return counts, said


def _items(source: Path, out: Path) -> list[Item]:
    items: list[Item] = []
    kinds = _column(source / "pictures/FOLDERS.tsv", "folder", "kind")
    for folder in sorted(p for p in (source / "pictures").iterdir() if p.is_dir()):
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURES)
        for split, path in _split(files):
            if folder.name == "_background":
                items.append(("copy", path, out / split / BACKGROUNDS / path.name))
            elif folder.name == "_silent":
                if any(path.match(pattern) for pattern in kinds if pattern.endswith("*")):
                    continue
                kind = re.sub(r"[\W_]*(image)?[\W_]*\d*$", "", path.stem)
                goal = out / split / STRANGERS / kind / f"{path.stem}.png"
                items.append(("thing", path, goal))
            elif not folder.name.startswith("_"):
                kind = kinds.get(folder.name) or folder.name
                items.append(("thing", path, out / split / kind / f"{path.stem}.png"))
    sounds = source / "sounds"
    kinds = _column(sounds / "FOLDERS.tsv", "folder", "kind")
    moved = _column(sounds / "OFFSCREEN-KINDS.tsv", "file", "kind")
    together = _column(sounds / "FILES.tsv", "file", "item")
    for folder in sorted(p for p in sounds.iterdir() if p.is_dir()):
        usual = STRANGERS if folder.name == "_offscreen" else folder.name.split("-")[0]
        files = sorted(p for p in folder.iterdir() if p.suffix.lower() in SOUNDS)
        for split, path in _split(files, {p: together.get(_key(p), "") for p in files}):
            kind = moved.get(_key(path)) or kinds.get(folder.name) or usual
            name = path.name if folder.name == kind else f"{folder.name.strip('_')}-{path.name}"
            items.append(("sound", path, out / split / kind / name))
    return items


def _key(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _column(table: Path, key: str, value: str) -> dict[str, str]:
    """Two columns of a table, if it is there; empty values are left out.

    Raises:
        UserError: it is no such table.
    """
    if not table.is_file():
        return {}
    try:
        with table.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        return {row[key]: row[value] for row in rows if row[value]}
    except (KeyError, OSError, ValueError) as error:
        raise UserError(f"{table}: not a table with {key} and {value} ({error})") from None


def _make_sounds(train: Path) -> list[str]:
    """Adds made sounds to kinds of `MAKES` with few recordings; returns which."""
    few = []
    for kind in MAKES:
        recordings = [p for p in (train / kind).glob("*") if p.suffix.lower() in SOUNDS]
        if 0 < len(recordings) < FEW:
            few.append(kind)
            for number in range(MADE):
                write_wav(train / kind / f"made-{number:02d}.wav", machine(kind, number), RATE)
    return few


def _split(files: list[Path], together: dict[Path, str] | None = None) -> list[tuple[str, Path]]:
    """Each file with its split: what belongs together, as `together` or its name says, stays
    together, and each split gets something as soon as there are three groups."""
    groups: dict[str, list[Path]] = {}
    for path in files:
        groups.setdefault((together or {}).get(path) or _group(path), []).append(path)
    order = np.random.default_rng(0).permutation(sorted(groups)).tolist()
    edges = np.rint(np.cumsum(list(SHARES.values())) * len(order)).astype(int)
    if len(order) >= len(SHARES):
        edges = np.minimum(edges, len(order) - np.arange(len(SHARES))[::-1])
    found = []
    for at, name in enumerate(order):
        split = list(SHARES)[min(bisect(edges.tolist(), at), len(SHARES) - 1)]
        found += [(split, path) for path in groups[name]]
    return found


def _group(path: Path) -> str:
    if face := re.match(r"Faces(?:_easy)?_image_(\d+)", path.stem):
        return f"person {bisect(PEOPLE, int(face[1]))}"
    for pattern in TOGETHER:
        if match := re.search(pattern, path.stem):
            return match[1]
    return path.stem


def _make(item: Item) -> str:
    """Does one file; returns why it was left out, or nothing."""
    what, path, goal = item
    if not path.is_file():  # a pipe would be waited for
        return f"{path}: is no file"
    try:
        if what == "sound":
            sound(path)
        if what != "thing":
            shutil.copyfile(path, goal)
            return ""
        rgb = picture(path)[..., :3]
    except ValueError as error:
        return str(error)
    crop = path.with_name(path.name.replace("Faces_image", "Faces_easy_image"))
    if crop != path and crop.exists():
        mask = head_mask(rgb, picture(crop)[..., :3])
    else:
        mask = thing_mask(rgb, head="Faces_easy" in path.name)
    write_png(goal, np.dstack([rgb, mask]))
    return ""


def thing_mask(rgb: NDArray[np.uint8], head: bool = False) -> Mask:
    """Where the thing in the middle of a photograph is, 0 to 255 (GrabCut: Rother et al. 2004).
    Where that finds nothing likely, nearly all of the photograph; of a `head`, an ellipse."""
    cv2 = opencv()
    h, w = rgb.shape[:2]
    small = cv2.resize(rgb, (max(16, w // 2), max(16, h // 2)), interpolation=cv2.INTER_AREA)
    down, across = _from_middle(*small.shape[:2])
    round_ = np.hypot(across / 0.72, (down - 0.03) / 0.92) if head else np.hypot(across, down) / 1.2
    labels = np.full(small.shape[:2], cv2.GC_PR_BGD, np.uint8)
    inside = round_ < 1 if head else np.maximum(abs(down), abs(across)) < 0.86
    labels[inside] = cv2.GC_PR_FGD
    labels[np.hypot(down, across) < (0.4 if head else 0.12)] = cv2.GC_FGD
    labels[np.maximum(abs(down), abs(across)) > 0.95] = cv2.GC_BGD
    models = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(small, labels, None, *models, 4, cv2.GC_INIT_WITH_MASK)
    found = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    if head:
        found &= (round_ < 1.05).astype(np.uint8)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(found)
    areas = stats[:, cv2.CC_STAT_AREA]
    large = [i for i in range(1, count) if areas[i] > 0.15 * areas[1:].max()]
    found = cv2.morphologyEx(
        np.isin(parts, large).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)
    )
    rows, columns = np.flatnonzero(found.any(1)), np.flatnonzero(found.any(0))
    box = (rows[-1] - rows[0]) * (columns[-1] - columns[0]) / found.size if len(rows) else 0.0
    if not 0.1 < found.mean() < 0.85 or box < 0.25:
        # A superellipse: the thing fills its photograph, more or less.
        corners = (across / 0.92) ** 4 + (down / 0.85) ** 4
        found = ((round_ if head else corners) < 1).astype(np.uint8)
    mask = cv2.resize(255 * found, (w, h), interpolation=cv2.INTER_LINEAR)
    smooth: Mask = cv2.GaussianBlur(mask, (5, 5), 0)
    return smooth


def opencv() -> Any:
    """OpenCV on one thread, imported where it is needed."""
    import cv2  # needs libGL, which evaluating and fitting do without

    cv2.setNumThreads(1)  # there is a process for each core already
    return cv2


def head_mask(rgb: NDArray[np.uint8], crop: NDArray[np.uint8]) -> Mask:
    """Where the head of `crop` is in the photograph that it was cut from, as an ellipse."""
    cv2 = opencv()
    h, w = crop.shape[0], crop.shape[1]
    if h > rgb.shape[0] or w > rgb.shape[1]:
        return thing_mask(rgb)
    match = cv2.matchTemplate(rgb, crop, cv2.TM_CCOEFF_NORMED)
    _, _, _, (x, y) = cv2.minMaxLoc(match)
    mask = np.zeros(rgb.shape[:2], np.uint8)
    down, across = _from_middle(h, w)
    mask[y : y + h, x : x + w] = 255 * (np.hypot(across / 0.72, (down - 0.03) / 0.92) < 1)
    smooth: Mask = cv2.GaussianBlur(mask, (5, 5), 0)
    return smooth


def _from_middle(h: int, w: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far each pixel lies from the middle, down and across; 1 at the border."""
    down, across = np.mgrid[:h, :w]
    return (down + 0.5) / h * 2 - 1, (across + 0.5) / w * 2 - 1


def write_png(path: Path, rgba: NDArray[np.uint8]) -> None:
    """Writes `[h, w, 4]`, made smaller where it is over `SIDE`."""
    cv2 = opencv()
    h, w = rgba.shape[:2]
    scale = min(1.0, SIDE / max(h, w))
    size = max(1, round(w * scale)), max(1, round(h * scale))
    small = cv2.resize(rgba, size, interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".png", cv2.cvtColor(small, cv2.COLOR_RGBA2BGRA))
    assert done
    path.write_bytes(data.tobytes())
