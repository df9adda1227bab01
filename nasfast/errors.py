"""The errors nasfast raises for input it cannot use.

Every message is one line that names what was wrong and what is expected. The command line prints the line and exits
with 1; a program can catch `NasfastError` for all of them, or the standard class a subclass also derives from.
"""


class NasfastError(RuntimeError):
    """Base of every error raised on purpose by nasfast."""


class ShapeError(NasfastError, ValueError):
    """A tensor or a module has a size that the operation does not take."""


class GenotypeError(NasfastError, ValueError):
    """A genotype, or the weights one is derived from, is malformed."""


class SpaceError(NasfastError, ValueError):
    """An architecture is not one of the search space: a choice out of range, or a text that does not name one."""


class ConfigError(NasfastError, ValueError):
    """An option or a combination of options is not usable."""


class DataError(NasfastError, ValueError):
    """A data set is missing, empty, corrupt or does not fit."""


class RunError(NasfastError):
    """A run folder or a file in it cannot be used: exists, is truncated, or is of another version."""


class ExportError(NasfastError):
    """An exported model could not be written or does not give the same outputs."""
