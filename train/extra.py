"""What training needs beside what running does: the extra `train`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from avsl.engines.errors import UserError

PACKAGES = ("torch", "accelerate", "safetensors", "onnx", "onnxscript", "matplotlib")
TEACHING = ("ai_edge_litert",)
"""What running the teachers needs besides: the extra `teach`."""


def need_all(*more: str) -> None:
    """To be called before a training of hours, at whose end the last of them is needed.

    Raises:
        ModuleNotFoundError: one isn't installed; see `extra_train`.
    """
    for name in (*PACKAGES, *more):
        if find_spec(name) is None:
            raise ModuleNotFoundError(f"no {name}", name=name)


@contextmanager
def extra_train() -> Iterator[None]:
    """What the programs that train run in, their imports too.

    Raises:
        UserError: one of the packages isn't installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in (*PACKAGES, *TEACHING):
            raise
        extra = "teach" if missing in TEACHING else "train"
        raise UserError(f"training needs {missing}; pip install '.[{extra}]'") from None
