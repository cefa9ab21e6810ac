"""What is heard and what is seen, kind by kind, joined to a map."""

from __future__ import annotations

import torch
from torch import Tensor


def joined(seen: Tensor, heard: Tensor, named: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The map of the probability that the sound comes from here, and the kind that carries it.

    Args:
        seen: `[B, K, m, n]`, how likely each kind is to be seen in a cell.
        heard: `[B, K]`, how likely each is heard. Kinds don't exclude each other in either.
        named: `[K]`, what a kind counts where a cell gets its name: less for a whole family.

    Returns:
        1 - prod over k of (1 - heard_k seen_k), `[B, m, n]`: two that sound at once both show, and
        what isn't heard, or isn't in view, doesn't; and the k of the largest of these products,
        weighed by `named`, `[B, m, n]` int32.
    """
    both = seen.float() * heard[:, :, None, None]
    weighed = both if named is None else both * named[:, None, None]
    return 1 - (1 - both).prod(1), weighed.argmax(1).to(torch.int32)
