"""Real tables from scikit-learn's wheel, as files that people have."""

import csv
import io
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine


def _write(path: Path, names, x, y, missing):
    rng = np.random.default_rng(0)
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow([*names, "target"])
    for row, label in zip(x, y, strict=True):
        gone = rng.random(len(row)) < missing
        table.writerow([*("" if g else repr(float(v)) for g, v in zip(gone, row, strict=True)), label])
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def tumours(folder: Path, rows: int = 569, missing: float = 0.02) -> Path:
    """Two classes, thirty numbers, gaps."""
    d = load_breast_cancer()
    rng = np.random.default_rng(1)
    order = rng.permutation(len(d.target))[:rows]
    labels = [d.target_names[t] for t in d.target[order]]
    return _write(folder / "tumours.csv", d.feature_names, d.data[order], labels, missing)


def wines(folder: Path) -> Path:
    """Three classes, thirteen numbers."""
    d = load_wine()
    return _write(folder / "wines.csv", d.feature_names, d.data, [f"class {t}" for t in d.target], 0.0)


def diabetes(folder: Path) -> Path:
    """A number to predict."""
    d = load_diabetes()
    return _write(folder / "diabetes.csv", d.feature_names, d.data, d.target.tolist(), 0.0)


def mixed_rows(rows: int, seed: int = 0) -> dict[str, list]:
    """A made table as a dict of columns: numbers with gaps, categories, dates, and a target that follows from them."""
    rng = np.random.default_rng(seed)
    age = rng.normal(40, 12, rows).round(1)
    city = rng.choice(["Bern", "Oslo", "Rome", "Lima"], rows, p=[0.5, 0.3, 0.15, 0.05])
    day = rng.integers(0, 1500, rows)
    risk = 0.05 * (age - 40) + (city == "Rome") * 2.0 - (city == "Oslo") * 1.0 + 0.001 * (day - 700)
    label = np.where(rng.random(rows) < 1 / (1 + np.exp(-1.5 * risk)), "yes", "no")
    dates = (np.datetime64("2020-01-01") + day).astype(str)
    gaps = rng.random(rows) < 0.1
    return {
        "age": ["" if g else str(a) for g, a in zip(gaps, age, strict=True)],
        "city": city.tolist(),
        "since": dates.tolist(),
        "bought": label.tolist(),
    }


def write_rows(path: Path, columns: dict[str, list]) -> Path:
    """As CSV."""
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(columns)
    table.writerows(zip(*columns.values(), strict=True))
    path.write_text(text.getvalue(), encoding="utf-8")
    return path
