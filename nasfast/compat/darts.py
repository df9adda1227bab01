"""Drop-in for `Network` of the public DARTS code's model_search.py."""

from nasfast.compat.network import PublicNetwork


class Network(PublicNetwork):
    """The DARTS search network, mixed operations over all channels, on any device.

    Constructor, `new`, `_loss`, `arch_parameters` (alphas of the two cells), `genotype`, `forward` and state_dict keys
    are those of the public code. Keywords beyond it (`fused`, `recompute`, `in_channels`, `primitives`) are explained
    at `nasfast.supernets.SearchNetwork`.
    """

    mixes_partial_channels = False
