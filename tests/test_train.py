"""The life of a model in small: scenes on disk, a fit that learns, resume, export, commands."""

import json
import subprocess
import sys
import wave
from pathlib import Path

import av
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")

# Beside others on two cores, threads that wait for each other spin for minutes.
torch.set_num_threads(1)

from safetensors.torch import load_file  # noqa: E402

from avsl.demos.scenes import make_scene  # noqa: E402
from avsl.engines import UserError, open_engine  # noqa: E402
from avsl.engines.networks import Network, NetworkSpec, fold_batch_norm  # noqa: E402
from avsl.train.export import calibrate, export_graphs, write_bundle  # noqa: E402
from avsl.train.fit import fit, loss_on, pictures_to_input  # noqa: E402
from avsl.train.pool import Pool  # noqa: E402
from avsl.train.recipe import Recipe, load_recipe  # noqa: E402

SIZE = NetworkSpec().picture_size
TINY = Recipe(pictures=24, voices=3, steps=6, batch=8, warmup=2, held_out=12)


def train(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "avsl.train.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def pool() -> Pool:
    return Pool(1, pictures=48, voices=4, size=SIZE)


def test_batches_depend_on_seed_and_step_alone(pool: Pool) -> None:
    first = pool.batch(3, 17, 8)
    pool.batch(4, 2, 8)
    again = pool.batch(3, 17, 8)
    assert np.array_equal(first.samples, again.samples)
    assert np.array_equal(first.pictures, again.pictures)
    assert not np.array_equal(first.samples, pool.batch(3, 18, 8).samples)
    ahead = list(pool.batches(3, 16, 19, 8))
    assert np.array_equal(ahead[1].samples, first.samples)


def test_batches_hold_positives_and_negatives(pool: Pool) -> None:
    targets = np.concatenate([pool.batch(0, step, 64).target for step in range(4)])
    lit = (targets.max((1, 2)) > 0.3).mean()
    assert 0.6 < lit < 0.95
    assert targets.max() <= 1.0


def test_the_network_learns(pool: Pool) -> None:
    """Sixty steps on one batch: it can be learnt by heart, so the loss must fall by far."""
    torch.manual_seed(0)
    network = Network(NetworkSpec(width=8))
    batch = pool.batch(0, 0, 16)
    x = pictures_to_input(torch.from_numpy(batch.pictures))
    samples, target = torch.from_numpy(batch.samples), torch.from_numpy(batch.target)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(60):
        loss = loss_on(network(x, samples), target, Recipe())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]


def test_loudness_is_taken_out() -> None:
    network = Network(NetworkSpec(width=8)).eval()
    samples = torch.from_numpy(make_scene(1, 0, kind="one").sound(-1, 1)[None])
    with torch.no_grad():
        assert torch.allclose(network.embed(samples), network.embed(samples * 0.3), atol=1e-4)


def test_resume_goes_on_as_if_never_stopped(tmp_path: Path, monkeypatch) -> None:
    import avsl.train.fit as module

    monkeypatch.setattr(module, "CHECKPOINT_STEPS", 3)
    torch.set_num_threads(1)
    whole = fit(TINY, tmp_path / "whole").state_dict()
    steps = module._step

    def killed(network, batch, step, recipe):
        if step == 4:
            raise KeyboardInterrupt
        return steps(network, batch, step, recipe)

    monkeypatch.setattr(module, "_step", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(TINY, tmp_path / "cut")
    monkeypatch.setattr(module, "_step", steps)
    with pytest.raises(UserError, match="holds a training already"):
        fit(TINY, tmp_path / "cut")
    resumed = fit(TINY, tmp_path / "cut", resume=True).state_dict()
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name


def randomised(width: int) -> Network:
    """A network whose batch norms have statistics of their own, as after a training."""
    torch.manual_seed(1)
    network = Network(NetworkSpec(width=width))
    batch = Pool(2, pictures=8, voices=2, size=SIZE).batch(0, 0, 16)
    for _ in range(3):
        network(
            pictures_to_input(torch.from_numpy(batch.pictures)), torch.from_numpy(batch.samples)
        )
    return network.eval()


def test_folding_batch_norm_changes_nothing() -> None:
    network, x = randomised(8), torch.randn(2, 3, *SIZE)
    with torch.no_grad():
        before = network.picture(x), network.sound(torch.randn(2, 1, 64, 61).mul(0) + 0.5)
        fold_batch_norm(network)
        after = network.picture(x), network.sound(torch.randn(2, 1, 64, 61).mul(0) + 0.5)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in network.modules())
    for a, b in zip(before, after, strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_the_half_precision_graphs_give_the_network_s_map(tmp_path: Path) -> None:
    import onnx

    network = randomised(16)
    thresholds = {"glow": 0.5, "unseen": 0.3, "sounding": 0.5, "gate_db": -60, "gate_margin_db": 6}
    folder = tmp_path / "engine"
    write_bundle(network, folder, name="t", version="0", thresholds=thresholds, training={})
    engine = open_engine(folder)
    rng = np.random.default_rng(0)
    black = np.zeros((*SIZE, 3), np.uint8)
    pictures = [rng.integers(0, 256, (*SIZE, 3), np.uint8), black, black + 255]
    sounds = [
        make_scene(1, 1, kind="one").sound(-1, 1),
        np.zeros(16_000, np.float32),
        rng.uniform(-1, 1, 16_000).astype(np.float32),
    ]
    for picture in pictures:
        for samples in sounds:
            with torch.no_grad():
                x = pictures_to_input(torch.from_numpy(picture[None]))
                ours = network.probability(network(x, torch.from_numpy(samples[None])))[0].numpy()
            theirs = engine.localize(picture, engine.embed(samples))
            assert np.isfinite(theirs).all()
            assert np.abs(ours - theirs).max() < 5e-3
    graph = onnx.load(folder / "picture.onnx").graph
    (first,) = [node for node in graph.node if "picture" in node.input]
    assert first.op_type == "Cast", "TensorRT takes uint8 into nothing else"
    for name in ("picture.onnx", "sound.onnx"):
        assert b".py" not in (folder / name).read_bytes(), "stack traces hold this machine's paths"
    half = [t for t in graph.initializer if t.data_type == onnx.TensorProto.FLOAT16]
    assert sum(np.prod(t.dims) for t in half) > 0.95 * sum(
        np.prod(t.dims) for t in graph.initializer
    )


def test_graphs_take_batches(tmp_path: Path) -> None:
    import onnxruntime as ort

    export_graphs(randomised(8), tmp_path)
    session = ort.InferenceSession(str(tmp_path / "sound.onnx"), providers=["CPUExecutionProvider"])
    samples = np.random.default_rng(0).normal(0, 0.1, (5, 16_000)).astype(np.float32)
    (together,) = session.run(None, {"samples": samples})
    alone = [session.run(None, {"samples": samples[i : i + 1]})[0][0] for i in range(5)]
    assert np.allclose(together, alone, atol=1e-3)


def test_calibration_finds_the_odds() -> None:
    torch.manual_seed(0)
    logits = torch.randn(20_000) * 3
    truth = (torch.rand(20_000) < torch.sigmoid(0.5 * logits - 1)).float()
    a, b = calibrate(logits, truth)
    assert a == pytest.approx(0.5, abs=0.05)
    assert b == pytest.approx(-1, abs=0.1)


def test_scenes_in_the_field_s_layout(tmp_path: Path) -> None:
    done = train("scenes", str(tmp_path / "set"), "--count", "6", "--seed", "9")
    assert done.returncode == 0, done.stderr
    entries = json.loads((tmp_path / "set" / "boxes.json").read_text())
    assert len(entries) == 6
    for index, entry in enumerate(entries):
        assert set(entry) == {"file", "class", "bbox"}
        scene = make_scene(9, index)
        assert len(entry["bbox"]) == len(scene.sounding(0))
        for x0, y0, x1, y1 in entry["bbox"]:
            assert 0 <= x0 <= x1 <= 1
            assert 0 <= y0 <= y1 <= 1
        with av.open(str(tmp_path / "set" / "frames" / f"{entry['file']}.jpg")) as container:
            frame = next(container.decode(video=0))
        written, _ = scene.render(0, 360, frame.width)
        assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - written).mean() < 8
        with wave.open(str(tmp_path / "set" / "audio" / f"{entry['file']}.wav")) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32767
        assert np.abs(samples - scene.sound(-3, 3)).max() < 1e-3
    again = train("scenes", str(tmp_path / "set"), "--count", "6")
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1
    assert "exists already" in again.stderr


def test_fit_ends_with_an_engine_that_runs(tmp_path: Path) -> None:
    recipe = tmp_path / "tiny.toml"
    recipe.write_text('name = "tiny"\npictures = 24\nvoices = 3\nbatch = 8\nheld_out = 12\n')
    run = tmp_path / "run"
    done = train("fit", str(recipe), "--run", str(run), "--set", "steps=4")
    assert done.returncode == 0, done.stderr
    engine = open_engine(run / "engine")
    assert engine.bundle.meta["training"]["recipe"]["steps"] == 4
    assert "steps = 4" in (run / "engine" / "README.md").read_text()
    assert set(load_file(run / "last.safetensors"))
    scored = train("evaluate", str(run / "engine"), "--scenes", "10")
    assert scored.returncode == 0, scored.stderr
    for row in ("engine", "shuffled sound", "centre disc", "whole picture"):
        assert f"| {row} |" in scored.stdout


@pytest.mark.parametrize(
    ("text", "overrides", "said"),
    [
        ("step = 3", [], "did you mean steps"),
        ("steps = 'many'", [], "steps must be int"),
        ("steps = = 3", [], "not a TOML file"),
        ("", ["lr=fast"], "lr must be float"),
        ("", ["zebra=1"], "no such setting: zebra"),
    ],
)
def test_recipes_refuse_what_they_don_t_know(
    tmp_path: Path, text: str, overrides: list[str], said: str
) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=said):
        load_recipe(path, overrides)
