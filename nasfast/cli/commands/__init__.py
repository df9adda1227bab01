"""The commands, one file each; what they do stands in :mod:`nasfast.api`."""
