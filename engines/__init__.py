"""What an engine is (networks, windows, bundles) and how it runs: what somebody's own program needs
of it, with an example each in demos/PYTHON.md.

Names are imported when they are first asked for: an error message needs no numpy, and where a
window is to be opened, cv2 must be imported before the av that pictures need.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avsl.engines.backends.opening import open_engine
    from avsl.engines.bundle import DEFAULT, Bundle, EngineSpec, Thresholds, load_bundle
    from avsl.engines.choose import choose_engine, kinds_of
    from avsl.engines.engine import Engine, Localizer, NetworkEngine, speakers_for
    from avsl.engines.errors import UserError
    from avsl.engines.localization import Localization, State, describe, level_db
    from avsl.engines.pictures import Picture, Resizer
    from avsl.engines.windows import Samples, SoundTimeline, WindowSpec

# ONNX Runtime reports its use to Microsoft, unless it is told not to before it is loaded, and
# nothing leaves the computer.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"

_HOMES = {
    "backends.opening": ("open_engine",),
    "bundle": ("DEFAULT", "Bundle", "EngineSpec", "Thresholds", "load_bundle"),
    "choose": ("choose_engine", "kinds_of"),
    "engine": ("Engine", "Localizer", "NetworkEngine", "speakers_for"),
    "errors": ("UserError",),
    "localization": ("Localization", "State", "describe", "level_db"),
    "pictures": ("Picture", "Resizer"),
    "windows": ("Samples", "SoundTimeline", "WindowSpec"),
}

__all__ = [
    "DEFAULT",
    "Bundle",
    "Engine",
    "EngineSpec",
    "Localization",
    "Localizer",
    "NetworkEngine",
    "Picture",
    "Resizer",
    "Samples",
    "SoundTimeline",
    "State",
    "Thresholds",
    "UserError",
    "WindowSpec",
    "choose_engine",
    "describe",
    "kinds_of",
    "level_db",
    "load_bundle",
    "open_engine",
    "speakers_for",
]


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"avsl.engines.{module}"), name)
    raise AttributeError(f"module {__name__} has no attribute {name}")
