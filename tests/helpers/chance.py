"""Chance that can be had again: for tests that stop processes at moments they do not choose."""

import os
import random


def chance() -> random.Random:
    """Draws from NASFAST_TEST_SEED, by default 0; pytest shows what is printed here when the test fails."""
    seed = int(os.environ.get("NASFAST_TEST_SEED", "0"))
    print(f"NASFAST_TEST_SEED={seed}")
    return random.Random(seed)
