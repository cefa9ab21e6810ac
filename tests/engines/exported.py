"""Bundles of every kind of graph that there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from avsl.engines import Bundle, load_bundle
from avsl.engines.choose import SHIPPED

KINDS = (
    *(name for name, folder in SHIPPED.items() if folder.exists()),
    *("two small", "paper's pair", "DMT's", "imported"),
)
"""What ships; two small networks; the paper's size; what DMT exports of its two teachers; EZ-VSL's
network of two ResNets and three seconds, with weights under torchvision's names."""
NAMED = "real"
"""The one of them that knows things by name."""


def exported(kind: str, folder: Path) -> Bundle:
    """One of `KINDS`, in `folder` where it doesn't ship; skips where there is no torch."""
    if kind in SHIPPED:
        return load_bundle(SHIPPED[kind])
    needs = "exporting needs the extra: pip install '.[train]'"
    torch = pytest.importorskip("torch", reason=needs)
    pytest.importorskip("onnxscript", reason=needs)
    torch.set_num_threads(1)  # beside others on two cores, threads spin for minutes
    torch.manual_seed(0)
    from avsl.engines.networks import Ensemble, Network, NetworkSpec
    from avsl.train.export import write_bundle
    from avsl.train.papers_pair import THRESHOLDS, write_papers_pair

    if kind == "paper's pair":
        write_papers_pair(folder)
        return load_bundle(folder)
    if kind == "two small":
        sounds = ("log-mel", "wave")
        networks = Ensemble([Network(NetworkSpec(sound=sound, width=8)) for sound in sounds])
    elif kind == "DMT's":
        from avsl.train.data.material import spec_of
        from avsl.train.methods.method import method_of
        from avsl.train.recipe import recipe_of

        recipe = recipe_of({"picture": "medium", "combine": "product"}, kind)
        teachers = [Network(spec_of(recipe, k)) for k in range(len(recipe.sounds))]
        networks = method_of(recipe).export(teachers, recipe.combine)
    else:
        from test_backbones import torchvision_state

        from avsl.engines.networks.backbones import from_torchvision

        spec = NetworkSpec(16_000, 48_000, (224, 224), "resnet18", "resnet18", embedding=512)
        network = Network(spec)
        network.picture.body.load_state_dict(from_torchvision(torchvision_state()))
        networks = Ensemble([network])
    write_bundle(networks, folder, name="t", version="0", thresholds=THRESHOLDS, training={})
    return load_bundle(folder)
