"""TensorRT on a machine without a GPU: the real builder, and doubles for what needs a driver.

TensorRT for RTX builds plans anywhere. What loads and runs them needs a driver; `Double`s stand for
it, with ONNX Runtime at work behind them, that take only the names, the arguments and the settings
that the real classes have, by pybind11's docstrings.

Of the TensorRT for all GPUs the bindings are an ordinary wheel, the libraries are not to be had.
The bindings import over libraries that hold nothing but the nine functions they look up; with those
every class, enum and docstring is there, and nothing runs. There a `Checked` object takes what its
classes take, and has the real builder of TensorRT for RTX do it.
"""

from __future__ import annotations

import ctypes
import importlib
import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VERSIONS = ("10.16.1.11", "11.4.0.106")
LIBRARIES = ("nvinfer", "nvinfer_plugin", "nvonnxparser")
STAND_IN = """
void *createInferBuilder_INTERNAL(void) { return 0; }
void *createInferRefitter_INTERNAL(void) { return 0; }
void *createInferRuntime_INTERNAL(void) { return 0; }
void *createNvOnnxParser_INTERNAL(void) { return 0; }
void *createNvOnnxParserRefitter_INTERNAL(void) { return 0; }
void *getBuilderPluginRegistry(void) { return 0; }
void *getPluginRegistry(void) { return 0; }
int getNvOnnxParserVersion(void) { return 0; }
int initLibNvInferPlugins(void) { return 1; }
"""


class Missing(Exception):
    """Why the bindings can't be had here."""


def fetch(version: str, folder: Path) -> None:
    """Puts the bindings and the stand-in libraries into `folder`, once."""
    if (folder / "whole").exists():
        return
    if not shutil.which("gcc"):
        raise Missing("no gcc for the stand-in libraries")
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--retries", "1"]
    wheel = f"tensorrt-cu13-bindings=={version}"
    done = subprocess.run(
        [*pip, "--target", folder / "site", wheel], capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        raise Missing(f"pip can't install {wheel}: {done.stderr.strip().splitlines()[-1:]}")
    source = folder / "stand_in.c"
    source.write_text(STAND_IN)
    for library in LIBRARIES:
        name = f"lib{library}.so.{version.split('.')[0]}"
        link = ["-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", folder / name]
        subprocess.run(["gcc", *link, source], check=True)
    (folder / "whole").touch()


def real(folder: Path) -> Any:
    """The bindings from `folder`; one version in a process."""
    for path in sorted(folder.glob("lib*.so.*")):
        ctypes.CDLL(str(path))
    sys.path.insert(0, str(folder / "site"))
    return importlib.import_module("tensorrt_bindings")


# What the real classes take


def overloads(method: Any) -> Iterator[inspect.Signature]:
    """The signatures that a pybind11 method lists in its docstring."""
    for line in (method.__doc__ or "").splitlines():
        if found := re.match(r"\s*(?:\d+\.\s+)?\w+\((.*)\)\s*->", line):
            taken, optional = [], False
            for part in _split(found[1]):
                optional = optional or "=" in part  # C++ may have one without a default after it
                name = re.match(r"\s*(\w+)", part)
                if name and name[1] != "self":
                    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
                    default = None if optional else inspect.Parameter.empty
                    taken.append(inspect.Parameter(name[1], kind, default=default))
            yield inspect.Signature(taken)


def _split(text: str) -> list[str]:
    """At the commas that no bracket holds."""
    parts, depth = [""], 0
    for c in text:
        depth += (c in "([{<") - (c in ")]}>")
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [part for part in parts if part.strip()]


def check_call(cls: type, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
    """Raises TypeError where no overload of the real method takes them."""
    signatures = list(overloads(getattr(cls, name)))
    assert signatures, f"{cls.__name__}.{name} has no signature"
    for signature in signatures:
        try:
            signature.bind(*arguments, **named)
        except TypeError:
            continue
        return
    raise TypeError(f"{cls.__name__}.{name}: none of {signatures} takes {arguments} {named}")


def check_settable(cls: type, name: str) -> None:
    member = getattr(cls, name)  # AttributeError where the real class has no such name
    assert isinstance(member, property) and member.fset, f"{cls.__name__}.{name} can't be set"


class Double:
    """Stands for an object of a real class: has its names and no others, its methods take what
    theirs take, and only what can be set there can be set. Names with a _ are the fake's own."""

    def __init__(self, cls: type, **behaviour: Any) -> None:
        unknown = [name for name in behaviour if name[0] != "_" and not hasattr(cls, name)]
        assert not unknown, f"{cls.__name__} has no {unknown}"
        vars(self).update(_cls=cls, _behaviour=behaviour)

    def __getattr__(self, name: str) -> Any:
        cls, behaviour = vars(self)["_cls"], vars(self)["_behaviour"]
        if name[0] == "_":
            return behaviour[name]
        member = getattr(cls, name)  # AttributeError where the real class has no such name
        if isinstance(member, property):
            return behaviour[name]

        def call(*arguments: Any, **named: Any) -> Any:
            check_call(cls, name, arguments, named)
            return behaviour[name](*arguments, **named)

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        if name[0] != "_":
            check_settable(self._cls, name)
        self._behaviour[name] = value


class Checked:
    """A real object of TensorRT for RTX in the place of one of a class of `fake.trt`."""

    def __init__(self, fake: Any, cls: type, real: Any) -> None:
        vars(self).update(_fake=fake, _cls=cls, _real=real)

    def __getattr__(self, name: str) -> Any:
        fake, cls, real = (vars(self)[key] for key in ("_fake", "_cls", "_real"))
        member = getattr(cls, name)
        if isinstance(member, property):
            return theirs(fake, getattr(real, name))

        def call(*arguments: Any, **named: Any) -> Any:
            check_call(cls, name, arguments, named)
            if instead := fake.instead.get(name):
                return instead(self, *arguments, **named)
            return forward(self, name, *arguments, **named)

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        if name[0] == "_":
            vars(self)[name] = value
        else:
            check_settable(self._cls, name)
            setattr(self._real, name, ours(self._fake, value))


def forward(checked: Checked, name: str, *arguments: Any, **named: Any) -> Any:
    """The real call."""
    fake = checked._fake
    named = {key: ours(fake, value) for key, value in named.items()}
    return theirs(fake, getattr(checked._real, name)(*(ours(fake, x) for x in arguments), **named))


def ours(fake: Any, value: Any) -> Any:
    """Of `fake.trt`, as TensorRT for RTX has it."""
    trt, rtx = fake.trt, fake.rtx
    if isinstance(value, Checked):
        return value._real
    if trt is rtx:
        return value
    if hasattr(type(value), "__members__"):
        return getattr(getattr(rtx, type(value).__qualname__.split(".")[-1]), value.name)
    if isinstance(value, trt.ILogger):
        return fake.told(value)
    if isinstance(value, trt.IProgressMonitor):
        return _monitor(rtx, value)
    return value


def theirs(fake: Any, value: Any) -> Any:
    """The other way."""
    cls = getattr(fake.trt, type(value).__name__, None)
    if not type(value).__module__.startswith("tensorrt_rtx") or cls is None:
        return value
    if hasattr(type(value), "__members__"):
        return getattr(cls, value.name)
    if isinstance(value, fake.rtx.Dims | fake.rtx.IHostMemory):
        return value
    return Checked(fake, cls, value)


def _monitor(rtx: Any, theirs: Any) -> Any:
    class Monitor(rtx.IProgressMonitor):
        def __init__(self) -> None:
            rtx.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            theirs.phase_start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            return theirs.step_complete(phase_name, step)

        def phase_finish(self, phase_name: str) -> None:
            theirs.phase_finish(phase_name)

    return Monitor()
