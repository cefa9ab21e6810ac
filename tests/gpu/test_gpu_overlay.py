"""The resizer and the overlay on a CUDA device: the same as on the CPU."""

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="the GPU path needs torch")

from gpu_ways import (  # noqa: E402
    FORMATS,
    TorchEngine,
    both_ways,
    busy_picture,
    check,
    glow_apart,
    resized_apart,
    sounds,
)
from helpers import ToneEngine, make_video, switching, tone  # noqa: E402

from avsl.engines import open_engine  # noqa: E402
from avsl.engines.bundle import DRAWN  # noqa: E402
from avsl.engines.engine import on_gpu  # noqa: E402
from avsl.realtime.drawing.gpu_overlay import GpuPictures  # noqa: E402
from avsl.realtime.drawing.overlay import Overlay  # noqa: E402
from avsl.realtime.films import annotate  # noqa: E402
from avsl.realtime.sources.frames import Frame  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("size", [(640, 480), (1280, 720), (1920, 1080), (641, 481), (160, 160)])
@pytest.mark.parametrize("format_", FORMATS)
def test_the_resizer_is_the_same(size: tuple[int, int], format_: str) -> None:
    assert resized_apart(busy_picture(*size, format_), (160, 160), "cuda").max() <= 5


@pytest.mark.parametrize("number", range(11))
@pytest.mark.parametrize("format_", FORMATS)
def test_from_one_map_the_glow_is_the_same(number: int, format_: str) -> None:
    apart, glows = glow_apart(number, busy_picture(641, 481, format_), "cuda")
    assert apart <= 2
    assert glows == (number not in (0, 8))


def test_both_parts_become_cuda_graphs() -> None:
    engine = TorchEngine(ToneEngine(), "cuda")
    pictures = GpuPictures(engine, Overlay(engine.spec.thresholds), most=1)
    for k in range(3):
        found, tinted = pictures(Frame(busy_picture(640, 480), 1 + k / 25, k), sounds(tone(440)))
        assert tinted is not None
        assert found.state == "sounding"
    assert pictures._bench is not None
    for work in (pictures._bench.resize, pictures._bench.tint):
        assert isinstance(getattr(work, "__self__", None), torch.cuda.CUDAGraph)


def test_a_film_comes_out_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wave = switching((0.9, 400), (1.5, 2000), (2.1, 0), (9, 500))
    source = make_video(tmp_path / "film.mkv", seconds=2.6, size=(640, 360), waves=(wave,))
    plain, torch_ = both_ways(source, ToneEngine(), monkeypatch, "cuda")
    check(plain, torch_)
    assert {"sounding", "silent"} <= {event["state"] for event in plain[1]}


def test_a_film_with_the_engine_of_this_machine(tmp_path: Path) -> None:
    engine = open_engine(DRAWN)
    if not on_gpu(engine):
        pytest.skip(f"{type(engine).__name__} was chosen, which runs on the CPU")
    source = make_video(tmp_path / "film.mkv", seconds=2.6)
    assert annotate(source, tmp_path / "out.mkv", engine).frames == 65
