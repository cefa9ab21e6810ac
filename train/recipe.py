"""A training's settings: a TOML file becomes a frozen dataclass; unknown keys are refused.

`extends = "other.toml"`, relative to the file, takes another recipe's settings first.
"""

from __future__ import annotations

import difflib
import json
import tomllib
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from avsl.demos.scenes import DRAWN, Cast
from avsl.demos.scenes.cutouts import PREPARED, load_cutouts
from avsl.engines import UserError
from avsl.engines.bundle import NAME_LETTERS, is_name
from avsl.train.methods.registry import METHODS

CHOICES = {
    "picture": ("small", "medium", "resnet18"),
    "sounds": ("log-mel", "wave", "vggish", "soundnet", "resnet18"),
    "accept": ("agreement", "not-empty", "confident", "all"),
    "label": ("intersection", "own", "union", "none"),
    "combine": ("mean", "product", "A", "B"),
    "picture_at": ("end", "middle"),
    "start_with": ("both", "picture"),
    "precision": ("bf16", "fp32"),
}
"""What a setting of words may say."""
SHARE, WEIGHT, STEPS, CLIPS = (0, 1), (0, 1000), (0, 10_000_000), (0, 10_000_000)
RANGES: dict[str, tuple[float, float]] = {
    # Scenes that choose, calibrate and test are of series from 900 000 on.
    "seed": (0, 899_999),
    **dict.fromkeys(("labelled", "validation"), (1, CLIPS[1])),
    "unlabelled": CLIPS,
    "held_out": (1, 1_000_000),
    "voices": (1, 100_000),
    "size": (32, 1024),
    "seconds": (0.5, 60),
    "width": (1, 512),
    "embedding": (1, 4096),
    **dict.fromkeys(("kinds_steps", "warm_up_steps", "steps", "distill_steps"), STEPS),
    **dict.fromkeys(("lr_warm_up", "pseudo_ramp"), STEPS),
    **dict.fromkeys(("checkpoint_every", "validate_every"), (1, STEPS[1])),
    "labelled_batch": (1, 4096),
    "unlabelled_batch": (0, 4096),
    "accumulate": (1, 1024),
    "workers": (0, 256),
    "lr": (1e-8, 1),
    "weight_decay": SHARE,
    "temperature": (0.001, 100),
    **dict.fromkeys(("contrastive_weight", "pixel_weight", "positive_weight"), WEIGHT),
    **dict.fromkeys(("peak_weight", "pseudo_weight"), WEIGHT),
    **dict.fromkeys(("silent", "mismatched", "speeds"), SHARE),
    **dict.fromkeys(("delta", "tau", "confidence", "ema"), SHARE),
}
"""Least and most of every setting that is a number. What lies outside can't be trained with, or is
a slip: a rate of learning that is none, a network that no memory holds."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a training. Where DMT's paper is silent or was not at hand, the
    comment says where the value comes from: [paper?] recalled, unconfirmed; [bench] our own."""

    name: str = "dmt"
    seed: int = 1

    data: str = ""
    """Folder of clips (frames/ audio/ boxes.json); empty: scenes, drawn here."""
    test: str = ""
    """Folder of clips to be tested on: what is in it is never trained on, and the scores in the
    model card are measured on it."""
    picture_at: str = "end"
    """Where in a clip's sound its picture was taken."""
    cutouts: str = ""
    """Scenes of a person's own cut-outs (demos/scenes/cutouts.py), or what `avsl-train prepare`
    made; empty: the drawn families."""
    voices: int = 250
    """Scenes: individual voices of each family; sounds are mixed anew for every step."""
    speeds: float = 0.0
    """Scenes: how far voices are played faster and higher, or slower and lower, anew for every step
    (the standard deviation of the speed's logarithm). Not for kinds that differ by their pitch."""
    labelled: int = 256
    """|D_l|: clips whose boxes are used."""
    unlabelled: int = 10_000
    """|D_u|: clips without, or whose boxes are not looked at."""
    validation: int = 200
    """Labelled clips set aside: they choose the best checkpoint, the calibration and the
    thresholds."""

    size: int = 160
    """Width and height of the network's picture, in pixels."""
    seconds: float = 1.0
    """Length of a window."""
    picture: str = "small"
    sounds: tuple[str, ...] = ("log-mel", "wave")
    """Sound encoder of A and of B; one name trains a single pair. [paper?] VGGish and SoundNet."""
    width: int = 16
    embedding: int = 64
    imagenet: bool = False
    """Picture encoders (resnet18) begin with torchvision's ImageNet weights."""

    start: str = ""
    """Run folder of the same networks whose best ones this training goes on from; empty: anew."""
    start_with: str = "both"
    """Which encoders it takes from there: with `picture`, that of sound begins anew."""
    kinds_steps: int = 0
    """Stage 0, on scenes: telling kinds of things and of sounds apart (see kinds.py)."""
    warm_up_steps: int = 600
    """Stage 1: both students on the labelled clips."""
    steps: int = 2_000
    """Stage 2: unbiased learning."""
    distill: bool = False
    """Stage 3: one network learns from the two teachers, and is what is exported."""
    distill_steps: int = 800
    labelled_batch: int = 8
    unlabelled_batch: int = 24
    lr: float = 2e-3
    weight_decay: float = 0.01
    lr_warm_up: int = 50

    base: str = "own"
    """The method (see methods/): `own`, `ez-vsl`. DMT stands over those without stages of their
    own."""
    temperature: float = 0.1
    """tau of the contrastive term. EZ-VSL's 0.03 collapses from scratch [bench]."""
    contrastive_weight: float = 0.5
    """lambda_u. [paper?] 1"""
    pixel_weight: float = 10.0
    """Of the pixel-wise loss, on boxes and pseudo-labels alike."""
    positive_weight: float = 2.0
    """Of sounding cells in the cross entropy; 2 puts the best threshold near 0.5 [bench]."""
    peak_weight: float = 0.01
    """Of the term that draws the map's peak into the thing."""
    pseudo_weight: float = 1.0
    pseudo_ramp: int = 200
    """Steps of stage 2 over which `pseudo_weight` grows from zero."""
    silent: float = 0.05
    """Share of clips whose sound is replaced by silence or noise, with nothing as the target."""
    mismatched: float = 0.05
    """Share of labelled clips that are given another clip's sound, with nothing as the target."""

    delta: float = 0.5
    """Maps are binarised here. [paper?] 0.6; [bench] 0.5: masks of 0.6 shrink, of 0.3 spread."""
    tau: float = 0.65
    """IoU of the teachers' masks from which a clip is accepted. [paper?] 0.7; [bench] 0.65"""
    accept: str = "agreement"
    """Noise filter. `agreement`: IoU >= tau; `not-empty`; `confident`: mean probability inside the
    label >= `confidence`; `all`."""
    confidence: float = 0.8
    label: str = "intersection"
    """Pseudo-label: IPL, the `own` teacher's mask, the `union`, or `none`: supervised only."""
    ema: float = 0.995
    """Decay of the teachers; 0 copies the students, 1 freezes the teachers. [paper?] 0.999"""
    combine: str = "mean"
    """Which of the teachers' maps is exported."""

    precision: str = "bf16"
    accumulate: int = 1
    """Batches whose gradients are added up before the weights move."""
    workers: int = 1
    checkpoint_every: int = 200
    validate_every: int = 200
    held_out: int = 1_000
    """Scenes for calibration and, with another seed, for the scores in the model card."""

    @property
    def batch(self) -> int:
        """Clips a step."""
        return self.labelled_batch + self.unlabelled_batch


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Reads `path` (TOML) and applies `key=value` overrides.

    Raises:
        UserError: the file can't be read, or a key or the type of a value is not the recipe's.
    """
    settings = _read(path)
    for override in overrides or []:
        key, _, text = override.partition("=")
        try:
            settings[key.strip()] = tomllib.loads(f"x = {text}")["x"]
        except (ValueError, RecursionError):
            settings[key.strip()] = text
    return recipe_of(settings, str(path))


def recipe_of(settings: dict[str, Any], where: str) -> Recipe:
    """A recipe from plain settings; `where` names their source in an error."""
    known = {field.name: type(field.default) for field in fields(Recipe)}
    checked: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"; did you mean {near[0]}?" if near else f"; it knows {', '.join(known)}"
            raise UserError(f"{where}: no such setting: {key}{hint}")
        if known[key] is tuple and type(value) is list:
            value = tuple(value)
        if type(value) is not known[key] and (known[key], type(value)) != (float, int):
            kind = "a list of words" if known[key] is tuple else known[key].__name__
            raise UserError(f"{where}: {key} must be {kind}, not {type(value).__name__}")
        if key in RANGES:
            low, high = RANGES[key]
            if not low <= value <= high:  # so that what is no number is refused, too
                raise UserError(f"{where}: {key} must be at least {low} and at most {high}")
            value = float(value) if known[key] is float else value
        if known[key] is str and not _is_text(value):
            raise UserError(f"{where}: {key} holds what can't be written as text")
        choices = tuple(METHODS) if key == "base" else CHOICES.get(key)
        for word in value if isinstance(value, tuple) else (value,):
            if choices and word not in choices:
                raise UserError(f"{where}: {key} must be one of {', '.join(choices)}")
        checked[key] = value
    recipe = replace(Recipe(), **checked)
    _check(recipe, where)
    return recipe


def _is_text(word: str) -> bool:
    try:
        word.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return "\0" not in word


def _check(recipe: Recipe, where: str) -> None:
    if not is_name(recipe.name):
        raise UserError(f"{where}: name must be up to {NAME_LETTERS} letters that can be printed")
    if not 1 <= len(recipe.sounds) <= 2:
        raise UserError(f"{where}: sounds must name one encoder or two")
    if recipe.accept == "agreement" and not recipe.tau:
        raise UserError(f'{where}: tau = 0 accepts everything; that is accept = "all"')
    if recipe.batch < 2:
        raise UserError(f"{where}: a batch needs two clips or more")
    if recipe.unlabelled_batch and not recipe.unlabelled:
        raise UserError(f"{where}: without unlabelled clips, unlabelled_batch must be 0")
    if recipe.kinds_steps and recipe.data:
        raise UserError(f"{where}: kinds are known of scenes alone; set kinds_steps = 0")
    stages = recipe.kinds_steps, recipe.warm_up_steps, recipe.steps
    if not any(stages) and not recipe.distill * recipe.distill_steps:
        raise UserError(f"{where}: no stage has any steps")
    stride = 16 if recipe.picture == "small" else 32
    if recipe.size % stride:
        raise UserError(f"{where}: size must be a multiple of {stride}")
    small = set(recipe.sounds) <= {"log-mel", "wave"}
    if recipe.seconds < (0.5 if small else 1.0):
        raise UserError(f"{where}: seconds must be at least {0.5 if small else 1.0}")
    if not recipe.data and recipe.seconds > 1:
        raise UserError(f"{where}: seconds must be at most 1.0 for scenes")


def _read(path: Path, depth: int = 0) -> dict[str, Any]:
    try:
        settings = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not a TOML file ({error})") from None
    parent = settings.pop("extends", None)
    if parent is None:
        return settings
    if depth > 3 or not isinstance(parent, str):
        raise UserError(f"{path}: extends must name a recipe, and not in a circle")
    return _read(path.parent / parent, depth + 1) | settings


class Casts(NamedTuple):
    """What scenes are composed of, apart from each other where `avsl-train prepare` has split it;
    otherwise all the same, and the seeds of the scenes differ."""

    train: Cast
    validation: Cast
    test: Cast


DRAWN_CASTS = Casts(DRAWN, DRAWN, DRAWN)


def casts_of(cutouts: Path | str | None) -> Casts:
    """The casts that `cutouts` names; see `cast_of`."""
    if cutouts and (Path(cutouts) / PREPARED).exists():
        return Casts(*(cast_of(cutouts, split) for split in Casts._fields))
    return Casts(*[cast_of(cutouts, "train")] * 3) if cutouts else DRAWN_CASTS


def cast_of(cutouts: Path | str | None, split: str) -> Cast:
    """The cast that `cutouts` names: a folder, of one that is split its part `split`, or nothing
    for the drawn families.

    Raises:
        UserError: the folder holds no cast.
    """
    if not cutouts:
        return DRAWN
    folder = Path(cutouts)
    try:
        return load_cutouts(folder / split if (folder / PREPARED).exists() else folder)
    except ValueError as error:
        raise UserError(str(error)) from None


def differences(old: Recipe, new: Recipe) -> list[str]:
    """A few words for each setting in which two recipes differ."""
    was, now = asdict(old), asdict(new)
    return [f"{k} = {_toml(was[k])}, not {_toml(now[k])}" for k in was if was[k] != now[k]]


def to_toml(recipe: Recipe) -> str:
    """The whole recipe as TOML."""
    return "".join(f"{key} = {_toml(value)}\n" for key, value in asdict(recipe).items())


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # JSON's escapes are TOML's, which has one more character to escape.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return str(value)
