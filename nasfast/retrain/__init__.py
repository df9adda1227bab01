"""Retraining what a finished run has found."""
