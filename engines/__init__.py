"""What an engine is (networks, windows, bundles) and how it runs."""

from avsl.engines.bundle import DEFAULT, Bundle, Thresholds, load_bundle
from avsl.engines.engine import Engine, Localizer, open_engine
from avsl.engines.errors import UserError
from avsl.engines.localization import Localization, State, level_db
from avsl.engines.pictures import Picture, Resizer
from avsl.engines.windows import Samples, SoundTimeline, WindowSpec

__all__ = [
    "DEFAULT",
    "Bundle",
    "Engine",
    "Localization",
    "Localizer",
    "Picture",
    "Resizer",
    "Samples",
    "SoundTimeline",
    "State",
    "Thresholds",
    "UserError",
    "WindowSpec",
    "level_db",
    "load_bundle",
    "open_engine",
]
