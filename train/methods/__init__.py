"""How networks learn where a sound comes from: a method is a file.

A file defines `METHOD`, a `method.Method`, and has a line in `METHODS`. The recipe's `base` names
it; DMT (`dmt.py`) stands over every method that has no stages of its own.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from avsl.train.methods.method import Method
    from avsl.train.recipe import Recipe

METHODS = {
    "own": "avsl.train.methods.own",
    "ez-vsl": "avsl.train.methods.ez_vsl",
}
"""Where each method is, by its name; imported when it is asked for, since recipes are read without
torch."""


DMT = "avsl.train.methods.dmt"


def named(name: str) -> Method:
    """The method of a name in `METHODS`."""
    return _of(METHODS[name])


def method_of(recipe: Recipe) -> Method:
    """What trains by a recipe: its `base` in stages of its own, or else DMT over it."""
    base = named(recipe.base)
    return base if base.stages(recipe) else _of(DMT)


def _of(module: str) -> Method:
    return cast("Method", import_module(module).METHOD)
