"""The life of a model in small: networks that learn and listen, graphs, a fit, its commands."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import wave
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")

# Beside others on two cores, threads that wait for each other spin for minutes.
torch.set_num_threads(1)

import onnx  # noqa: E402
import onnxruntime as ort  # noqa: E402
from accelerate.state import AcceleratorState  # noqa: E402
from helpers import make_video, tone  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import avsl.train.fit as module  # noqa: E402
from avsl.demos.scenes import DRAWN, Scene, boxes, make_scene, with_sound_of  # noqa: E402
from avsl.engines import UserError, open_engine  # noqa: E402
from avsl.engines.networks import Ensemble, Network, NetworkSpec, combined  # noqa: E402
from avsl.engines.networks.parts import fold_batch_norm  # noqa: E402
from avsl.engines.networks.small import LogMel  # noqa: E402
from avsl.train.cli import main  # noqa: E402
from avsl.train.data.material import open_material  # noqa: E402
from avsl.train.data.pool import half_size  # noqa: E402
from avsl.train.data.views import cells_of, pictures_to_input  # noqa: E402
from avsl.train.export import calibrate, write_bundle  # noqa: E402
from avsl.train.finish import set_calibration  # noqa: E402
from avsl.train.fit import Trainer, stage_networks  # noqa: E402
from avsl.train.methods.objectives import pixel_loss  # noqa: E402
from avsl.train.recipe import Recipe, load_recipe, to_toml  # noqa: E402
from avsl.train.run import prepare_run, read_metrics  # noqa: E402
from avsl.train.scoring.metrics import in_box, map_peak  # noqa: E402

ENCODERS = ("log-mel", "wave")
THRESHOLDS = {"glow": 0.5, "unseen": 0.3, "sounding": 0.5, "gate_db": -60, "gate_margin_db": 6}
TINY = Recipe(
    name="tiny",
    size=32,
    width=4,
    embedding=8,
    labelled=16,
    unlabelled=16,
    validation=8,
    voices=2,
    held_out=12,
    labelled_batch=2,
    unlabelled_batch=4,
    warm_up_steps=3,
    steps=3,
    distill_steps=3,
    precision="fp32",
    workers=0,
)


@pytest.fixture(autouse=True)
def fresh_accelerator() -> None:
    """Accelerate keeps the precision that it was first asked for in this process."""
    AcceleratorState._reset_state(reset_partial_state=True)


def train(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """`avsl-train` in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["avsl-train", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def program(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"avsl.{name}.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


# Networks


def picture_of(scene: Scene, side: int = 64) -> tuple[np.ndarray, list[tuple[float, ...]]]:
    picture, masks = scene.render(0, 2 * side, 2 * side)
    return half_size(picture), boxes(masks)


def batch_of(
    rows: list[tuple[np.ndarray, np.ndarray, tuple[float, ...] | None]],
) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures, samples and targets of rows of picture, sound and the box of what sounds."""
    found = torch.tensor([[box or (torch.nan,) * 4] for _, _, box in rows])
    pictures = torch.from_numpy(np.stack([row[0] for row in rows]))
    samples = torch.from_numpy(np.stack([row[1] for row in rows]))
    return pictures_to_input(pictures), samples, cells_of(found, (8, 8))


def learn_by_heart(networks: list[Network], batch: tuple[Tensor, ...], steps: int) -> list[float]:
    pictures, samples, target = batch
    whole = torch.ones_like(target)
    weights = [p for network in networks for p in network.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=3e-3)
    losses = []
    for _ in range(steps):
        maps = [network(pictures, samples) for network in networks]
        loss = sum(pixel_loss(x, target, whole, 2.0, 0.05).mean() for x in maps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item() / len(networks))
    return losses


def small(sound: str, side: int = 64, width: int = 8) -> Network:
    return Network(NetworkSpec(picture_size=(side, side), sound=sound, width=width, embedding=32))


def test_networks_learn_to_listen() -> None:
    """Both encoders learn a few clips by heart. Then the same picture with the other thing's sound
    moves the peak there; silence, and a sound from out of view, leave the map dark."""
    cast = replace(DRAWN, families=DRAWN.families[:2], aspect=1.0, strangers=())
    silence = np.zeros(16_000, np.float32)
    rows = []
    for i in range(4):
        scene = make_scene(4, i, kind="one", count=2, cast=cast)
        picture, found = picture_of(scene)
        heard = [with_sound_of(scene, k).sound(-1, 1) for k in range(2)]
        elsewhere = DRAWN.families[7].voice(np.random.default_rng(i))(np.arange(16_000) / 16_000)
        rows += [(picture, heard[0], found[0]), (picture, heard[1], found[1])]
        rows += [(picture, silence, None), (picture, elsewhere.astype(np.float32), None)]
    torch.manual_seed(0)
    networks = [small(sound) for sound in ENCODERS]
    batch = batch_of(rows)
    losses = learn_by_heart(networks, batch, 80)
    assert losses[-1] < 0.3 * losses[0]
    ensemble = Ensemble(networks).eval()
    with torch.no_grad():
        alone = list(zip(batch[0].split(1), batch[1].split(1), strict=True))
        maps = [
            np.concatenate([network(*one).sigmoid() for one in alone])
            for network in [*networks, ensemble]
        ]
    for found in maps:
        hits = [in_box(*map_peak(found[i]), row[2]) for i, row in enumerate(rows) if row[2]]
        assert np.mean(hits) > 0.85
        assert max(found[i].max() for i, row in enumerate(rows) if not row[2]) < 0.5


@pytest.mark.parametrize("sound", ENCODERS)
@pytest.mark.parametrize("seconds", [0.5, 0.9, 1.2, 3])
def test_windows_may_have_any_length_and_their_end_counts(sound: str, seconds: float) -> None:
    torch.manual_seed(0)
    encoder = small(sound).eval().sound
    heard = encoder.front(0.1 * torch.randn(4, round(seconds * 16_000))).requires_grad_()
    embeddings = encoder(heard)
    assert embeddings.shape == (4, 32)
    embeddings.square().sum().backward()
    pull = heard.grad.abs()
    assert pull[..., -pull.shape[-1] // 8 :].mean() > 0.5 * pull.mean()


SOUNDS = {
    "scene": make_scene(1, 1, kind="one").sound(-1, 1),
    "silence": np.zeros(16_000, np.float32),
    "full-scale noise": np.random.default_rng(0).uniform(-1, 1, 16_000).astype(np.float32),
}


@pytest.mark.parametrize("name", SOUNDS)
def test_the_spectrogram_is_the_same_in_the_graph(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    front, samples = LogMel(16_000), torch.from_numpy(SOUNDS[name][None])
    by_fft = front(samples)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    by_convolution = front(samples)
    assert by_fft.shape == (1, 1, 64, 61)
    assert torch.allclose(by_fft, by_convolution, atol=2e-3)


def trained_a_little(*sounds: str, side: int = 64, width: int = 8) -> list[Network]:
    """Networks whose batch norms have statistics of their own, as after a training."""
    torch.manual_seed(1)
    networks = [small(sound, side, width) for sound in sounds]
    scenes = [make_scene(2, i, kind="one") for i in range(8)]
    pictures = torch.from_numpy(np.stack([picture_of(scene, side)[0] for scene in scenes]))
    samples = torch.from_numpy(np.stack([scene.sound(-1, 1) for scene in scenes]))
    for network in networks:
        for _ in range(3):
            network(pictures_to_input(pictures), samples)
    return [network.eval() for network in networks]


@pytest.mark.parametrize("sound", ENCODERS)
def test_loudness_is_taken_out(sound: str) -> None:
    (network,) = trained_a_little(sound)
    samples, other = (torch.from_numpy(make_scene(1, i, kind="one").sound(-1, 1)) for i in (0, 3))
    with torch.no_grad():
        loud, soft, another = network.embed(torch.stack([samples, 0.3 * samples, other]))
    assert torch.allclose(loud, soft, atol=1e-4)
    assert not torch.allclose(loud, another, atol=1e-2)


@pytest.mark.parametrize("sound", ENCODERS)
def test_folding_batch_norm_changes_nothing(sound: str) -> None:
    (network,) = trained_a_little(sound)
    picture, samples = torch.randn(2, 3, 64, 64), torch.randn(2, 16_000)
    with torch.no_grad():
        before = network.picture(picture), network.sound(network.sound.front(samples))
        fold_batch_norm(network)
        after = network.picture(picture), network.sound(network.sound.front(samples))
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    assert not any(isinstance(m, kinds) for m in network.modules())
    for a, b in zip(before, after, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


# Graphs


@pytest.fixture(scope="module", params=["log-mel", "mean", "product"])
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Ensemble, Path]:
    """An ensemble and its bundle: one network as it ships, or two."""
    alone = request.param == "log-mel"
    networks = (
        trained_a_little("log-mel", side=160, width=16) if alone else trained_a_little(*ENCODERS)
    )
    ensemble = Ensemble(networks, "mean" if alone else request.param).eval()
    ensemble.calibration.copy_(torch.tensor([1.3, 0.2]))
    folder = tmp_path_factory.mktemp("bundle") / "engine"
    write_bundle(
        ensemble, folder, name="t", version="0", thresholds=THRESHOLDS, training={"recipe": {}}
    )
    return ensemble, folder


def test_half_precision_graphs_give_the_networks_map(exported: tuple[Ensemble, Path]) -> None:
    ensemble, folder = exported
    engine = open_engine(folder)
    size = ensemble.spec.picture_size
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    black = np.zeros((*size, 3), np.uint8)
    for picture in (noise, black, black + 255):
        for samples in SOUNDS.values():
            x = pictures_to_input(torch.from_numpy(picture[None]))
            with torch.no_grad():
                ours = ensemble.probability(ensemble(x, torch.from_numpy(samples[None])))[0].numpy()
            theirs = engine.localize(picture, engine.embed(samples))
            assert ours.shape == theirs.shape == ensemble.spec.map_size
            assert np.isfinite(theirs).all()
            assert np.abs(ours - theirs).max() < 5e-3
            if picture is noise:  # a picture of one colour has its peak in many cells
                assert ours.argmax() == theirs.argmax()


def test_ensembles_combine_probabilities_cell_by_cell() -> None:
    a, b = torch.randn(2, 3, 4), torch.randn(2, 3, 4)
    p, q = a.sigmoid(), b.sigmoid()
    assert torch.allclose(combined([a, b], "mean").sigmoid(), (p + q) / 2, atol=1e-5)
    assert torch.allclose(combined([a, b], "product").sigmoid(), p * q, atol=1e-5)
    assert torch.equal(combined([a], "product"), a)
    sure = torch.full((1, 1, 1), 80.0)
    assert combined([sure, sure], "mean").isfinite().all()
    assert combined([-sure, -sure], "product").isfinite().all()


def test_graphs_are_what_other_backends_take(exported: tuple[Ensemble, Path]) -> None:
    ensemble, folder = exported
    whole = 0
    for name in ("picture.onnx", "sound.onnx"):
        assert b".py" not in (folder / name).read_bytes(), "stack traces hold this machine's paths"
        graph = onnx.load(folder / name).graph
        assert not {node.op_type for node in graph.node} & {"STFT", "DFT"}, "TensorRT has none"
        fixed = [b for m in ensemble.members for b in m.sound.front.buffers()]
        fronts = {tuple(b.shape) for b in fixed} | {(*b.shape, 1) for b in fixed}
        weights = [t for t in graph.initializer if tuple(t.dims) not in fronts]
        half = sum(np.prod(t.dims) for t in weights if t.data_type == onnx.TensorProto.FLOAT16)
        assert half > 0.95 * sum(np.prod(t.dims) for t in weights)
        whole += half
    encoders = [part for m in ensemble.members for part in (m.sound, m.picture)]
    assert whole > 0.9 * sum(p.numel() for part in encoders for p in part.parameters())
    graph = onnx.load(folder / "picture.onnx").graph
    (first,) = [node for node in graph.node if "picture" in node.input]
    assert first.op_type == "Cast", "TensorRT takes uint8 into nothing else"


def test_graphs_take_batches(exported: tuple[Ensemble, Path]) -> None:
    ensemble, folder = exported
    rng = np.random.default_rng(0)
    samples = rng.normal(0, 0.1, (5, 16_000)).astype(np.float32)
    pictures = rng.integers(0, 256, (5, *ensemble.spec.picture_size, 3), np.uint8)
    sound, picture = (
        ort.InferenceSession(str(folder / name), providers=["CPUExecutionProvider"])
        for name in ("sound.onnx", "picture.onnx")
    )
    (embeddings,) = sound.run(None, {"samples": samples})
    (maps,) = picture.run(None, {"picture": pictures, "embedding": embeddings})
    for i in range(5):
        (alone,) = sound.run(None, {"samples": samples[i : i + 1]})
        assert np.allclose(embeddings[i], alone[0], atol=1e-3)
        feed = {"picture": pictures[i : i + 1], "embedding": embeddings[i : i + 1]}
        assert np.allclose(maps[i], picture.run(None, feed)[0][0], atol=1e-3)


def test_calibration_finds_the_odds() -> None:
    torch.manual_seed(0)
    logits = torch.randn(20_000) * 3
    truth = (torch.rand(20_000) < torch.sigmoid(0.5 * logits - 1)).float()
    a, b = calibrate(logits, truth)
    assert a == pytest.approx(0.5, abs=0.05)
    assert b == pytest.approx(-1, abs=0.1)


@pytest.mark.parametrize("confusing", [0.0, 0.5])
def test_nine_of_ten_sounds_from_out_of_view_do_not_glow(confusing: float) -> None:
    """Where many of them look like what sounds in view, less is taken for probable."""
    rng = torch.Generator().manual_seed(0)
    logits = 0.5 * torch.randn(400, 10, 10, generator=rng) - 4
    boxes = torch.full((400, 1, 4), torch.nan)
    negatives = torch.arange(400) >= 300
    boxes[:300] = torch.tensor([0.2, 0.2, 0.6, 0.6])
    alike = negatives & (torch.rand(400, generator=rng) < confusing)
    logits[~negatives, 2:6, 2:6] += 6
    logits[alike, 2:6, 2:6] += 3.8  # nearly as strong
    ensemble = Ensemble([Network(NetworkSpec(picture_size=(32, 32), width=2))])
    thresholds = set_calibration(ensemble, logits, boxes, negatives)
    p = ensemble.probability(logits).amax((1, 2))
    assert (p[negatives] <= thresholds["glow"] + 1e-3).float().mean() >= 0.9
    assert (p[~negatives] > thresholds["glow"]).float().mean() > 0.95
    assert thresholds["unseen"] <= thresholds["glow"] == 0.5 < thresholds["sounding"]


# Clips


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty-four practice clips on disk."""
    folder = tmp_path_factory.mktemp("clips") / "set"
    with pytest.MonkeyPatch.context() as patch:
        assert train(patch, "scenes", folder, "--count", 24, "--seed", 9) == 0
    return folder


def test_scenes_in_the_field_s_layout(
    clips: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    entries = json.loads((clips / "boxes.json").read_text())
    assert len(entries) == 24
    for index, entry in enumerate(entries[:6]):
        assert set(entry) == {"file", "class", "bbox"}
        scene = make_scene(9, index)
        assert len(entry["bbox"]) == len(scene.sounding(0))
        for x0, y0, x1, y1 in entry["bbox"]:
            assert 0 <= x0 <= x1 <= 1
            assert 0 <= y0 <= y1 <= 1
        with av.open(str(clips / "frames" / f"{entry['file']}.jpg")) as container:
            frame = next(container.decode(video=0))
        written, _ = scene.render(0, 360, frame.width)
        assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - written).mean() < 8
        with wave.open(str(clips / "audio" / f"{entry['file']}.wav")) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767
        assert np.abs(samples - scene.sound(-3, 3)).max() < 1e-3
    assert train(monkeypatch, "scenes", clips, "--count", 6) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "exists already" in said


# Fits


def written(recipe: Recipe, path: Path) -> Path:
    path.write_text(to_toml(recipe))
    return path


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The run of a tiny recipe with distillation, as a person starts it, and what it said."""
    folder = tmp_path_factory.mktemp("fit")
    recipe = written(replace(TINY, workers=1, precision="bf16"), folder / "tiny.toml")
    done = program("train", "fit", recipe, "--run", folder / "run", "--distill")
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return folder / "run", done.stdout


def test_build_makes_an_engine_of_a_run_and_says_what_runs_it(
    fitted: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, _ = fitted
    out = tmp_path / "teachers"
    assert train(monkeypatch, "build", run, "--stage", "unbiased", "--out", out) == 0
    *others, line = capsys.readouterr().out.splitlines()
    assert f"{out}: tiny runs with " in others[-1]
    assert line == f"{out}: the engine; avsl-live FILE -o OUT --engine {out}"
    assert len(open_engine(out).bundle.meta["networks"]) == 2
    assert train(monkeypatch, "build", out) == 0
    assert capsys.readouterr().out.splitlines() == others


def test_a_fit_ends_with_an_engine_that_runs(
    fitted: tuple[Path, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, said = fitted
    assert f"avsl-live FILE -o OUT --engine {run / 'engine'}" in said
    meta = open_engine(run / "engine").bundle.meta
    assert meta["training"]["recipe"]["distill"] is True
    assert len(meta["networks"]) == 1, "distilled"
    assert meta["scores"]["scenes"] == 12
    card = (run / "engine" / "README.md").read_text()
    assert "distill = true" in card
    assert "12 scenes of series" in card
    film = make_video(tmp_path / "film.mp4", seconds=0.4, waves=(tone(700),))
    out = tmp_path / "out.mp4"
    live = program("realtime", film, "-o", out, "--engine", run / "engine")
    assert live.returncode == 0, live.stderr
    assert out.stat().st_size > 1000
    assert train(monkeypatch, "evaluate", run / "engine", "--scenes", 10) == 0
    table = capsys.readouterr().out
    for row in ("engine", "shuffled sound", "centre disc", "whole picture"):
        assert f"| {row} |" in table


def test_a_fit_goes_on_from_the_networks_of_another(
    fitted: tuple[Path, str], tmp_path: Path
) -> None:
    run, _ = fitted
    (begun,) = stage_networks(load_recipe(run / "recipe.toml"), run)
    recipe = replace(TINY, sounds=TINY.sounds[:1], start=str(run))
    (student,) = Trainer(recipe, tmp_path, None).students  # type: ignore[arg-type]
    for name, tensor in begun.state_dict().items():
        assert torch.equal(student.state_dict()[name].cpu(), tensor), name
    fresh = replace(recipe, start_with="picture")
    (student,) = Trainer(fresh, tmp_path, None).students  # type: ignore[arg-type]
    for name, kept in (("picture.stem.0.0.weight", True), ("sound.body.0.0.weight", False)):
        assert torch.equal(student.state_dict()[name].cpu(), begun.state_dict()[name]) == kept
    with pytest.raises(UserError, match="another make"):
        Trainer(replace(recipe, width=recipe.width * 2), tmp_path, None)  # type: ignore[arg-type]


def test_a_run_describes_itself(fitted: tuple[Path, str]) -> None:
    run, _ = fitted
    assert load_recipe(run / "recipe.toml") == replace(
        TINY, workers=1, precision="bf16", distill=True
    )
    assert {path.name for path in run.glob("*.safetensors")} == {
        f"{name}.safetensors" for name in ("last", "warm-up", "unbiased", "distill")
    }
    lines = read_metrics(run / "metrics.jsonl")
    assert [(line["step"], line["stage"]) for line in lines] == [
        (3, "warm-up"),
        (6, "unbiased"),
        (9, "distill"),
    ]
    for line in lines:
        assert line["loss"] > 0
        assert line["samples_per_s"] > 0
        assert 0 <= line["loading_share"] <= 1
        assert all(0 <= line[f"val_{name}"] <= 100 for name in ("A", "B", "mean"))
        if line["stage"] != "warm-up":
            assert 0 <= line["accepted"] <= 1
    unbiased = lines[1]
    assert {"teachers_iou", "area", "quality_intersection", "quality_union"} <= unbiased.keys()
    for picture in (run / "examples" / "000006.png", run / "curves.png"):
        assert picture.read_bytes()[:4] == b"\x89PNG"
    assert not list(run.rglob("*.part"))


def test_a_fit_from_clips_refuses_a_bad_one_or_leaves_it_out(
    clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "clips"
    shutil.copytree(clips, folder)
    (folder / "audio" / "s9_000003.wav").write_bytes(b"no sound")
    small = replace(TINY, labelled=8, unlabelled=7, validation=8, data=str(folder))
    recipe = written(small, tmp_path / "clips.toml")
    fit = ("fit", recipe, "--run")
    assert train(monkeypatch, *fit, tmp_path / "refused") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "1 of 24 clips can't be used: s9_000003 has a sound that can't be read" in said
    assert "--skip-bad leaves them out" in said
    run = tmp_path / "run"
    assert train(monkeypatch, *fit, run, "--skip-bad") == 0
    assert "| shuffled sound |" in capsys.readouterr().out
    engine = open_engine(run / "engine")
    assert engine.bundle.meta["scores"]["clips"] == "validation"
    assert len(engine.bundle.meta["networks"]) == 2
    card = (run / "engine" / "README.md").read_text()
    assert "validation clips" in card
    assert "They chose the checkpoint and the thresholds" in card


def test_a_dry_run_says_what_a_fit_takes_and_makes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = written(replace(TINY, distill=True), tmp_path / "tiny.toml")
    assert train(monkeypatch, "fit", recipe, "--run", tmp_path / "run", "--dry-run") == 0
    said = capsys.readouterr().out
    for words in ("M parameters", "clips: 40, ", "MB", "warm-up: 3 steps of 6 clips", "samples/s"):
        assert words in said
    assert "distill: 3 steps" in said
    assert "time: about " in said
    assert list(tmp_path.iterdir()) == [recipe]


@pytest.mark.parametrize("kept", [False, True])
def test_a_loss_that_is_not_a_number_ends_the_fit(
    kept: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(TINY, checkpoint_every=1 if kept else 9, validate_every=9)
    whole, seen = module.warm_up_loss, []

    def breaks(model, step, recipe, gather):
        loss, log = whole(model, step, recipe, gather)
        seen.append(step.names)
        return (loss * torch.nan if len(seen) == 3 else loss), log

    monkeypatch.setattr(module, "warm_up_loss", breaks)
    prepare_run(recipe, tmp_path / "run", resume=False)
    material = open_material(recipe, tmp_path / "run")
    with pytest.raises(UserError) as caught:
        module.fit(recipe, tmp_path / "run", material)
    said = str(caught.value)
    assert "\n" not in said
    assert "not a number at step 2" in said
    assert ", ".join(seen[-1]) in said
    last = tmp_path / "run" / "last.safetensors"
    assert last.exists() == kept
    assert (f"the last good checkpoint is {last}" if kept else "no checkpoint yet") in said


# Recipes


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        ("step = 3", [], "did you mean steps"),
        ("steps = 'many'", [], "steps must be int"),
        ("steps = = 3", [], "not a TOML file"),
        ("", ["lr=fast"], "lr must be float"),
        ("", ["zebra=1"], "no such setting: zebra"),
        ("accept = 'most'", [], "accept must be one of agreement, not-empty, confident, all"),
        ("sounds = ['log-mel', 'ears']", [], "sounds must be one of log-mel, wave"),
        ("sounds = 'wave'", [], "sounds must be a list of words"),
        ("sounds = []", [], "must name one encoder or two"),
        ("distill = 1", [], "distill must be bool"),
        ("size = 8", [], "size must be at least 32"),
        ("size = 40", [], "size must be a multiple of 16"),
        ("size = 48\npicture = 'resnet18'", [], "size must be a multiple of 32"),
        ("seconds = 0.1", [], "seconds must be at least 0.5"),
        ("seconds = 0.5\nsounds = ['vggish']", [], "seconds must be at least 1.0"),
        ("seconds = 3", [], "at most 1.0 for scenes"),
        ("seed = -1", [], "seed must be at least 0"),
        ("voices = 0", [], "voices must be at least 1"),
        ("unlabelled = 0", [], "without unlabelled clips, unlabelled_batch must be 0"),
        ("warm_up_steps = 0\nsteps = 0", [], "no stage has any steps"),
        ("labelled_batch = 1\nunlabelled_batch = 0", [], "two clips or more"),
        ("extends = 'nowhere.toml'", [], "nowhere.toml: can't be read"),
        ("extends = 'recipe.toml'", [], "not in a circle"),
        ("extends = 3", [], "extends must name a recipe"),
    ],
)
def test_recipes_refuse_what_they_don_t_know(
    tmp_path: Path, text: str, overrides: list[str], said: str
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=said) as caught:
        load_recipe(path, overrides)
    assert "\n" not in str(caught.value)


def test_recipes_extend_others_and_are_written_whole(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text("steps = 7\nlr = 1\nsounds = ['wave']\n")
    (tmp_path / "child.toml").write_text("extends = 'base.toml'\nsteps = 9\nname = 'a \"b\" c'\n")
    recipe = load_recipe(tmp_path / "child.toml", ["distill=true", "data=my clips"])
    assert recipe == Recipe(
        name='a "b" c', steps=9, lr=1.0, sounds=("wave",), distill=True, data="my clips"
    )
    assert load_recipe(written(recipe, tmp_path / "whole.toml")) == recipe
