"""Practice scenes: things that are seen and heard, with the truth about where. Nothing here knows
of engines.

`looks` and `voices` draw and sound, `cutouts` takes photographs and recordings instead; a `cast` is
what a `scene` is composed of, `movers` are scenes in which things move with their sound.
"""

from avsl.demos.scenes.cast import BENCH, DRAWN, Box, Cast
from avsl.demos.scenes.scene import Kind, Scene, boxes, make_scene, with_sound_of
from avsl.demos.scenes.voices import RATE

__all__ = [
    "BENCH",
    "DRAWN",
    "RATE",
    "Box",
    "Cast",
    "Kind",
    "Scene",
    "boxes",
    "make_scene",
    "with_sound_of",
]
