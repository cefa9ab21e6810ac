"""The paper's pair with random weights, for benchmarks: `python -m avsl.train.papers_pair FOLDER`.

Two networks of a ResNet-18 for pictures, one with VGGish and one with SoundNet for sound, at 224
pixels and a second of sound. What they take doesn't depend on what they have learnt.
"""

from __future__ import annotations

import sys
from pathlib import Path

from avsl.engines.errors import UserError, exit_on_user_error
from avsl.train.extra import extra_train

THRESHOLDS = {"glow": 0.5, "unseen": 0.3, "sounding": 0.5, "gate_db": -60.0, "gate_margin_db": 6.0}


def write_papers_pair(folder: Path) -> None:
    """Writes the bundle to `folder`; its weights are the same every time."""
    import torch

    from avsl.engines.networks import Ensemble, Network, NetworkSpec
    from avsl.train.export import write_bundle

    torch.manual_seed(0)
    networks = [
        Network(
            NetworkSpec(picture_size=(224, 224), picture="resnet18", sound=sound, embedding=512)
        )
        for sound in ("vggish", "soundnet")
    ]
    write_bundle(
        Ensemble(networks),
        folder,
        name="paper's pair",
        version="random",
        thresholds=THRESHOLDS,
        training={},
    )


if __name__ == "__main__":
    with exit_on_user_error(), extra_train():
        if len(sys.argv) != 2:
            raise UserError("where to? python -m avsl.train.papers_pair FOLDER")
        write_papers_pair(Path(sys.argv[1]))
