"""Light-ASD and LR-ASD out of state-dicts: the same scores as an evaluation written from the
published tensors alone; files that are something else are refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")
pytest.importorskip("cv2", reason="crops of faces need OpenCV and its libGL")
torch.set_num_threads(1)

import torch.nn.functional as F  # noqa: E402
from torch import Tensor  # noqa: E402

from avsl.engines import UserError  # noqa: E402
from avsl.train.cli import main  # noqa: E402
from avsl.train.speakers.importing import open_look  # noqa: E402
from avsl.train.speakers.published import load_speakers, look_of  # noqa: E402

State = dict[str, Tensor]
BLOCKS = ((1, 32), (32, 64), (64, 128))


def convolutions(lr: bool) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Of a state-dict: a convolution, the batch norm after it, the shape of its weights."""
    for side, letter in (("visualEncoder", "s"), ("audioEncoder", "m")):
        seen = letter == "s"
        for n, (before, width) in enumerate(BLOCKS, 1):
            path = f"model.{side}.block{n}."
            half = width // 2
            rows = (
                (("1", 5, before, half), ("2", 3, half, width))
                if lr
                else (("3", 3, before, width), ("5", 5, before, width))
            )
            for name, size, a, b in rows:
                norm = f"{letter}_norm_{name}" if lr else f"bn_{letter}_{name}"
                shape = (b, a, 1, size, size) if seen else (b, a, size, 1)
                yield path + f"{letter}_{name}", path + norm, shape
            for name, size in (("1", 5), ("2", 3)) if lr else (("3", 3), ("5", 5)):
                shape = (width, width, size, 1, 1) if seen else (width, width, 1, size)
                yield path + f"t_{name}", path + (f"t_norm_{name}" if lr else f"bn_t_{name}"), shape
            if not lr:
                shape = (width, width, 1, 1, 1) if seen else (width, width, 1, 1)
                yield path + "last", path + "bn_last", shape
    if lr:
        yield "model.fusion.attention", "model.fusion.bn", (256, 256, 1)
        inner = "model.detector.attention."
        yield inner + "attention", inner + "bn", (128, 128, 1)


def made_up(lr: bool) -> State:
    """A state-dict with the published names and shapes; batch norms are not trivial."""
    made = torch.Generator().manual_seed(3 + lr)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=made)

    state: State = {}
    for conv, norm, shape in convolutions(lr):
        state[f"{conv}.weight"] = draw(*shape) * (2 / np.prod(shape[1:])) ** 0.5
        state[f"{norm}.weight"] = 1 + 0.2 * draw(shape[0])
        state[f"{norm}.bias"] = 0.2 * draw(shape[0])
        state[f"{norm}.running_mean"] = 0.2 * draw(shape[0])
        state[f"{norm}.running_var"] = 1 + 0.3 * draw(shape[0]).abs()
        state[f"{norm}.num_batches_tracked"] = torch.tensor(7)
    name, given, hidden = ("detector", 256, 64) if lr else ("GRU", 128, 128)
    for way in ("forward", "backward"):
        for part, shape in (("ih", (3 * hidden, given)), ("hh", (3 * hidden, hidden))):
            state[f"model.{name}.gru_{way}.weight_{part}_l0"] = 0.1 * draw(*shape)
            state[f"model.{name}.gru_{way}.bias_{part}_l0"] = 0.1 * draw(shape[0])
    for head in ("lossAV", "lossV"):
        state[f"{head}.FC.weight"], state[f"{head}.FC.bias"] = 0.1 * draw(2, 128), draw(2)
    return state


def reference(state: State, pictures: Tensor, heard: Tensor, lr: bool) -> tuple[Tensor, Tensor]:
    """Of one face, pictures `[T, 112, 112]` and MFCC `[4T, 13]`: both scores, from the tensors."""

    def norm(x: Tensor, name: str) -> Tensor:
        shape = (-1, *[1] * (x.ndim - 2))
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        scale = state[f"{name}.weight"] / (var + 0.001).sqrt()
        return (x - mean.view(shape)) * scale.view(shape) + state[f"{name}.bias"].view(shape)

    norms = {conv: name for conv, name, _ in convolutions(lr)}

    def layer(x: Tensor, conv: str) -> Tensor:
        weight = state[f"{conv}.weight"]
        padding = [size // 2 for size in weight.shape[2:]]
        stride = (1, 2, 2) if weight.ndim == 5 and weight.shape[1] == 1 else 1
        out = (F.conv3d if weight.ndim == 5 else F.conv2d)(x, weight, None, stride, padding)
        return F.relu(norm(out, norms[conv]))

    def encode(x: Tensor, side: str, letter: str) -> Tensor:
        for n in (1, 2, 3):
            path = f"model.{side}.block{n}."
            if lr:
                for name in (f"{letter}_1", f"{letter}_2", "t_1", "t_2"):
                    x = layer(x, path + name)
            else:
                x = sum(layer(layer(x, f"{path}{letter}_{k}"), f"{path}t_{k}") for k in (3, 5))
                x = layer(x, path + "last")
            if n < 3 and letter == "s":
                x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
            elif n < 3:
                x = F.max_pool2d(x, (1, 3), (1, 2), (0, 1))
        return (x.amax((3, 4)) if letter == "s" else x.mean(2))[0].T

    def gru(x: Tensor, way: str) -> Tensor:
        name = f"model.{'detector' if lr else 'GRU'}.gru_{way}."
        w, u = state[name + "weight_ih_l0"], state[name + "weight_hh_l0"]
        b, c = state[name + "bias_ih_l0"], state[name + "bias_hh_l0"]
        h, out = torch.zeros(u.shape[1]), []
        for row in x if way == "forward" else x.flip(0):
            (r, z, n), (rh, zh, nh) = (w @ row + b).chunk(3), (u @ h + c).chunk(3)
            reset, keep = (r + rh).sigmoid(), (z + zh).sigmoid()
            h = (1 - keep) * (n + reset * nh).tanh() + keep * h
            out.append(h)
        return torch.stack(out) if way == "forward" else torch.stack(out).flip(0)

    def gate(x: Tensor, name: str) -> Tensor:
        said = norm(F.conv1d(x.T[None], state[f"{name}.attention.weight"]), f"{name}.bn")
        return x * said.sigmoid()[0].T

    seen = encode((pictures.float()[None, None] / 255 - 0.4161) / 0.1688, "visualEncoder", "s")
    sound = encode(heard.T[None, None], "audioEncoder", "m")
    if lr:
        x = gate(torch.cat((sound, seen), 1), "model.fusion")
        x = gate(torch.cat((gru(x, "forward"), gru(x, "backward")), 1), "model.detector.attention")
    else:
        x = F.gelu(gru(F.gelu(gru(sound + seen, "forward")), "backward"))
    heads = [(x, "lossAV"), (seen, "lossV")]
    both, looks = (F.linear(y, state[f"{h}.FC.weight"], state[f"{h}.FC.bias"]) for y, h in heads)
    return both[:, 1], looks[:, 1]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """`avsl-train` in this process; its exit code."""
    monkeypatch.setattr(sys, "argv", ["avsl-train", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


@pytest.fixture(scope="module", params=[False, True], ids=["Light-ASD", "LR-ASD"])
def lr(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def file(lr: bool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "made_up.model"
    torch.save(made_up(lr), path)
    return path


def some(faces: int, time: int) -> tuple[Tensor, Tensor]:
    made = torch.Generator().manual_seed(time)
    pictures = torch.randint(0, 256, (faces, time, 112, 112), dtype=torch.uint8, generator=made)
    return pictures, torch.randn(faces, 4 * time, 13, generator=made) * 5


def test_scores_are_those_of_the_published_tensors(file: Path, lr: bool) -> None:
    network, (pictures, heard) = load_speakers(file), some(2, 4)
    with torch.inference_mode():
        speaks, looks = network(pictures, heard)
    for face in range(2):
        both, alone = reference(made_up(lr), pictures[face], heard[face], lr)
        torch.testing.assert_close(speaks[face], both, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(looks[face], alone, atol=1e-5, rtol=1e-4)
    assert speaks.std() > 1e-3 and looks.std() > 1e-3, "nothing would differ"


def test_sound_and_picture_both_count(file: Path) -> None:
    network, (pictures, heard) = load_speakers(file), some(1, 3)
    with torch.inference_mode():
        speaks, looks = network(pictures, heard)
        other, same = network(pictures, heard.flip(1))
        moved, seen = network(pictures.flip(1), heard)
    assert torch.equal(looks, same) and not torch.allclose(looks, seen)
    assert not torch.allclose(speaks, other) and not torch.allclose(speaks, moved)


def test_import_writes_a_graph_that_says_the_same(
    file: Path,
    lr: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "looks" / "mine"
    assert run(monkeypatch, "import", file, "-o", out) == 0
    title = "LR-ASD" if lr else "Light-ASD"
    said = capsys.readouterr().out
    assert said.startswith(f"{out}: {title}; learnt from: unknown") and said.count("\n") == 1
    meta = json.loads((out / "look.json").read_text("utf-8"))
    assert meta["network"] == title and meta["source"].endswith(title)
    assert meta["licence"].startswith("unknown"), "only the authors' own files are known"
    assert sorted(path.name for path in out.iterdir()) == ["look.json", "look.onnx"]

    import onnxruntime as ort

    session = ort.InferenceSession(str(out / "look.onnx"), providers=["CPUExecutionProvider"])
    network = load_speakers(file)
    for faces, time in ((1, 1), (3, 5)):
        pictures, heard = some(faces, time)
        with torch.inference_mode():
            wanted = network(pictures, heard)
        got = session.run(None, {"pictures": pictures.numpy(), "mfcc": heard.numpy()})
        for one, other in zip(got, wanted, strict=True):
            np.testing.assert_allclose(one, other.numpy(), atol=1e-4, rtol=1e-4)
    pictures, heard = some(1, 5)
    asked = pictures[0].numpy(), heard[0].numpy()
    np.testing.assert_allclose(open_look(out)(*asked), look_of(network)(*asked), rtol=1e-4)

    assert run(monkeypatch, "import", file, "-o", out) == 2
    assert "is there already" in capsys.readouterr().err
    (out / "look.onnx").write_bytes(b"another")
    with pytest.raises(UserError, match="import it again"):
        open_look(out)
    with pytest.raises(UserError, match="not what avsl-train import makes"):
        open_look(tmp_path)


def without(state: State, key: str) -> State:
    return {name: tensor for name, tensor in state.items() if name != key}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: without(s, "lossV.FC.bias"), "1 of 192 tensors are missing"),
        (lambda s: s | {"model.more": torch.zeros(1)}, "model.more is not of it"),
        (lambda s: s | {"lossV.FC.bias": torch.zeros(3)}, r"lossV.FC.bias is \(3,\), not \(2,\)"),
        (lambda s: s | {"lossV.FC.bias": torch.full((2,), torch.nan)}, "no finite number"),
        (lambda s: s | {"lossV.FC.bias": "two"}, "lossV.FC.bias is str"),
        (lambda s: s | {"model.visualEncoder.block1.bn_s_3.x": torch.zeros(1)}, "not of it"),
        (lambda s: s | {"module.lossV.FC.bias": torch.zeros(2)}, "twice"),
        (lambda s: {"imgnet.conv1.weight": torch.zeros(2)}, "neither of Light-ASD nor of LR-ASD"),
        (lambda s: [*s.values()], "holds no state-dict"),
        (lambda s: {1: torch.zeros(2)}, "holds no state-dict"),
        (lambda s: {}, "neither of Light-ASD"),
        (lambda s: Path("code"), "reads no state-dict"),
    ],
)
def test_what_is_something_else_is_refused(
    change: Any,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "other.model"
    torch.save(change(made_up(False)), path)
    assert run(monkeypatch, "import", path, "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {path}: ") and error.count("\n") == 1
    with pytest.raises(UserError, match=says):
        load_speakers(path)
    assert [one.name for one in tmp_path.iterdir()] == ["other.model"]


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04", b"RIFF" + bytes(90), b"\x80\x02."])
def test_files_of_no_kind_are_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "any.model"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match="any") as error:
        load_speakers(path)
    assert "\n" not in str(error.value)


def test_of_a_file_nothing_is_run(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "harm",)

    torch.save({"model.GRU.x": Harm()}, tmp_path / "harmful.model")
    with pytest.raises(UserError, match="reads no state-dict"):
        load_speakers(tmp_path / "harmful.model")
    assert not (tmp_path / "harm").exists()


def test_weights_of_several_gpus_are_taken(tmp_path: Path) -> None:
    state = made_up(False)
    torch.save({f"module.{key}": tensor for key, tensor in state.items()}, tmp_path / "ddp.model")
    torch.save(state, tmp_path / "one.model")
    asked = some(1, 3)
    with torch.inference_mode():
        one, other = (load_speakers(tmp_path / f"{n}.model")(*asked) for n in ("ddp", "one"))
    assert torch.equal(one[0], other[0])
