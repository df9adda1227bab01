"""Free text as numbers: words weighed by how rare they are, and of those the directions in which texts differ most.

Salton, Buckley, "Term-weighting approaches in automatic text retrieval", 1988; Deerwester et al., "Indexing by latent
semantic analysis", 1990.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.decomposition import TruncatedSVD

_WORD = re.compile(r"\w+")
_MOST_WORDS = 2000
_FEWEST_TEXTS = 3  # that a word stands in
_DIRECTIONS = 12
_LEARNED_FROM = 20_000  # texts


@dataclass(frozen=True)
class TextSource:
    """How a text becomes numbers: its number of words, and its place along some directions.

    Attributes:
        words: Those that count.
        rarity: float32 [words]: the logarithm of how rare each is.
        directions: float32 [words, D].
    """

    column: str
    words: tuple[str, ...]
    rarity: NDArray[np.float32]
    directions: NDArray[np.float32]

    @classmethod
    def of(cls, column: str, texts: pa.Array) -> TextSource:
        """What suits these texts."""
        split = [_words(text) for text in texts.to_pylist()[:_LEARNED_FROM]]
        counts = Counter(word for words in split for word in set(words))
        common = [word for word, count in counts.items() if _FEWEST_TEXTS <= count < len(split)]
        words = tuple(sorted(common, key=lambda word: (-counts[word], word))[:_MOST_WORDS])
        seen = np.array([counts[word] for word in words], np.float64)
        rarity = (np.log((1 + len(split)) / (1 + seen)) + 1).astype(np.float32)
        directions = np.zeros((len(words), 0), np.float32)
        wanted = min(_DIRECTIONS, len(words) - 1)
        if wanted > 0:
            svd = TruncatedSVD(wanted, random_state=0).fit(_weighed(split, words, rarity))
            directions = svd.components_.T.astype(np.float32)
        return cls(column, words, rarity, directions)

    @property
    def names(self) -> list[str]:
        """Of the numbers."""
        return [f"{self.column} (words)"] + [
            f"{self.column} (text {i})" for i in range(1, self.directions.shape[1] + 1)
        ]

    def apply(self, texts: pa.Array) -> NDArray[np.float32]:
        """float32 [N, 1 + D]; NaN where there is no text."""
        split = [_words(text) for text in texts.to_pylist()]
        places = _weighed(split, self.words, self.rarity) @ self.directions
        found = np.concatenate([[[len(words)] for words in split] or np.empty((0, 1)), places], axis=1)
        found[np.asarray(texts.is_null())] = np.nan
        return found.astype(np.float32)


def _words(text: str | None) -> list[str]:
    return _WORD.findall(text.lower()) if text else []


def _weighed(split: Sequence[Sequence[str]], words: Sequence[str], rarity: NDArray[np.float32]) -> csr_matrix:
    """[N, words]: of each text the words that it has, weighed, with length 1."""
    place = {word: i for i, word in enumerate(words)}
    rows, columns = [], []
    for row, text in enumerate(split):
        own = sorted({place[word] for word in text if word in place})
        rows += [row] * len(own)
        columns += own
    values = rarity[columns].astype(np.float64) if columns else np.empty(0)
    lengths = np.sqrt(np.bincount(rows, values**2, len(split))) if rows else np.ones(len(split))
    values = values / np.maximum(lengths[rows], 1e-12) if rows else values
    return csr_matrix((values, (rows, columns)), shape=(len(split), len(words)))
