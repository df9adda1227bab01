"""What lies in the folder of a model. It loads nothing, so that every command can ask what a folder is."""

from __future__ import annotations

from pathlib import Path

MODEL_FILE = "model.json"
CARD_FILES, REPORT_FILE, ONNX_FILE = ("card.md", "card.json"), "report.html", "model.onnx"
"""What is made of a model; it goes when another model takes its place."""


def is_model(folder: Path) -> bool:
    """Whether a folder holds a model that `nasfast fit` wrote."""
    return (folder / MODEL_FILE).is_file()
