"""Run folders: configuration, log, checkpoints, and the environment they came from."""
