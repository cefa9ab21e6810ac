"""What is trained and frozen, in torch: `parts`, the encoders that are made of them (`small` ones
and the paper's `backbones`), the `network` of two encoders, and how `kinds` are joined."""

from avsl.engines.networks.network import Combine, Ensemble, Network, NetworkSpec, combined

__all__ = ["Combine", "Ensemble", "Network", "NetworkSpec", "combined"]
