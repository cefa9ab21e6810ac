"""A training's settings: a TOML file becomes a frozen dataclass; unknown keys are refused."""

from __future__ import annotations

import difflib
import tomllib
from dataclasses import dataclass, fields, replace
from pathlib import Path

from avsl.engines import UserError


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a supervised fit on scenes."""

    name: str = "scenes"
    seed: int = 1
    cutouts: str = ""
    """Folder with a person's own cut-outs (see demos/cutouts.py); empty: the drawn families."""
    pictures: int = 20_000
    """Pictures rendered once; sounds are mixed anew for every step."""
    voices: int = 250
    """Individual voices of each family."""
    steps: int = 6_000
    batch: int = 64
    lr: float = 2e-3
    weight_decay: float = 0.01
    warmup: int = 200
    positive_weight: float = 2.0
    """Weight of sounding cells in the cross entropy; 2 puts the best threshold near 0.5."""
    peak_weight: float = 0.1
    """Weight of the term that draws the map's peak into the thing."""
    ema: float = 0.998
    """Decay of the averaged weights, which are the ones that are exported."""
    held_out: int = 1_000
    """Scenes for validation and, with other seeds, for calibration."""


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Reads `path` (TOML) and applies `key=value` overrides.

    Raises:
        UserError: the file can't be read, or a key or the type of a value is not the recipe's.
    """
    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: not a TOML file ({error})") from None
    for override in overrides or []:
        key, _, text = override.partition("=")
        try:
            settings[key.strip()] = tomllib.loads(f"x = {text}")["x"]
        except ValueError:
            settings[key.strip()] = text
    known = {field.name: type(field.default) for field in fields(Recipe)}
    for key, value in settings.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; it knows {', '.join(known)}"
            raise UserError(f"{path}: no such setting: {key}{hint}")
        if known[key] is float and type(value) is int:
            settings[key] = float(value)
        elif type(value) is not known[key]:
            raise UserError(f"{path}: {key} must be {known[key].__name__}, not {value!r}")
    return replace(Recipe(), **settings)
