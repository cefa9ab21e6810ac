"""What the film of `avsl-live --demo` is made of: photographs, recordings, a woman who speaks, and
where each comes from."""

from __future__ import annotations

from dataclasses import dataclass

Rect = tuple[int, int, int, int]
"""Left, top, width, height in pixels."""
Look = tuple[float, float, float]
"""What is seen of a photograph: the middle in 0..1, and the share of its greatest crop."""


@dataclass(frozen=True)
class Credit:
    """Whose a piece is."""

    what: str
    author: str
    source: str
    licence: str


@dataclass(frozen=True)
class Panel:
    """A photograph in its place, or a film, over which the look wanders from `first` to `last`."""

    photo: str
    place: Rect
    first: Look
    last: Look


@dataclass(frozen=True)
class Scene:
    start: float
    panels: tuple[Panel, ...]


@dataclass(frozen=True)
class Take:
    """A piece of a recording, `seconds` from `begin`, heard from `at`."""

    sound: str
    at: float
    begin: float
    seconds: float
    level_db: float = -20.0
    """How loud the piece is on the whole, dBFS."""


SECONDS = 12.0
SIZE = 640, 360

FACE, DOG = "films/speak_grid_b", "dog/dalmatian_image_0044"
GRAND, CAT = "piano/grand_piano_image_0087", "cat/wild_cat_image_0028"
PLAYER, COPTER = "saxophone/saxophone_image_0039", "helicopter/helicopter_image_0012"
BIKE = "motorcycle/Motorbikes_image_0138"
FOUR = (
    Panel(FACE, (6, 6, 311, 171), (0.48, 0.56, 1.00), (0.48, 0.56, 0.96)),
    Panel(DOG, (323, 6, 311, 171), (0.50, 0.44, 0.90), (0.50, 0.50, 1.00)),
    Panel(GRAND, (6, 183, 311, 171), (0.50, 0.46, 1.00), (0.53, 0.50, 0.90)),
    Panel(CAT, (323, 183, 311, 171), (0.60, 0.38, 0.90), (0.50, 0.36, 1.00)),
)
THREE = (
    Panel(PLAYER, (6, 6, 236, 348), (0.50, 0.50, 1.00), (0.585, 0.48, 0.93)),
    Panel(COPTER, (248, 6, 386, 171), (0.50, 0.30, 1.00), (0.50, 0.42, 0.93)),
    Panel(BIKE, (248, 183, 386, 171), (0.474, 0.62, 0.82), (0.474, 0.60, 0.88)),
)
SCENES = Scene(0.0, FOUR), Scene(5.7, THREE)
FADE = 0.4
"""Seconds in which a scene goes over into the next."""

AGAIN = 4.0
"""After so many seconds a film begins again; it goes back from its end until then."""
PIANO, SAX = "piano/Samples-Mf-", "saxophone/Samples-alto-"
TAKES = (
    Take(FACE, 0.45, 0.45, 1.7),
    Take("dog-more/ms-dog-bark", 2.1, 0.0, 1.22, -18),
    *(
        Take(f"{PIANO}{note}", 3.4 + 0.22 * k, 0.0, 0.9, -19)
        for k, note in enumerate(("D4", "F4", "A5", "D5", "F4", "E4", "D4", "F4", "A5", "D4"))
    ),
    Take(FACE, AGAIN + 0.45, 0.45, 1.2, -21),
    Take("motorcycle/ms-motorbike-idle", 5.85, 0.5, 1.35, -19),
    Take(f"{SAX}d3-f-rr1-cnd", 7.25, 0.1, 0.36),
    Take(f"{SAX}e3-f-rr1-cnd", 7.58, 0.1, 0.3),
    Take(f"{SAX}ab3-f-rr1-cnd", 7.85, 0.1, 0.3),
    Take(f"{SAX}e3-f-rr1-cnd", 8.12, 0.1, 0.5),
    Take("helicopter-more/ms-helicopter", 8.65, 0.0, 1.25, -19),
    Take("chicken/ms-rooster", 10.6, 0.0, 1.38, -19),
)
"""Out of view: the rooster. In silence: the first half second."""

CALTECH = "Caltech-101, Li, Andreetto, Ranzato, Perona (2003, published 2022)", "CC BY 4.0"
MOD_SOUNDS = "AntumMT/mod-sounds, "
CREDITS = {
    FACE: Credit(
        "a woman, and what she says", "",
        "GRID audio-visual sentence corpus, Cooke, Barker, Cunningham, Shao (2006)", "CC BY 4.0",
    ),
    "dog/": Credit("a dog", "", *CALTECH),
    "piano/g": Credit("a piano", "", *CALTECH),
    "cat/": Credit("a cat", "", *CALTECH),
    "saxophone/s": Credit("a saxophone, played", "", *CALTECH),
    "helicopter/": Credit("a helicopter", "", *CALTECH),
    "motorcycle/M": Credit("a motorcycle", "", *CALTECH),
    "dog-more/": Credit(
        "barks", "ivolipa", MOD_SOUNDS + "freesound.org/s/328730", "CC0 1.0"
    ),
    PIANO: Credit("notes of a piano", "Akai", "Splendid Grand Piano", "public domain"),
    SAX: Credit("notes of a saxophone", "Karoryfer Samples", "Weresax", "CC0 1.0"),
    "motorcycle/ms": Credit(
        "a motorcycle", "m1rk0", MOD_SOUNDS + "freesound.org/s/23212", "CC BY 3.0"
    ),
    "helicopter-more/": Credit(
        "a helicopter", "Thomas Ryder Payne", MOD_SOUNDS + "freesound.org/s/573170", "CC0 1.0"
    ),
    "chicken/": Credit(
        "a rooster, out of view", "poorenglishjuggler",
        MOD_SOUNDS + "freesound.org/s/269496", "CC0 1.0",
    ),
}  # fmt: skip
"""By the beginning of a file's name."""
