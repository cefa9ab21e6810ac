"""The engine that ships, on photographs and recordings: it listens. Needs the material that it was
trained on, which is not part of the repository."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason="composing scenes needs the extra: pip install '.[train]'")
pytest.importorskip("cv2", reason="finding things in photographs needs OpenCV and its libGL")

from avsl.demos.scenes import with_sound_of
from avsl.demos.scenes.cutouts import load_cutouts
from avsl.engines import DEFAULT, open_engine
from avsl.train.data.prepare import prepare
from avsl.train.scoring.evaluate import Fitting, hear, stills
from avsl.train.scoring.metrics import in_box, map_peak

MATERIAL = Path(__file__).parents[2] / "shared" / "data" / "real"
pytestmark = pytest.mark.skipif(not MATERIAL.is_dir(), reason="the photographs aren't here")
KINDS = {"person": "person-speech", "dog": "dog", "piano": "piano"}


def test_it_finds_what_is_heard_and_follows_when_that_changes(tmp_path: Path) -> None:
    some = tmp_path / "some"
    names = [*((f"pictures/{p}", f"sounds/{s}") for p, s in KINDS.items())]
    names += [("pictures/_background", "sounds/_offscreen")]
    for folder in (name for pair in names for name in pair):
        (some / folder).mkdir(parents=True)
        files = sorted((MATERIAL / folder).iterdir())
        for path in files[:: max(1, len(files) // 15)]:
            shutil.copyfile(path, some / folder / path.name)
    prepare(some, tmp_path / "prepared")
    cast = load_cutouts(tmp_path / "prepared" / "train")
    engine = open_engine(DEFAULT)
    found, moved, stayed, dark = [], [], [], []
    for still in stills(5, 60, Fitting(engine), cast=cast, kind="one"):
        if len(still.boxes) < 2:
            continue
        (who,) = still.scene.sounding(0)
        other = (who + 1) % len(still.boxes)
        own = hear(engine, still.picture, still.samples)
        swapped = hear(engine, still.picture, with_sound_of(still.scene, other).sound(-1, 1))
        found.append(in_box(*map_peak(own.map), still.boxes[who]))
        moved.append(in_box(*map_peak(swapped.map), still.boxes[other]))
        stayed.append(in_box(*map_peak(swapped.map), still.boxes[who]))
        hush = hear(engine, still.picture, np.zeros_like(still.samples))
        dark.append(hush.state == "silent" and not hush.peaks)
    assert len(found) > 30
    said = f"found {np.mean(found):.2f}, moved {np.mean(moved):.2f}, stayed {np.mean(stayed):.2f}"
    print(f"{said} of {len(found)}")
    right = np.mean(found + moved)
    assert right > 0.5
    assert np.mean(stayed) < 0.5 * right, "another's sound leaves the peak where it was"
    assert all(dark)
