"""What makes a cell look like its class: ranges of traits, and cells that lie between two classes."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CLASSES = ("Dyskeratotic", "Koilocytotic", "Metaplastic", "Parabasal", "Superficial-Intermediate")


class Traits(NamedTuple):
    """One cell's traits; plain ratios unless a unit is said."""

    size: float  # radius against the field's typical cell
    nucleus: float  # radius against the cell's, both of discs of equal area
    elongation: float  # longest axis against the shortest
    sharpness: float  # of the corners: 2 is round
    density: float  # dye in the cytoplasm
    dome: float  # how much thicker the middle is than the border
    rim: float  # extra dye along the border
    green: float  # light green against eosin
    orange: float  # keratin: orange G in place of both
    grain: float  # contrast of the cytoplasm's texture
    folds: float  # expected number
    vacuoles: float  # expected number
    halo: float  # how clear the space about the nucleus is
    irregular: float  # standard deviation of the nuclear radius
    stretch: float  # the nucleus's longest axis against its shortest
    dark: float  # haematoxylin in the nucleus
    chromatin: float  # contrast of its texture
    membrane: float  # extra haematoxylin along its border
    twin: float  # probability of two nuclei


# Lowest and highest value of each trait, in the order of CLASSES. Colour and size overlap widely on purpose: what
# tells the classes apart is structure (nucleus against cell, halo, border, chromatin), as it is under a microscope.
RANGES = {
    #             Dyskeratotic  Koilocytotic  Metaplastic   Parabasal     Superficial-Intermediate
    "size": ((0.80, 1.10), (0.90, 1.25), (0.82, 1.12), (0.72, 1.00), (0.95, 1.30)),
    "nucleus": ((0.30, 0.46), (0.25, 0.38), (0.29, 0.42), (0.42, 0.60), (0.15, 0.27)),
    "elongation": ((1.10, 1.60), (1.00, 1.35), (1.00, 1.35), (1.00, 1.20), (1.00, 1.35)),
    "sharpness": ((2.50, 7.00), (3.00, 9.00), (2.20, 4.50), (2.00, 3.00), (5.00, 16.0)),
    "density": ((0.70, 1.20), (0.55, 1.10), (0.70, 1.20), (0.60, 1.10), (0.50, 0.95)),
    "dome": ((0.10, 0.50), (0.00, 0.20), (0.00, 0.30), (0.10, 0.50), (0.00, 0.25)),
    "rim": ((0.00, 0.30), (0.20, 0.80), (0.50, 1.20), (0.05, 0.35), (0.00, 0.25)),
    "green": ((0.10, 0.70), (0.20, 0.80), (0.35, 0.90), (0.35, 0.90), (0.20, 0.80)),
    "orange": ((0.15, 0.70), (0.00, 0.30), (0.00, 0.25), (0.00, 0.25), (0.00, 0.35)),
    "grain": ((0.10, 0.30), (0.08, 0.22), (0.10, 0.25), (0.08, 0.22), (0.05, 0.18)),
    "folds": ((0.00, 1.00), (0.00, 1.50), (0.00, 0.40), (0.00, 0.30), (0.50, 3.00)),
    "vacuoles": ((0.00, 0.50), (0.00, 0.60), (1.00, 5.00), (0.00, 0.80), (0.00, 0.50)),
    "halo": ((0.00, 0.15), (0.50, 0.95), (0.00, 0.15), (0.00, 0.10), (0.00, 0.15)),
    "irregular": ((0.06, 0.14), (0.05, 0.12), (0.02, 0.06), (0.02, 0.05), (0.02, 0.06)),
    "stretch": ((1.15, 2.00), (1.05, 1.60), (1.00, 1.35), (1.00, 1.25), (1.00, 1.40)),
    "dark": ((0.95, 1.65), (0.80, 1.40), (0.75, 1.25), (0.70, 1.20), (0.95, 1.60)),
    "chromatin": ((0.20, 0.50), (0.12, 0.36), (0.12, 0.30), (0.12, 0.30), (0.05, 0.20)),
    "membrane": ((0.05, 0.40), (0.00, 0.30), (0.15, 0.50), (0.15, 0.50), (0.00, 0.25)),
    "twin": ((0.05, 0.15), (0.20, 0.40), (0.02, 0.06), (0.00, 0.03), (0.00, 0.03)),
}

# The classes that a cell of each class (by its place in CLASSES) may drift towards.
NEIGHBOURS = ((1, 2), (0, 4, 2), (3, 0, 4), (2,), (1, 2))

BORDERLINE = 0.28  # share of cells that lie well on the way to a neighbour


def draw_traits(rng: np.random.Generator, kind: int) -> Traits:
    """Traits of one cell of class ``kind`` (its place in CLASSES), some of the way towards a neighbouring class."""
    other = NEIGHBOURS[kind][rng.integers(len(NEIGHBOURS[kind]))]
    borderline, how_far = rng.random(), rng.random()
    share = 0.25 + 0.35 * how_far if borderline < BORDERLINE else 0.2 * how_far
    values = {}
    for name, ranges in RANGES.items():
        own, drift = rng.uniform(*ranges[kind]), rng.uniform(*ranges[other])
        values[name] = own + share * (drift - own)
    return Traits(**values)
