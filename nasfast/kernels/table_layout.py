"""Which rows of the weights of a table embedding belong to which feature."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import accumulate

from nasfast.errors import ConfigError

MOST_ROWS = 2**15
"""Of a feature: bins are int16."""


@dataclass(frozen=True)
class TableLayout:
    """The rows of each feature: its increments, then its lookups.

    Args:
        increments: Of each feature, the intervals of its piecewise-linear curve; 0 where it has none.
        lookups: Of each feature, the rows that stand alone: levels of a category, "missing" of a number.

    Attributes:
        offsets: The first row of each feature.

    Raises:
        ConfigError: A feature has no row, or more than int16 can number.
    """

    increments: tuple[int, ...]
    lookups: tuple[int, ...]
    offsets: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.increments or len(self.increments) != len(self.lookups):
            raise ConfigError(
                "table layout: increments and lookups must name each of at least one feature, "
                f"got {len(self.increments)} and {len(self.lookups)}"
            )
        for feature, (increments, lookups) in enumerate(zip(self.increments, self.lookups, strict=True)):
            if min(increments, lookups) < 0 or not 1 <= increments + lookups <= MOST_ROWS:
                raise ConfigError(
                    f"table layout: a feature must have 1 to {MOST_ROWS} rows, "
                    f"got {increments} increments and {lookups} lookups for feature {feature}"
                )
        object.__setattr__(self, "offsets", tuple(accumulate(self.sizes, initial=0))[:-1])

    @property
    def features(self) -> int:
        return len(self.increments)

    @property
    def sizes(self) -> tuple[int, ...]:
        """Rows of each feature."""
        return tuple(i + n for i, n in zip(self.increments, self.lookups, strict=True))

    @property
    def rows(self) -> int:
        return self.offsets[-1] + self.increments[-1] + self.lookups[-1]
