"""What the sound network of kinds is taught: the table of kinds, mixes, and the training itself,
with a stand-in for YAMNet, which nobody may ship (the real one is tried where `shared/` is)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")

import torch

from avsl.demos.scenes import RATE
from avsl.engines import UserError
from avsl.engines.networks.hearing import Hearing, Patch
from avsl.train.data.dataset import write_wav
from avsl.train.run import load_checkpoint, read_metrics
from avsl.train.teach import hear
from avsl.train.teach.kinds import TABLE, belongs, families, load_kinds, most
from avsl.train.teach.sounds import Mixer, Recording, read_recordings
from avsl.train.teach.teachers import PATCH, TEACHERS, YAMNET, YamNet, find, patch

TEACHERS_HERE = Path(__file__).parents[3] / "shared" / "teachers"
KINDS = load_kinds()
NUMBER = {kind.key: k for k, kind in enumerate(KINDS)}


def test_kinds_have_words_and_families() -> None:
    assert len({kind.words for kind in KINDS}) == len(KINDS) > 100
    within = belongs(KINDS)
    dog, animal, piano = (NUMBER[k] for k in ("dog", "animal", "piano"))
    assert within[dog, dog] and within[dog, animal] and not within[animal, dog]
    assert not within[piano, animal] and within[piano, NUMBER["instrument"]]
    scores = np.zeros(521, np.float32)
    scores[70], scores[67] = 0.8, 0.6  # Bark, Animal
    assert most(scores, tuple(k.own for k in KINDS))[dog] == pytest.approx(0.8)
    sets = families(KINDS)
    assert most(scores, sets)[sets.index(KINDS[dog].parents)] == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("dog\tdog\tanimal\t600 Bark\t\t", "there is no class 600"),
        ("dog\tdog\tanimal\tBark\t\t", "not a table of kinds"),
        ("dog\tdog\tanimal\t70 Bark\t\t1000 nothing", "there is no class 1000"),
        ("dog\tdog\tanimal\t70 Bark\t\t\ndog\tcur\tanimal\t70 Bark\t\t", "dog stands there twice"),
        ("dog\tdog\tanimal\t\t\t151 Chihuahua", "no kind in it that can be heard"),
        ("dog", "not a table of kinds"),
    ],
)
def test_a_table_that_is_wrong_is_one_line(tmp_path: Path, row: str, said: str) -> None:
    path = tmp_path / "kinds.tsv"
    path.write_text(TABLE.read_text("utf-8").partition("\n")[0] + f"\n{row}\n", "utf-8")
    with pytest.raises(UserError, match=said) as error:
        load_kinds(path)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_teacher_that_is_missing_or_another_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not there; it comes from"):
        find(tmp_path, YAMNET)
    (tmp_path / YAMNET.file).write_bytes(b"something else")
    with pytest.raises(UserError, match="sha256 differs"):
        find(tmp_path, YAMNET)


def test_the_graphs_front_is_the_teachers() -> None:
    samples = 0.1 * np.random.default_rng(0).standard_normal((2, RATE)).astype(np.float32)
    found = Patch()(torch.from_numpy(samples)).numpy()
    for one, wave in zip(found, samples, strict=True):
        heard = wave[-PATCH:]
        heard = heard * 10 ** (-22 / 20) / np.sqrt(np.square(heard).mean())
        assert np.abs(one - patch(heard)).max() < 1e-3
    # As loud as may be, and not louder: hiss must not be brought to the level of speech.
    quiet = torch.from_numpy(samples) * 1e-3
    assert Patch()(quiet).max() < Patch()(torch.from_numpy(samples)).max() - 2


@pytest.mark.skipif(not TEACHERS_HERE.is_dir(), reason="shared/teachers isn't here")
def test_the_real_yamnet_tells_a_whistle_from_silence() -> None:
    pytest.importorskip("ai_edge_litert", reason="YAMNet runs in ai-edge-litert")
    yamnet = YamNet(TEACHERS_HERE)
    t = np.arange(RATE) / RATE
    tone = (0.2 * np.sin(2 * np.pi * 1000 * t)).astype(np.float32)
    beep, quiet = yamnet(tone), yamnet(np.zeros(RATE, np.float32))
    assert beep.shape == (521,) and beep.min() >= 0 and beep.max() <= 1
    assert quiet.argmax() == 494  # Silence
    assert beep[494] < 0.1 < quiet[494]


def tones() -> list[Recording]:
    """Dogs at 300 Hz, pianos at 2 kHz, and hiss out of view."""
    t = np.arange(2 * RATE) / RATE
    rng = np.random.default_rng(0)
    found = []
    for k, pitch in ((NUMBER["dog"], 300), (NUMBER["piano"], 2000)):
        for i in range(3):
            wave = 0.5 * np.sin(2 * np.pi * pitch * (1 + 0.02 * i) * t)
            found.append(Recording(k, f"{k}-{i}", (wave * 32767).astype(np.int16)))
    hiss = (rng.standard_normal(2 * RATE) * 3000).astype(np.int16)
    return [*found, Recording(-1, "hiss", hiss)]


def test_mixes_are_as_told() -> None:
    mixer = Mixer(tones(), len(KINDS))
    counts, levels, noise = [], [], []
    for i in range(60):
        samples, clean, truth = mixer.mix(np.random.default_rng(i))
        again, _, _ = mixer.mix(np.random.default_rng(i))
        assert np.array_equal(samples, again), "a mix depends on its seed alone"
        assert samples.shape == clean.shape == (RATE,) and np.abs(samples).max() <= 1
        noise.append(np.square(samples - clean).mean() / np.square(samples).mean())
        spectrum = np.abs(np.fft.rfft(clean[-RATE // 4 :]))
        low, high = spectrum[50:100].max(), spectrum[350:650].max()
        only = [k for k in ("dog", "piano") if truth[NUMBER[k]]]
        if only == ["dog"]:
            counts.append(low > high)
        elif only == ["piano"]:
            counts.append(high > low)
        levels.append(20 * np.log10(np.sqrt(np.square(samples).mean()) + 1e-9))
    assert len(counts) > 20 and np.mean(counts) > 0.85
    assert max(levels) - min(levels) > 20, "loud and quiet ones"
    assert min(noise) < 0.01 and max(noise) > 0.5, "next to no noise, and mostly noise"


class Ear:
    """In YAMNet's place: a bark is what is low, a piano what is high."""

    def __init__(self, folder: Path) -> None:
        pass

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        spectrum = np.abs(np.fft.rfft(samples))
        low, high = spectrum[200:400].max(), spectrum[1500:2600].max()
        out = np.zeros(521, np.float32)
        out[[70, 67]] = low > high / 2  # Bark, Animal
        out[[148, 133]] = high > low / 2  # Piano, Musical instrument
        return out


@pytest.fixture
def taught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(hear, "YamNet", Ear)
    monkeypatch.setattr(hear, "find", lambda folder, teacher: folder)
    for name, value in (("BATCH", 8), ("VALIDATION", 16), ("CHECKPOINT_EVERY", 4)):
        monkeypatch.setattr(hear, name, value)
    monkeypatch.setattr(hear, "LOG_EVERY", 4)
    for recording in tones():
        key = "strangers" if recording.kind < 0 else KINDS[recording.kind].key
        for split in ("train", "validation"):
            folder = tmp_path / "prepared" / split / key
            folder.mkdir(parents=True, exist_ok=True)
            wave = recording.samples.astype(np.float32) / 32767
            write_wav(folder / f"{recording.name}.wav", wave, RATE)
    return tmp_path / "prepared"


def test_a_training_learns_and_goes_on_where_it_was_stopped(taught: Path, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    teach: Any = {"prepared": taught, "teachers": tmp_path, "kinds": KINDS}
    network = hear.teach_hearing(run=whole, steps=24, **teach)

    class Stopped(Exception):
        pass

    def stop(what: str, done: int, total: int) -> None:
        if done == 9:  # after the checkpoint of step 8
            raise Stopped

    with pytest.raises(Stopped):
        hear.teach_hearing(run=parts, steps=24, progress=stop, **teach)
    assert load_checkpoint(parts / hear.LAST)[1]["step"] == 8
    again = hear.teach_hearing(run=parts, steps=24, **teach)
    for name, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    losses = [line["own"] for line in read_metrics(whole / "hearing.jsonl") if "own" in line]
    assert losses[-1] < 0.5 * losses[0]


def test_sounds_of_no_kind_are_one_line(taught: Path) -> None:
    (taught / "train" / "unicorn").mkdir()
    write_wav(taught / "train" / "unicorn" / "a.wav", np.ones(RATE, np.float32) / 2, RATE)
    with pytest.raises(UserError, match="unicorn is no kind"):
        read_recordings(taught, KINDS, "train")
    with pytest.raises(UserError, match="no sounds in test/"):
        read_recordings(taught, KINDS, "test")


def test_the_teachers_are_named_with_licence_and_sum() -> None:
    assert all(t.licence == "Apache-2.0" and len(t.sha256) == 64 for t in TEACHERS)
    network = Hearing(len(KINDS), len(families(KINDS)), 521)
    assert sum(p.numel() for p in network.body.parameters()) < 1_000_000
