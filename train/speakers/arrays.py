"""What a stage has made, as arrays in a file: there whole, or not at all."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avsl.engines import UserError


def save_arrays(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """
    Raises:
        UserError: it can't be written.
    """
    beside = path.with_name(path.name + ".part")
    try:
        with beside.open("wb") as file:
            np.savez(file, allow_pickle=False, **arrays)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise UserError(f"{path}: can't be written ({error.strerror})") from None


def load_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """
    Raises:
        UserError: it can't be read.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: can't be read ({error}); remove it") from None
