"""Draws the README's pictures of a cell: `python -m bench.pictures [--out FOLDER] [--genotype FILE]`.

search-cell.svg shows a cell while it is searched, with every candidate on every edge; derived-cell.svg the normal cell
of a genotype, by default the published second-order DARTS one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nasfast.errors import NasfastError
from nasfast.kernels.primitives import PRIMITIVES
from nasfast.report import cell_svg, search_cell_svg, standalone
from nasfast.spaces.genotype import Genotype
from nasfast.utils.files import atomic_write

# Liu, Simonyan, Yang, "DARTS: Differentiable Architecture Search", ICLR 2019.
DARTS_SECOND_ORDER = Genotype.parse(
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=range(2, 6), "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=range(2, 6))"
)


def draw(folder: Path, genotype: Genotype) -> list[Path]:
    """Write both pictures into a folder and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    drawings = {
        "search-cell.svg": search_cell_svg(
            genotype.steps,
            len(genotype.normal_concat),
            PRIMITIVES,
            "A cell during the search: all edges, all candidates",
        ),
        "derived-cell.svg": cell_svg(genotype.normal, genotype.normal_concat, "The cell derived from it"),
    }
    for name, svg in drawings.items():
        atomic_write(folder / name, standalone(svg))
    return [folder / name for name in drawings]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.pictures", description=__doc__)
    parser.add_argument("--out", type=Path, metavar="FOLDER", default=Path("bench/results"))
    parser.add_argument(
        "--genotype", type=Path, metavar="FILE", help="a genotype.json; default: the published DARTS one"
    )
    options = parser.parse_args()
    try:
        genotype = Genotype.load(options.genotype) if options.genotype else DARTS_SECOND_ORDER
        for path in draw(options.out, genotype):
            print(f"wrote {path}")
    except NasfastError as error:
        print(f"bench.pictures: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
