"""Search strategies: how an architecture is looked for.

Black-box ones by name: :func:`nasfast.strategies.registry.make_strategy`. The differentiable ones: ``darts.py``.
"""
