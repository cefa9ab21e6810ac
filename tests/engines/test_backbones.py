"""The paper's encoders: shapes, fronts against their definitions, ImageNet's names, the graphs."""

import contextlib
import io
import sys
import types
import warnings
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")

# Beside others on two cores, threads that wait for each other spin for minutes.
torch.set_num_threads(1)

import onnx  # noqa: E402
import onnxruntime as ort  # noqa: E402
from torch import nn  # noqa: E402

from avsl.engines import UserError  # noqa: E402
from avsl.engines.networks.backbones import (  # noqa: E402
    LogMel64,
    LogSpectrogram,
    PictureResNet,
    Resample,
    ResNet18,
    SoundNet,
    SoundResNet,
    VGGish,
    from_torchvision,
    load_imagenet,
)
from avsl.engines.networks.parts import fold_batch_norm, unit  # noqa: E402

SOUND_ENCODERS = (VGGish, SoundNet, SoundResNet)


def sounds(count: int, length: int = 16_000) -> torch.Tensor:
    """Tones, noise and both, loud and soft, so that embeddings differ; `[count, length]`."""
    rng = np.random.default_rng(1)
    t = np.arange(length) / 16_000
    tones = np.sin(2 * np.pi * rng.uniform(150, 6000, (count, 1)) * t)
    noise = rng.normal(size=(count, length))
    rows = rng.uniform(0, 0.5, (count, 1)) * tones + rng.uniform(0, 0.2, (count, 1)) ** 2 * noise
    return torch.from_numpy(rows.astype(np.float32))


@pytest.mark.parametrize("encoder", SOUND_ENCODERS)
@pytest.mark.parametrize("seconds", [1, 3])
def test_sound_encoders_take_windows_from_a_second(
    encoder: type[VGGish | SoundNet | SoundResNet], seconds: int
) -> None:
    network = encoder(24).eval()
    with torch.no_grad():
        x = network.front(torch.zeros(2, seconds * 16_000))
        assert network(x).shape == (2, 24)


def test_fronts_make_the_shapes_of_their_papers() -> None:
    three_seconds = torch.zeros(1, 48_000)
    assert LogMel64()(torch.zeros(1, 15_600)).shape == (1, 1, 96, 64)
    assert LogSpectrogram()(three_seconds).shape == (1, 1, 257, 200)
    assert Resample()(three_seconds).shape == (1, 1, 1, 66_150)


def test_fronts_stay_in_single_precision() -> None:
    network = SoundResNet(8)
    before = network.front.basis.clone()
    network.half()
    assert torch.equal(network.front.basis, before)
    assert network.body.path[0].weight.dtype == torch.half


@pytest.mark.parametrize("size", [(64, 64), (96, 160)])
def test_picture_encoder_is_32_times_coarser(size: tuple[int, int]) -> None:
    with torch.no_grad():
        features = PictureResNet(24).eval()(torch.zeros(2, 3, *size))
    assert features.shape == (2, 24, size[0] // 32, size[1] // 32)


def test_pictures_are_set_to_the_range_of_imagenet() -> None:
    network = PictureResNet(8)
    x = torch.tensor([0.485, 0.456, 0.406])[:, None, None] * 2 - 1
    assert torch.allclose(x * network.scale + network.shift, torch.zeros(3, 1, 1), atol=1e-6)
    white = (torch.ones(3, 1, 1) * network.scale + network.shift).flatten()
    assert white.tolist() == pytest.approx([2.2489, 2.4286, 2.6400], abs=1e-4)


def test_log_spectrogram_is_scipys() -> None:
    """Against the definition in SciPy's manual: `get_window(("tukey", 0.25), 512)` is the
    symmetric window of 513 without its last value."""
    x = sounds(1)[0].numpy() + np.float32(0.3)
    n = np.arange(513)
    tukey = np.ones(513)
    tukey[n < 64] = 0.5 * (1 + np.cos(np.pi * (2 * n[n < 64] / (0.25 * 512) - 1)))
    tukey[n > 448] = 0.5 * (1 + np.cos(np.pi * (2 * n[n > 448] / (0.25 * 512) - 2 / 0.25 + 1)))
    tukey = tukey[:-1]
    power = []
    for start in range(0, len(x) - 511, 238):
        stretch = x[start : start + 512].astype(np.float64)
        spectrum = np.abs(np.fft.rfft((stretch - stretch.mean()) * tukey)) ** 2
        spectrum[1:-1] *= 2
        power.append(spectrum / (16_000 * (tukey**2).sum()))
    expected = (np.log(np.array(power).T + 1e-7) - np.log(1e-7)) / 12
    ours = LogSpectrogram()(torch.from_numpy(x)[None])[0, 0].numpy()
    assert ours.shape == expected.shape
    assert np.abs(ours - expected).max() < 1e-4


def test_log_mel_is_loudest_where_the_tone_is() -> None:
    t = torch.arange(16_000) / 16_000
    bands = LogMel64()(torch.sin(2 * torch.pi * 1000 * t)[None])[0, 0].mean(0)
    low, high, tone = (1127 * np.log(1 + f / 700) for f in (125, 7500, 1000))
    assert bands.argmax().item() == round((tone - low) / (high - low) * 65) - 1
    # What VGGish gives for silence.
    silence = LogMel64()(torch.zeros(1, 16_000))
    assert torch.allclose(silence, torch.tensor(0.01).log())


@pytest.mark.parametrize("frequency", [1000, 5000])
def test_resampling_keeps_a_tone(frequency: int) -> None:
    turn = 2 * np.pi * frequency * np.arange(22_050)
    sine = torch.from_numpy(np.sin(turn[:16_000] / 16_000)).float()
    made = Resample()(sine[None]).flatten().numpy() / 256
    assert np.abs(made - np.sin(turn / 22_050))[100:-100].max() < 0.01


def test_a_begun_stretch_is_kept() -> None:
    samples = torch.zeros(1, 500)
    samples[0, -1] = 1
    made = Resample()(samples).flatten()
    assert len(made) == 2 * 441
    assert abs(made.argmax().item() - 499 * 441 / 320) < 1


def torchvision_state() -> dict[str, torch.Tensor]:
    """What torchvision's `resnet18().state_dict()` holds: its names and shapes, random values."""
    state = {}

    def convolution(name: str, outputs: int, inputs: int, kernel: int) -> None:
        state[f"{name}.weight"] = torch.randn(outputs, inputs, kernel, kernel)

    def batch_norm(name: str, channels: int) -> None:
        for part in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{part}"] = torch.rand(channels)
        state[f"{name}.num_batches_tracked"] = torch.tensor(1)

    convolution("conv1", 64, 3, 7)
    batch_norm("bn1", 64)
    channels = 64
    for layer, outputs in enumerate((64, 128, 256, 512), 1):
        for block in range(2):
            at = f"layer{layer}.{block}"
            convolution(f"{at}.conv1", outputs, channels, 3)
            batch_norm(f"{at}.bn1", outputs)
            convolution(f"{at}.conv2", outputs, outputs, 3)
            batch_norm(f"{at}.bn2", outputs)
            if channels != outputs:
                convolution(f"{at}.downsample.0", outputs, channels, 1)
                batch_norm(f"{at}.downsample.1", outputs)
            channels = outputs
    state["fc.weight"], state["fc.bias"] = torch.randn(1000, 512), torch.randn(1000)
    return state


def test_imagenets_weights_find_their_places() -> None:
    state = torchvision_state()
    assert len(state) == 122
    body = ResNet18()
    body.load_state_dict(from_torchvision(state))
    block = body.layer2[0]
    for name, tensor in (
        ("conv1.weight", body.path[0].weight),
        ("layer2.0.bn1.bias", block.path[1].bias),
        ("layer2.0.conv2.weight", block.path[3].weight),
        ("layer2.0.bn2.running_var", block.path[4].running_var),
        ("layer2.0.downsample.1.running_mean", block.shortcut[1].running_mean),
    ):
        assert torch.equal(state[name], tensor)


def test_imagenet_without_torchvision_or_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(UserError, match="torchvision"):
        load_imagenet(ResNet18())

    state = torchvision_state()
    answers = iter([URLError("no route to host"), RuntimeError("invalid hash value"), state])

    class Weights:
        @staticmethod
        def get_state_dict(progress: bool, check_hash: bool) -> dict[str, torch.Tensor]:
            assert check_hash
            answer = next(answers)
            if isinstance(answer, Exception):
                raise answer
            return answer

    models = types.SimpleNamespace(ResNet18_Weights=types.SimpleNamespace(IMAGENET1K_V1=Weights))
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    body = ResNet18()
    for why in ("no route", "invalid hash"):
        with pytest.raises(UserError, match=why):
            load_imagenet(body)
    load_imagenet(body)
    assert torch.equal(body.path[0].weight, state["conv1.weight"])


class Half(nn.Module):
    """As the bundle's graphs have it: front and norm in single precision, encoder in half."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder.half()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if hasattr(self.encoder, "front"):
            x = self.encoder.front(x)
        return unit(self.encoder(x.half()).float())


@pytest.mark.parametrize("encoder", [PictureResNet, *SOUND_ENCODERS])
def test_graphs_in_half_precision_agree(encoder: type[nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(2)
    network = encoder(32)
    if encoder is PictureResNet:
        x = torch.rand(32, 3, 64, 64).sub(0.5) * torch.rand(32, 3, 1, 1) * 2
    else:
        x = sounds(32)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.momentum = None  # so that one batch is enough for the statistics
    with torch.no_grad():
        front = getattr(network, "front", nn.Identity())
        network(front(x))
        network.eval()
        loud = torch.rand_like(x[:1]) * 2 - 1
        x = torch.cat([x[:2], torch.zeros_like(loud), loud, loud.sign()])
        expected = unit(network(front(x))).numpy()
        fold_batch_norm(network)
    assert not any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in network.modules())

    path = tmp_path / "graph.onnx"
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Half(network).eval(),
            (x[:2],),
            str(path),
            dynamic_shapes=({0: torch.export.Dim("batch", max=64)},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    graph = onnx.load(path).graph
    assert not {node.op_type for node in graph.node} & {"STFT", "DFT", "BatchNormalization"}
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    (ours,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert np.abs(ours - expected).max() < 5e-3
