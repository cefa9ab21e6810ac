"""Which methods there are. Recipes are read without torch, so nothing is imported here."""

from __future__ import annotations

METHODS = {
    "own": "avsl.train.methods.own",
    "ez-vsl": "avsl.train.methods.ez_vsl",
}
"""The module of each, which has a `METHOD` (see method.py), by the name that recipes give it."""
DMT = "avsl.train.methods.dmt"
"""The one that stands over those without stages of their own."""
