"""Data in, model out: `nasfast fit`."""
