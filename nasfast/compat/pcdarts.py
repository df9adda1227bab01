"""Drop-in for `Network` of the public PC-DARTS code's model_search.py."""

from nasfast.compat.network import PublicNetwork


class Network(PublicNetwork):
    """The PC-DARTS search network, partial channels and edge normalisation, on any device.

    Constructor, `new`, `_loss`, `arch_parameters` (alphas, then betas, of the two cells), `genotype`, `forward` and
    state_dict keys are those of the public code. Keywords beyond it (`fused`, `recompute`, `in_channels`,
    `primitives`) are explained at `nasfast.supernets.SearchNetwork`.
    """

    mixes_partial_channels = True
