"""From networks to graphs: combination, half precision, calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")

# Beside others on two cores, threads that wait for each other spin for minutes.
torch.set_num_threads(1)

import onnx  # noqa: E402
import onnxruntime as ort  # noqa: E402
from learning import ENCODERS, SOUNDS, trained_a_little  # noqa: E402

from avsl.engines import open_engine  # noqa: E402
from avsl.engines.networks import Ensemble, Network, NetworkSpec, combined  # noqa: E402
from avsl.train.data.views import pictures_to_input  # noqa: E402
from avsl.train.export import calibrate, write_bundle  # noqa: E402
from avsl.train.finish import set_calibration  # noqa: E402

THRESHOLDS = {"glow": 0.5, "unseen": 0.3, "sounding": 0.5, "gate_db": -60, "gate_margin_db": 6}


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
