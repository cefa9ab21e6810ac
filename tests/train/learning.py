"""What tests of networks and of their export share: small networks that have learnt a little."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs the extra: pip install '.[train]'")

# Beside others on two cores, threads that wait for each other spin for minutes.
torch.set_num_threads(1)

from torch import Tensor  # noqa: E402

from avsl.demos.scenes import Scene, boxes, make_scene  # noqa: E402
from avsl.engines.networks import Network, NetworkSpec  # noqa: E402
from avsl.train.data.batches import Clips  # noqa: E402
from avsl.train.data.material import spec_of  # noqa: E402
from avsl.train.data.pool import half_size  # noqa: E402
from avsl.train.data.views import STRONG, WEAK, cells_of, pictures_to_input  # noqa: E402
from avsl.train.methods.objectives import pixel_loss  # noqa: E402
from avsl.train.recipe import Recipe  # noqa: E402

RECIPE = Recipe(
    size=32,
    width=4,
    embedding=8,
    voices=2,
    labelled=8,
    unlabelled=10,
    validation=4,
    labelled_batch=3,
    unlabelled_batch=5,
    pseudo_ramp=1,
    delta=0.6,
    tau=0.5,
    precision="fp32",
)
ENCODERS = ("log-mel", "wave")
SOUNDS = {
    "scene": make_scene(1, 1, kind="one").sound(-1, 1),
    "silence": np.zeros(16_000, np.float32),
    "full-scale noise": np.random.default_rng(0).uniform(-1, 1, 16_000).astype(np.float32),
}


def picture_of(scene: Scene, side: int = 64) -> tuple[np.ndarray, list[tuple[float, ...]]]:
    picture, masks = scene.render(0, 2 * side, 2 * side)
    return half_size(picture), boxes(masks)


def batch_of(
    rows: list[tuple[np.ndarray, np.ndarray, tuple[float, ...] | None]],
) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures, samples and targets of rows of picture, sound and the box of what sounds."""
    found = torch.tensor([[box or (torch.nan,) * 4] for _, _, box in rows])
    pictures = torch.from_numpy(np.stack([row[0] for row in rows]))
    samples = torch.from_numpy(np.stack([row[1] for row in rows]))
    return pictures_to_input(pictures), samples, cells_of(found, (8, 8))


def learn_by_heart(networks: list[Network], batch: tuple[Tensor, ...], steps: int) -> list[float]:
    pictures, samples, target = batch
    whole = torch.ones_like(target)
    weights = [p for network in networks for p in network.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=3e-3)
    losses = []
    for _ in range(steps):
        maps = [network(pictures, samples) for network in networks]
        loss = sum(pixel_loss(x, target, whole, 2.0, 0.05).mean() for x in maps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item() / len(networks))
    return losses


def small(sound: str, side: int = 64, width: int = 8) -> Network:
    return Network(NetworkSpec(picture_size=(side, side), sound=sound, width=width, embedding=32))


def trained_a_little(*sounds: str, side: int = 64, width: int = 8) -> list[Network]:
    """Networks whose batch norms have statistics of their own, as after a training."""
    torch.manual_seed(1)
    networks = [small(sound, side, width) for sound in sounds]
    scenes = [make_scene(2, i, kind="one") for i in range(8)]
    pictures = torch.from_numpy(np.stack([picture_of(scene, side)[0] for scene in scenes]))
    samples = torch.from_numpy(np.stack([scene.sound(-1, 1) for scene in scenes]))
    for network in networks:
        for _ in range(3):
            network(pictures_to_input(pictures), samples)
    return [network.eval() for network in networks]


def made_up(recipe: Recipe, n: int, seed: int, device: torch.device) -> Clips:
    """Clips of noise, of the sizes that a recipe's have."""
    rng = np.random.default_rng(seed)
    size, window = recipe.size, spec_of(recipe, 0).window
    pictures = rng.integers(0, 256, (n, size, size, 3), np.uint8)
    samples = rng.normal(0, 0.1, (n, window)).astype(np.float32)
    boxes = np.tile(np.array([0.2, 0.2, 0.6, 0.7], np.float32), (n, 1, 1))
    return Clips(
        spec_of(recipe, 0).map_size,
        [f"clip {i}" for i in range(n)],
        torch.from_numpy(pictures),
        torch.from_numpy(samples),
        torch.from_numpy(boxes),
        torch.ones(n, dtype=torch.bool),
        torch.ones(n, dtype=torch.bool),
        torch.from_numpy(rng.random((n, WEAK + STRONG), np.float32)),
    ).to(device)
