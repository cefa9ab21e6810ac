"""Whose voice it is, as it is taught: series of a clip lie where its sound does, sync learns what
moves with a voice, the few numbers that join it keep whom they should."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")
pytest.importorskip("cv2", reason="pictures of faces need OpenCV and its libGL")

from avsl.engines.speakers import lips  # noqa: E402
from avsl.engines.speakers.answer import DIFFERS  # noqa: E402
from avsl.engines.speakers.speakers import TURNED  # noqa: E402
from avsl.engines.speakers.tracks import DISTANCES, Row  # noqa: E402
from avsl.engines.speakers.voice import RATE  # noqa: E402
from avsl.train.speakers import fit as fitting  # noqa: E402
from avsl.train.speakers import learning  # noqa: E402
from avsl.train.speakers.fit import Case, cases, fit, logistic, speaking, table, write_model  # noqa: E402
from avsl.train.speakers.making import export_sync  # noqa: E402
from avsl.train.speakers.series import Series, series_of  # noqa: E402
from avsl.train.speakers.sounds import mix  # noqa: E402
from avsl.train.speakers.sync import BATCH, Talks, teach_sync  # noqa: E402
from avsl.train.speakers.table import Clip  # noqa: E402

MIXING = np.random.default_rng(9).normal(size=(6, 17)).astype(np.float32)


def clip(person: str, speaks: bool = True, kind: str = "film") -> Clip:
    return Clip(Path(f"{person}.mp4"), person, speaks, kind, True, "train")


def talk(person: int, n: int = 250, speaks: bool = True) -> Series:
    """Somebody whose every move follows from the sound, and noise."""
    rng = np.random.default_rng((7, person))
    heard = lips.smoothed(rng.normal(size=(n, 6)).astype(np.float32)) * 0.5
    moves = np.exp(0.4 * heard @ MIXING + rng.normal(0, 0.3, (n, 17))).astype(np.float32)
    still, sure = np.zeros(n, np.float32), np.full(n, 3, np.float32)
    return Series(clip(f"person {person}", speaks), moves, still, sure, heard, still)


def nothing(what: str, done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a sync.onnx lies that has learnt from ten of them."""
    torch.set_num_threads(1)
    run = tmp_path_factory.mktemp("run")
    export_sync(teach_sync([talk(i) for i in range(10)], run, 120, nothing), run)
    return run


def test_sync_learns_what_goes_with_a_voice(networks: Path) -> None:
    own, late, others = [], [], []
    for i in range(20, 26):
        one, other = talk(i), talk(i + 1)
        for start in (0, 75, 150):
            part = slice(start, start + 75)
            own.append(lips.sync(one.moves[part], one.heard[part], networks))
            late.append(lips.sync(one.moves[part], np.roll(one.heard, 25, 0)[part], networks))
            others.append(lips.sync(one.moves[part], other.heard[part], networks))
    assert min(own) > 3 and max(np.mean(late), np.mean(others)) < 0.6, (own, late, others)


def test_the_graph_of_sync_is_the_network(networks: Path) -> None:
    from avsl.engines.networks.lips import Sync
    from avsl.engines.speakers.sight import session
    from avsl.train.run import load_checkpoint

    tensors, _ = load_checkpoint(networks / "sync.safetensors")
    network = Sync().eval()
    names = network.state_dict()
    network.load_state_dict({name: tensors[f"network.{name}"] for name in names})
    for n in (38, 150):
        moves, heard = torch.rand(1, n, 18), torch.rand(1, n, 6)
        said = session(networks / "sync.onnx").run(
            None, {"moves": moves.numpy(), "heard": heard.numpy()}
        )
        with torch.no_grad():
            for one, other in zip(network(moves, heard), said, strict=True):
                assert one.numpy() == pytest.approx(other, abs=1e-4)
    assert (networks / "sync.onnx").stat().st_size < 60_000


def test_windows_keep_lips_and_sound_together() -> None:
    """Whatever is done to a window, both sides of it are done the same to."""
    n = 90
    ramp = np.linspace(0, 1, n, dtype=np.float32)
    one = Series(
        clip("one"),
        np.tile(ramp[:, None], (1, 17)),
        ramp,
        ramp,
        np.tile(ramp[:, None], (1, 6)),
        ramp,
    )
    talks = Talks([one])
    for seed in range(20):
        moves, heard = talks.batch(np.random.default_rng(seed))
        assert len(moves) == len(heard) == BATCH and moves.shape[1] == heard.shape[1]
        for x, y in zip(moves[..., 3], heard[..., 0], strict=True):  # the noise is of each its own
            if x.std() > 0.1:
                assert np.corrcoef(lips.smoothed(x), lips.smoothed(y))[0, 1] > 0.6


def rows(count: int, start: float = 0.2) -> list[Row]:
    shape = np.full(len(DISTANCES), 0.5, np.float32)
    return [
        Row(start + i / 25, 0.04, float(i == 40), 0.1, 0.2, shape, 0.1, 2.0) for i in range(count)
    ]


def test_what_is_seen_and_heard_lies_at_the_same_bins() -> None:
    """A clap in the 45th bin, and a jerk in the same."""
    samples = np.zeros(4 * RATE, np.float32)
    samples[45 * 640 : 46 * 640] = np.random.default_rng(0).normal(0, 0.1, 640)
    one = series_of(clip("one"), rows(90), samples)
    assert one is not None and one.moves.shape == (89, 17) and one.heard.shape == (89, 6)
    assert one.level.argmax() == 40 and one.heard[:, 3].argmax() == 40, "bin 45 less the first 5"
    assert one.moves[:, 0].argmax() in (39, 40)
    quiet = series_of(clip("one", speaks=False), rows(90), samples[:0])
    assert quiet is not None and len(quiet.moves) == 89 and len(quiet.heard) == 0
    assert series_of(clip("one"), rows(90), samples[: RATE // 2]) is None, "too little sound"
    assert series_of(clip("one"), rows(20), samples) is None


def test_a_voice_is_mixed_as_loud_as_asked() -> None:
    rng = np.random.default_rng(0)
    voice, other = (rng.normal(0, level, 16_000).astype(np.float32) for level in (0.1, 0.7))
    added = mix(rng, voice, other[:9000], 12.0) - voice
    assert 20 * np.log10(voice.std() / added.std()) == pytest.approx(12, abs=0.2)


def test_decisions_are_those_in_which_a_voice_is_heard_and_a_face_seen(networks: Path) -> None:
    some = [talk(i, 100) for i in range(3)]
    silent = Series(
        clip("silent", False, "mime"),
        *[getattr(some[0], n) for n in ("moves", "turned", "logits")],
        some[0].heard[:0],
        some[0].level[:0],
    )
    found = cases([*some, silent], networks, nothing, "fit")
    kinds = {(case.kind, case.seconds) for case in found}
    assert {kind for kind, _ in kinds} == {"own", "dubbed", "mime", *fitting.LATE}
    assert {s for k, s in kinds if k == "own"} == {1.5, 2.0, 2.5, 3.0, 4.0}
    count = [
        sum(c.kind == k and c.seconds == 2 for c in found) for k in ("own", "dubbed", "late 1 s")
    ]
    assert count == [3 * 5, 3 * 5 * 2, 3 * 5 * 2]
    own = next(c for c in found if c.kind == "own" and c.seconds == 3)
    moved, heard = some[0].moves[:75], some[0].heard[:75]
    assert own.numbers[:2] == pytest.approx(
        (lips.pairs(moved, heard), lips.sync(moved, heard, networks)), abs=1e-6
    )
    some[0].turned[60:] = 2 * TURNED
    some[1].logits[:] = -1
    some[2].level[:60] = -60
    last = [c for c in cases(some, networks, nothing, "fit") if c.kind == "own" and c.seconds == 2]
    assert [c.person for c in last].count("person 0") == 1, "turned away from then on"
    assert "person 1" not in [c.person for c in last], "no face"
    assert [c.person for c in last].count("person 2") == 2, "silent at first"


def made(kind: str, two: float, look: float, count: int, seed: int) -> list[Case]:
    rng = np.random.default_rng(seed)
    return [
        Case(kind, seconds, f"{kind} {i % 5}", rng.normal([two] * 2 + [look] * 7, 1.0))
        for i in range(count)
        for seconds in (1.5, 3.0)
    ]


def test_the_fit_keeps_what_was_kept(tmp_path: Path, networks: Path) -> None:
    """Own voices agree and move; a dubbed face moves, a calm one doesn't."""
    known = made("own", 3, 1, 80, 0) + made("dubbed", 0, 1, 80, 1) + made("calm", 0, -2, 80, 2)
    others = made("own", 3, 1, 80, 3) + made("dubbed", 0, 1, 80, 4) + made("calm", 0, -2, 80, 5)
    model = fit(known)
    lit = speaking(others, model) >= DIFFERS
    kinds = np.array([case.kind for case in others])
    assert lit[kinds == "own"].mean() > 0.9 > 0.1 > lit[kinds != "own"].mean()
    lines = table(others, model)
    assert lines[1].split() == ["over", "own", "dubbed", "calm"]
    assert [line.split()[0] for line in lines[2:]] == ["1.5", "2", "3", "4", "6"]
    assert "(80, 5)" in lines[2] and "- (0, 0)" in lines[3]

    (tmp_path / "sync.onnx").write_bytes((networks / "sync.onnx").read_bytes())
    write_model(tmp_path / "lips.json", model)
    one = talk(30)
    for n in (38, 120):
        moved, heard = one.moves[:n], one.heard[:n]
        two = lips.pairs(moved, heard), lips.sync(moved, heard, networks)
        case = Case("own", n / 25, "", np.array([*two, *lips.look(moved)]))
        assert lips.speaks(moved, heard, tmp_path) == pytest.approx(
            float(speaking([case], model)[0]), abs=1e-3
        )


def test_kinds_count_by_their_shares() -> None:
    known = made("own", 1, 0, 10, 0) + made("dubbed", 0, 0, 40, 1)
    weights = fitting._weights(known)
    assert weights[:20].sum() == pytest.approx(2000) and weights[20:].sum() == pytest.approx(600)


def test_the_regression_finds_what_made_its_answers() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 2))
    y = (rng.random(20_000) < 1 / (1 + np.exp(-(x @ [2.0, -1.0] + 0.5)))).astype(float)
    assert logistic(x, y, np.ones(20_000)) == pytest.approx([2, -1, 0.5], abs=0.1)


class Stopped(Exception):
    pass


def test_a_training_taken_up_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learning, "CHECKPOINT_EVERY", 3)
    some = [talk(i, 60) for i in range(3)]

    def taught(run: Path, stop: int) -> dict[str, torch.Tensor]:
        def progress(what: str, done: int, total: int) -> None:
            if done == stop:
                raise Stopped

        run.mkdir(exist_ok=True)
        return teach_sync(some, run, 7, progress).state_dict()

    whole = taught(tmp_path / "whole", 0)
    with pytest.raises(Stopped):
        taught(tmp_path / "parts", 5)
    torch.rand(1)  # whatever else was drawn meanwhile
    for name, value in taught(tmp_path / "parts", 0).items():
        assert torch.equal(value, whole[name]), name
    lines = [(tmp_path / run / "sync.jsonl").read_text() for run in ("whole", "parts")]
    assert lines[0].count("\n") == lines[1].count("\n") == 1
