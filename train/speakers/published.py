"""A state-dict of Light-ASD or LR-ASD, as their authors publish it, becomes a network."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from avsl.engines import UserError
from avsl.train.speakers.crops import Array, Crops, Look
from avsl.train.speakers.light_asd import LRASD, LightASD

NAMES = (
    (r"^module\.|(?<=\.)module\.", ""),  # of training on several GPUs
    (r"^model\.visualEncoder\.", "seen."),
    (r"^model\.audioEncoder\.", "heard."),
    (r"^model\.(GRU|detector)\.gru_forward\.", "onward."),
    (r"^model\.(GRU|detector)\.gru_backward\.", "back."),
    (r"^model\.fusion\.", "pair."),
    (r"^model\.detector\.attention\.", "join."),
    (r"^(pair|join)\.attention\.", r"\1.conv."),
    (r"^(pair|join)\.bn\.", r"\1.norm."),
    (r"^lossAV\.FC\.", "speaks."),
    (r"^lossV\.FC\.", "looks."),
    (r"\.(bn_([smt])|([smt])_norm)_(\d)\.", r".\2\3\4.norm."),
    (r"\.([smt])_(\d)\.", r".\1\2.conv."),
    (r"\.bn_last\.", ".last.norm."),
    (r"\.last\.(?!norm)", ".last.conv."),
    (r"\.[sm](\d)\.", r".across\1."),
    (r"\.t(\d)\.", r".along\1."),
)
"""From a published tensor's name to ours, one after the other."""

NETWORKS = (LightASD, LRASD)


def load_speakers(path: Path) -> LightASD:
    """The network of a state-dict as its authors publish it, in eval mode. Nothing in the file is
    run.

    Raises:
        UserError: it is something else, or some of its tensors are.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a file that isn't one PyTorch raises nearly anything
        reason = str(error).strip().split("\n")[0].split(". ")[0][:120]
        raise UserError(f"{path}: PyTorch reads no state-dict in it ({reason})") from None
    if not isinstance(state, dict) or not all(isinstance(key, str) for key in state):
        raise UserError(f"{path}: holds no state-dict, tensors by name")
    plain = {re.sub(*NAMES[0], key): tensor for key, tensor in state.items()}
    for kind in NETWORKS:
        if any(key.startswith(kind.sign) for key in plain):
            network = kind()
            _fill(network, plain, len(state), path)
            return network.eval()
    raise UserError(f"{path}: a state-dict neither of Light-ASD nor of LR-ASD")


def _fill(network: LightASD, published: dict[str, Tensor], count: int, path: Path) -> None:
    """Puts published tensors in their places, if they are those, all of them and no others."""
    theirs = {our_name(key): key for key in published}
    wanted = network.state_dict()
    what = f"{path}: nearly a state-dict of {network.title}, but"
    if missing := sorted(wanted.keys() - theirs.keys()):
        raise UserError(f"{what} {len(missing)} of {len(wanted)} tensors are missing")
    if other := sorted(theirs[key] for key in theirs.keys() - wanted.keys()):
        raise UserError(f"{what} {other[0]} is not of it")
    if len(theirs) < count:
        raise UserError(f"{what} it holds some tensors twice")
    for key, place in wanted.items():
        tensor = published[theirs[key]]
        if not isinstance(tensor, Tensor) or tensor.shape != place.shape:
            has = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
            raise UserError(f"{what} {theirs[key]} is {has}, not {tuple(place.shape)}")
        if tensor.is_complex() or not tensor.isfinite().all():
            raise UserError(f"{what} {theirs[key]} holds what is no finite number")
    network.load_state_dict({key: published[theirs[key]] for key in wanted})


def look_of(network: LightASD) -> Look:
    """What `scores` asks, of what is seen and heard."""

    def look(faces: Crops, heard: Array) -> Array:
        with torch.inference_mode():
            both, _ = network(torch.from_numpy(faces)[None], torch.from_numpy(heard)[None])
        out: Array = both[0].numpy()
        return out

    return look


def our_name(key: str) -> str:
    """Of a published tensor."""
    for theirs, ours in NAMES:
        key = re.sub(theirs, ours, key)
    return key
