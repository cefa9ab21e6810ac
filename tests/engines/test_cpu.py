"""Which CPU backend is chosen: the faster one that gives the same maps, measured once."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import ToneEngine

from avsl.engines import Bundle, UserError
from avsl.engines.backends import cpu
from avsl.engines.backends.cpu import open_cpu

BUNDLE = replace(ToneEngine.bundle, meta={"sha256": {"sound.onnx": "1", "picture.onnx": "2"}})


class Clock:
    """In place of `time`: it goes on when a double works, and is not held up by what else runs."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


CLOCK = Clock()


class Double(ToneEngine):
    """A backend that takes `seconds` a picture, divided by its threads."""

    seconds, wrong, ran = 0.001, 0.0, 0

    def __init__(self, bundle: Bundle, threads: int | None = None, precision: str = "") -> None:
        self.threads, self.precision = threads, precision
        self.why = type(self).__name__

    def localize(self, picture: np.ndarray, embedding: np.ndarray) -> np.ndarray:
        type(self).ran += 1
        CLOCK.now += self.seconds / (self.threads or 1)
        return super().localize(picture, embedding) + np.float32(self.wrong)


@pytest.fixture(autouse=True)
def backends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[type[Double], type[Double]]:
    """ONNX Runtime and OpenVINO, both quick, with a cache folder of their own and two cores."""
    doubles = type("Onnx", (Double,), {}), type("Open", (Double,), {})
    monkeypatch.setattr(cpu, "OnnxRuntimeEngine", doubles[0])
    monkeypatch.setattr(cpu, "OpenVinoEngine", doubles[1])
    monkeypatch.setattr(cpu, "time", CLOCK)
    monkeypatch.setattr(cpu, "_version", lambda package: "1.0")
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return doubles


@pytest.mark.parametrize("faster", [0, 1])
def test_the_faster_is_chosen_and_said(
    backends: tuple[type[Double], type[Double]], faster: int
) -> None:
    backends[1 - faster].seconds = 0.006
    engine = open_cpu(BUNDLE)
    assert isinstance(engine, backends[faster])
    assert "\n" not in engine.why
    assert backends[faster].__name__ in engine.why
    assert "measured here" in engine.why
    assert ["ONNX Runtime", "OpenVINO"][1 - faster] + " takes" in engine.why


def test_one_that_is_asked_for_is_taken(backends: tuple[type[Double], type[Double]]) -> None:
    for name, double, other in zip(
        ("onnxruntime", "openvino"), backends, reversed(backends), strict=True
    ):
        double.seconds, other.seconds = 0.006, 0.001
        assert isinstance(open_cpu(BUNDLE, name), double)


def test_what_was_measured_is_remembered(
    backends: tuple[type[Double], type[Double]], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = open_cpu(BUNDLE).why
    ran = [double.ran for double in backends]
    assert min(ran) > 2
    assert open_cpu(BUNDLE).why == first
    assert [double.ran for double in backends] == ran
    for change in (
        lambda: open_cpu(replace(BUNDLE, meta={"sha256": {"sound.onnx": "3"}})),
        lambda: (monkeypatch.setattr(cpu, "_version", lambda _: "1.1"), open_cpu(BUNDLE)),
        lambda: (monkeypatch.setattr(cpu, "cpu", lambda: "another"), open_cpu(BUNDLE)),
    ):
        ran = [double.ran for double in backends]
        change()
        assert min(now - then for now, then in zip((d.ran for d in backends), ran, strict=True)) > 2


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "[{}]", '[{"backend": "none", "threads": 1, "ms": 1}]', "\0"]
)
def test_a_broken_cache_is_measured_again(
    backends: tuple[type[Double], type[Double]], tmp_path: Path, text: str
) -> None:
    open_cpu(BUNDLE)
    (file,) = (tmp_path / "avsl" / "cpu").iterdir()
    file.write_text(text)
    ran = backends[0].ran
    open_cpu(BUNDLE)
    assert backends[0].ran > ran
    rows = json.loads(file.read_text())
    assert [row["backend"] for row in rows] == ["onnxruntime", "openvino"]


def test_a_cache_that_can_t_be_written_is_done_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert "measured here" in open_cpu(BUNDLE).why


def test_one_whose_maps_differ_is_not_taken(backends: tuple[type[Double], type[Double]]) -> None:
    backends[0].seconds, backends[1].wrong = 0.005, 0.2
    assert isinstance(open_cpu(BUNDLE), backends[0])
    alone = open_cpu(BUNDLE, "openvino")
    assert (type(alone), alone.precision) == (backends[1], "f32")


def test_a_heavy_network_gets_all_cores(backends: tuple[type[Double], type[Double]]) -> None:
    for double in backends:
        double.seconds = 0.02
    assert {setup.threads for setup in cpu.measure(BUNDLE)} == {1, 2}
    assert [open_cpu(BUNDLE, name).threads for name in ("onnxruntime", "openvino")] == [2, 2]


def test_a_light_network_leaves_a_core(backends: tuple[type[Double], type[Double]]) -> None:
    assert {setup.threads for setup in cpu.measure(BUNDLE)} == {1}


def test_where_openvino_can_t_be_opened_the_other_is_taken(
    monkeypatch: pytest.MonkeyPatch, backends: tuple[type[Double], type[Double]]
) -> None:
    def broken(*arguments: object, **named: object) -> None:
        raise UserError("OpenVINO can't be used here (libtbb.so is missing)")

    monkeypatch.setattr(cpu, "OpenVinoEngine", broken)
    assert isinstance(open_cpu(BUNDLE), backends[0])
    with pytest.raises(UserError, match="libtbb"):
        open_cpu(BUNDLE, "openvino")


def test_where_openvino_is_missing_nothing_is_measured(
    monkeypatch: pytest.MonkeyPatch, backends: tuple[type[Double], type[Double]], tmp_path: Path
) -> None:
    monkeypatch.setattr(cpu, "_version", lambda package: "")
    engine = open_cpu(BUNDLE)
    assert backends[0].ran == 0
    assert not list(tmp_path.iterdir())
    assert "only CPU backend installed" in engine.why
