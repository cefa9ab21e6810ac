"""Packs: they hold what they were made from, and say what can't be used before anything trains."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import wave
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from avsl.demos.scenes import BENCH, make_scene
from avsl.engines import Resizer, UserError
from avsl.train.data.clips import pack_clips
from avsl.train.data.dataset import write_jpeg, write_scenes, write_wav
from avsl.train.data.pack import Pack, open_pack, pack_scenes, to_int16
from avsl.train.data.workers import in_parallel

SIZE = (48, 64)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return pack_scenes(tmp_path_factory.mktemp("scenes") / "pack", 3, 40, SIZE, cast=BENCH)


def test_a_pack_of_scenes_is_the_scenes(packed: Pack, tmp_path: Path) -> None:
    assert len(packed) == 40
    assert (packed.size, packed.rate, packed.samples.shape) == (SIZE, 16_000, (40, 24_000))
    assert isinstance(packed.pictures, np.memmap)
    assert packed.known.all()
    for i in range(0, 40, 7):
        scene = make_scene(3, i, cast=BENCH)
        large, masks = scene.render(0, 96, 128)
        mean = large.reshape(48, 2, 64, 2, 3).mean((1, 3))
        assert packed.names[i] == f"s3_{i:06d}"
        assert packed.kinds[i] == scene.kind
        assert np.abs(packed.pictures[i] - mean).max() <= 0.5
        assert np.array_equal(packed.samples[i], to_int16(scene.sound(-1.5, 1.5)))
        boxes = packed.boxes[i][~np.isnan(packed.boxes[i, :, 0])]
        assert len(boxes) == sum(bool((masks[k] > 0.5).any()) for k in scene.sounding(0))
        for (x0, y0, x1, y1), k in zip(boxes, scene.sounding(0), strict=True):
            mask = masks[k] > 0.5
            assert mask[round(y0 * 96) : round(y1 * 96), round(x0 * 128) : round(x1 * 128)].sum()
            assert mask.sum() == mask[round(y0 * 96) : round(y1 * 96)].sum()
    again = pack_scenes(tmp_path / "again", 3, 12, SIZE, cast=BENCH)
    assert np.array_equal(again.pictures, packed.pictures[:12])
    assert np.array_equal(again.samples, packed.samples[:12])


def test_swapped_scenes_differ_in_sound_and_box_alone(packed: Pack, tmp_path: Path) -> None:
    swapped = pack_scenes(tmp_path / "swapped", 3, 40, SIZE, cast=BENCH, swapped=True)
    able = [
        packed.names[i]
        for i in range(40)
        if packed.kinds[i] == "one" and len(make_scene(3, i, cast=BENCH).things) > 1
    ]
    assert 5 < len(swapped) <= len(able)
    assert set(swapped.names) <= set(able)
    assert set(swapped.kinds) == {"one"}
    for i, name in enumerate(swapped.names):
        k = packed.names.index(name)
        assert np.array_equal(swapped.pictures[i], packed.pictures[k])
        assert not np.array_equal(swapped.samples[i], packed.samples[k])
        assert not np.array_equal(swapped.boxes[i, 0], packed.boxes[k, 0])
        assert np.isfinite(swapped.boxes[i, 0]).all()


def test_nothing_is_written_over_and_nothing_is_left_behind(tmp_path: Path) -> None:
    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_scenes(tmp_path / "pack", 1, 8, SIZE, progress=stop)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "pack").mkdir()
    with pytest.raises(UserError, match="exists already"):
        pack_scenes(tmp_path / "pack", 1, 8, SIZE)
    assert list(tmp_path.iterdir()) == [tmp_path / "pack"]


def _die(item: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_an_error_and_no_endless_wait() -> None:
    with pytest.raises(UserError, match="was killed"):
        list(in_parallel(_die, range(3)))


def _rewrite(name: str, change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        about = json.loads((folder / name).read_text())
        change(about)
        (folder / name).write_text(json.dumps(about))

    return damage


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda p: (p / "samples.npy").unlink(), "samples.npy: missing"),
        (lambda p: (p / "pack.json").write_text("{"), "damaged"),
        (lambda p: (p / "pack.json").write_text("[" * 100_000), "damaged"),
        (lambda p: (p / "known.npy").write_bytes(b""), "damaged"),
        (lambda p: (p / "boxes.npy").write_bytes(b"no array"), "damaged"),
        (lambda p: np.save(p / "known.npy", np.zeros(3)), "known.npy holds float64"),
        (lambda p: os.truncate(p / "pictures.npy", 5000), "damaged"),
        (_rewrite("pack.json", lambda d: d.pop("rate")), "no 'rate' in pack.json"),
        (_rewrite("pack.json", lambda d: d["names"].pop()), "count is not that of the names"),
        (_rewrite("pack.json", lambda d: d.update(count="2")), "damaged"),
        (_rewrite("pack.json", lambda d: d.update(size=[48, 60])), "pictures.npy holds uint8"),
        (_rewrite("pack.json", lambda d: d.update(schema=2)), "schema 2, not 1"),
    ],
)
def test_a_damaged_pack_is_refused(
    damage: Callable[[Path], object], says: str, tmp_path: Path
) -> None:
    folder = pack_scenes(tmp_path / "pack", 1, 2, SIZE).folder
    damage(folder)
    with pytest.raises(UserError, match=says):
        open_pack(folder)


def clip(root: Path, name: str, seconds: float = 2.0) -> None:
    """A grey picture and a ramp of samples 1, 2, 3 ..., which tells where a part is from."""
    (root / "frames").mkdir(parents=True, exist_ok=True)
    (root / "audio").mkdir(exist_ok=True)
    write_jpeg(root / "frames" / f"{name}.jpg", np.full((40, 60, 3), 90, np.uint8))
    ramp = np.arange(1, round(seconds * 16_000) + 1) / 32767
    write_wav(root / "audio" / f"{name}.wav", ramp.astype(np.float32), 16_000)


def write_boxes(root: Path, **boxes: object) -> None:
    entries = [{"file": name, "class": "x", "bbox": bbox} for name, bbox in boxes.items()]
    (root / "boxes.json").write_text(json.dumps(entries))


def test_written_scenes_come_back_from_their_folder(tmp_path: Path) -> None:
    write_scenes(tmp_path / "clips", 6, 5, height=120)
    told: list[tuple[int, int]] = []
    pack = pack_clips(
        tmp_path / "clips",
        tmp_path / "pack",
        SIZE,
        seconds=1.5,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(i, 6) for i in range(1, 7)]
    assert pack.names == [f"s5_{i:06d}" for i in range(6)]
    assert pack.kinds == [""] * 6
    assert pack.left_out == {}
    assert pack.known.all()
    entries = json.loads((tmp_path / "clips" / "boxes.json").read_text())
    for i, entry in enumerate(entries):
        scene = make_scene(5, i)
        assert np.array_equal(pack.samples[i], to_int16(scene.sound(-3, 3)[-24_000:]))
        with av.open(str(tmp_path / "clips" / "frames" / f"{pack.names[i]}.jpg")) as file:
            assert np.array_equal(pack.pictures[i], Resizer(SIZE)(next(file.decode(video=0))))
        rows = pack.boxes[i][~np.isnan(pack.boxes[i, :, 0])]
        assert np.allclose(rows, np.reshape(entry["bbox"], (-1, 4)))


@pytest.mark.parametrize(
    ("picture_at", "seconds", "parts"),
    [
        ("end", 2.0, [(8_001, 32_000)]),
        ("middle", 2.0, [(4_001, 28_000)]),
        ("end", 1.0, [(0, 0), (1, 16_000)]),
        ("middle", 0.4, [(1, 6_400), (1, 6_400), (1, 6_400), (1, 4_800)]),
    ],
)
def test_which_part_of_the_sound_is_kept(
    picture_at: Any, seconds: float, parts: list[tuple[int, int]], tmp_path: Path
) -> None:
    clip(tmp_path / "c", "a", seconds)
    pack = pack_clips(tmp_path / "c", tmp_path / "p", SIZE, seconds=1.5, picture_at=picture_at)
    expected = np.concatenate(
        [np.zeros(8_000) if last == 0 else np.arange(first, last + 1) for first, last in parts]
    )
    assert np.array_equal(pack.samples[0], expected)


def test_other_formats_rates_and_channels(tmp_path: Path) -> None:
    clip(tmp_path / "c", "a")
    (tmp_path / "c" / "audio" / "a.wav").unlink()
    wave_ = 0.5 * np.sin(2 * np.pi * 440 * np.arange(44_100 * 2) / 44_100)
    with av.open(str(tmp_path / "c" / "audio" / "a.mp3"), "w") as file:
        stream = file.add_stream("mp3", rate=44_100, layout="stereo")
        frame = av.AudioFrame.from_ndarray(
            np.stack([wave_, wave_]).astype(np.float32), format="fltp", layout="stereo"
        )
        frame.sample_rate = 44_100
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    samples = pack_clips(tmp_path / "c", tmp_path / "p", SIZE, seconds=1.5).samples[0]
    power = np.abs(np.fft.rfft(samples[4_000:20_000]))
    assert power.argmax() == 440
    assert 0.4 < np.abs(samples[4_000:20_000] / 32767).max() < 0.6


def test_boxes_are_known_where_they_are_told(tmp_path: Path) -> None:
    for name in "abc":
        clip(tmp_path / "c", name)
    write_boxes(tmp_path / "c", a=[[0.1, -0.005, 0.5, 1.004], [0, 0, 1, 1]], c=[])
    pack = pack_clips(tmp_path / "c", tmp_path / "p", SIZE, seconds=1.5)
    assert pack.known.tolist() == [True, False, True]
    assert np.allclose(pack.boxes[0], [[0.1, 0, 0.5, 1], [0, 0, 1, 1]])
    assert np.isnan(pack.boxes[1:]).all()


def _bomb(path: Path) -> None:
    """A PNG of 144 megapixels that says so in its head."""

    def part(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", 12_000, 12_000, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(12_001 * 12_000), 1)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", rows) + part(b"IEND", b"")
    )


def _wav(path: Path, seconds: float, rate: int) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 1, rate, 0, "NONE", ""))
        file.writeframes(bytes(round(seconds * rate)))


def _no_picture(root: Path) -> None:
    (root / "frames" / "x.jpg").unlink()


def _bombed(root: Path) -> None:
    _no_picture(root)
    _bomb(root / "frames" / "x.png")


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nok.wav\n#EXT-X-ENDLIST\n"

BAD: list[tuple[str, Callable[[Path], object], str]] = [
    ("no picture", _no_picture, "has no picture"),
    ("no sound", lambda p: (p / "audio" / "x.wav").unlink(), "has no sound"),
    ("a text", lambda p: (p / "frames" / "x.jpg").write_text("hello"), "picture that can't be"),
    ("empty", lambda p: (p / "frames" / "x.jpg").write_bytes(b""), "picture that can't be read"),
    (
        "cut off",
        lambda p: os.truncate(p / "frames" / "x.jpg", 100),
        "picture that can't be read",
    ),
    ("bomb", _bombed, "of over 100 megapixels"),
    ("two pictures", lambda p: (p / "frames" / "x.png").write_bytes(b"x"), "has 2 pictures"),
    ("two sounds", lambda p: (p / "audio" / "x.mp3").write_bytes(b"x"), "has 2 sounds"),
    ("noise", lambda p: (p / "audio" / "x.wav").write_bytes(b"x" * 99), "sound that can't be"),
    ("playlist", lambda p: (p / "audio" / "x.wav").write_bytes(PLAYLIST), "sound that can't"),
    ("no samples", lambda p: _wav(p / "audio" / "x.wav", 0, 8_000), "sound without samples"),
    ("too long", lambda p: _wav(p / "audio" / "x.wav", 601, 8_000), "sound of over 600 s"),
    ("slow", lambda p: _wav(p / "audio" / "x.wav", 2, 100), "sound of 100 samples a second"),
    ("empty box", lambda p: write_boxes(p, x=[[0.5, 0, 0.5, 1]]), r"empty box \[0.5, 0, 0.5, 1\]"),
    ("turned box", lambda p: write_boxes(p, x=[[0.1, 0.8, 0.5, 0.2]]), "has an empty box"),
    ("outside", lambda p: write_boxes(p, x=[[0, 0, 1, 1], [0, 0, 20, 1]]), r"outside 0\.\.1"),
    ("three", lambda p: write_boxes(p, x=[[0, 0, 1]]), "not four finite numbers"),
    ("words", lambda p: write_boxes(p, x=[[0, 0, 1, "1"]]), "not four finite numbers"),
    ("nan", lambda p: write_boxes(p, x=[[0, 0, 1, float("nan")]]), "not four finite numbers"),
    ("huge", lambda p: write_boxes(p, x=[[0, 0, 1, 10**400]]), "not four finite numbers"),
    ("many", lambda p: write_boxes(p, x=[[0, 0, 1, 1]] * 101), "has 101 boxes; 100 are the most"),
    (
        "twice",
        lambda p: (p / "boxes.json").write_text(json.dumps([{"file": "x", "bbox": []}] * 2)),
        "is in boxes.json twice",
    ),
]


@pytest.mark.parametrize(("spoil", "says"), [b[1:] for b in BAD], ids=[b[0] for b in BAD])
def test_a_bad_clip_is_found_and_can_be_left_out(
    spoil: Callable[[Path], object], says: str, tmp_path: Path
) -> None:
    for name in ("ok", "x", "yes"):
        clip(tmp_path / "c", name)
    spoil(tmp_path / "c")
    with pytest.raises(UserError, match=rf"1 of 3 clips can't be used: x .*{says}.*--skip-bad"):
        pack_clips(tmp_path / "c", tmp_path / "p", SIZE, seconds=1.5)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    pack = pack_clips(tmp_path / "c", tmp_path / "p", SIZE, seconds=1.5, skip_bad=True)
    assert pack.names == ["ok", "yes"]
    assert pack.left_out.keys() == {"x"}
    assert np.array_equal(pack.samples[0], pack.samples[1])


def test_all_bad_clips_are_counted_in_one_line(tmp_path: Path) -> None:
    for name in "abcdef":
        clip(tmp_path / "c", name)
    for name in "bcd":
        (tmp_path / "c" / "audio" / f"{name}.wav").write_bytes(b"x")
    write_boxes(tmp_path / "c", **{"e": [[0, 0, 0, 0]], "g\n\x1b": []})
    with pytest.raises(UserError) as told:
        pack_clips(tmp_path / "c", tmp_path / "p", SIZE, seconds=1.5)
    text = str(told.value)
    assert text.isprintable()
    assert "5 of 7 clips" in text
    assert text.count("can't be read") == 3, "the first three have their reasons"
    pack = pack_clips(tmp_path / "c", tmp_path / "p", SIZE, seconds=1.5, skip_bad=True)
    assert pack.names == ["a", "f"]
    assert list(pack.left_out) == ["b", "c", "d", "e", "g\n\x1b"]
    assert "no picture and no sound" in pack.left_out["g\n\x1b"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[", "not a JSON file"),
        ("[" * 100_000, "not a JSON file"),
        ("{}", "must be a list"),
        ('[{"file": "a", "bbox": []}, 3]', "entry 1: must be"),
        ('[{"file": 7, "bbox": []}]', "entry 0: must be"),
        ('[{"file": "a"}]', "entry 0: must be"),
        ('[{"file": "../a", "bbox": []}]', "entry 0: '../a' is not an id"),
        ('[{"file": "..", "bbox": []}]', "entry 0: '..' is not an id"),
        ('[{"file": "a\\\\b", "bbox": []}]', "is not an id"),
    ],
)
def test_a_list_of_boxes_that_is_none(text: str, says: str, tmp_path: Path) -> None:
    clip(tmp_path / "c", "a")
    (tmp_path / "c" / "boxes.json").write_text(text)
    with pytest.raises(UserError, match=says):
        pack_clips(tmp_path / "c", tmp_path / "p", SIZE, seconds=1.5, skip_bad=True)


def test_a_list_of_boxes_that_is_too_large(tmp_path: Path) -> None:
    clip(tmp_path / "c", "a")
    with (tmp_path / "c" / "boxes.json").open("wb") as file:
        file.truncate((512 << 20) + 1)
    with pytest.raises(UserError, match="over 512 MB"):
        pack_clips(tmp_path / "c", tmp_path / "p", SIZE, seconds=1.5)


def test_a_folder_without_clips(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"frames: can't be read .*audio/<id>.wav"):
        pack_clips(tmp_path, tmp_path / "p", SIZE, seconds=1.5)
    clip(tmp_path / "c", "a")
    (tmp_path / "c" / "audio" / "a.wav").write_bytes(b"")
    with pytest.raises(UserError, match=r"1 of 1 clips can't be used.*none is left"):
        pack_clips(tmp_path / "c", tmp_path / "p", SIZE, seconds=1.5, skip_bad=True)
    (tmp_path / "c" / "audio" / "a.wav").unlink()
    with pytest.raises(UserError, match=r"audio: holds no \.wav"):
        pack_clips(tmp_path / "c", tmp_path / "p", SIZE, seconds=1.5)
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_workers_free_nothing_of_their_parents() -> None:
    """swscale's threads don't survive a fork: a worker that frees a resizer waits for them."""
    script = """
import gc
import av
from avsl.engines import Resizer
from avsl.train.data.workers import in_parallel
resize = Resizer((64, 64))
resize(av.VideoFrame(1280, 720, "yuv420p"))
circle = [resize]
circle.append(circle)
gc.disable()
del resize, circle
list(in_parallel(gc.collect, [2, 2, 2, 2]))
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
