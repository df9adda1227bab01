"""Strategies that ask for architectures and are told their scores."""
