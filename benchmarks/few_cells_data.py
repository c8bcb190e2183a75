"""Which cells are "painted" and which images are scored.

Only images that no shipped model was trained on are used: for nuclei the ``val`` part of the
collection, for phase contrast and SEM the ids and animals that ``training/base_data.py`` holds
out. The groups below were chosen by looking at the images: same kind of cell, stain and
magnification, as a user would call "more of the same".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
from training.base_data import AnnotatedImage, read_collection

from napari_unet.core.diameter import median_diameter
from napari_unet.samples import paint_cells

Labels = npt.NDArray[np.int32]

DATA = Path(__file__).resolve().parents[1] / ".." / "shared" / "data"

#: Groups of the collection that look alike, per kind. Groups that stand alone are only scored
#: without painting.
LOOKS: dict[str, tuple[tuple[str, ...], ...]] = {
    "fluo_small": (
        ("g192", "g203", "g219"),
        ("g123",),
        ("g211",),
        ("g157", "g190"),
        ("g088",),
        ("g004", "g199"),
        ("g139",),
        ("g185",),
    ),
    "fluo_large": (
        ("g058", "g067", "g073", "g091", "g132", "g134", "g166", "g175"),
        ("g023", "g099", "g147"),
        ("g072", "g142", "g216"),
        ("g047", "g112"),
        ("g158", "g227"),
    ),
    "histology_purple": (("g202",), ("g155", "g210")),
    "brightfield": (("g010", "g070", "g124"),),
    "phase": (
        tuple(f"train_set{n}" for n in (1, 5, 9, 17, 21, 25, 29)),
        tuple(f"train_set{n}" for n in (13, 33, 37, 41, 45)),
    ),
    "SEM": (("sub-rat2", "sub-rat4"),),
}
KINDS = tuple(LOOKS)

#: Images scored per run: more would cost time and change little.
MOST_SCORED = 4
#: Where there is one, an image with so many cells is painted on, however few are painted: curves
#: over the number of cells then belong to the same images.
_ROOMY = 20


@dataclass(frozen=True)
class Case:
    """One experiment: a few painted cells of one image, and other images to score.

    Attributes
    ----------
    kind, seed, cells
        What was asked for. With 0 cells nothing is painted and ``painted_on`` is None.
    painted_on
        The image that is annotated; never scored.
    labels
        Its painted cells, 0 elsewhere.
    scored
        Images of the same look.
    """

    kind: str
    seed: int
    cells: int
    painted_on: AnnotatedImage | None
    labels: Labels | None = field(repr=False)
    scored: tuple[AnnotatedImage, ...]

    @property
    def painted(self) -> int:
        """Number of cells that are painted: all of the richest image if it has too few."""
        return 0 if self.labels is None else len(np.unique(self.labels[self.labels > 0]))

    @property
    def diameter(self) -> float | None:
        """Median diameter of the painted cells, in pixels."""
        return None if self.labels is None else median_diameter(self.labels)


@lru_cache(maxsize=2)
def held_out_images(kind: str, root: Path = DATA) -> tuple[AnnotatedImage, ...]:
    """Read the images of a kind that no shipped model was trained on."""
    return tuple(item for item in read_collection(root, (kind,)) if item.held_out)


def case(kind: str, seed: int, cells: int, root: Path = DATA) -> Case:
    """Choose images and cells; the same arguments always give the same case.

    Each seed paints on another image, of another look as long as there are some. The cells of
    one seed are nested: five painted cells are among the ten, unless only another image has ten.
    """
    images = held_out_images(kind, root)
    if cells == 0:
        return Case(kind, seed, 0, None, None, images)
    looks = [[item for item in images if item.group in groups] for groups in LOOKS[kind]]
    number = KINDS.index(kind)
    shuffled: list[Sequence[AnnotatedImage]] = []
    for turn in range(len(looks)):
        members = looks[(seed + turn) % len(looks)]
        order = np.random.default_rng([seed, number]).permutation(len(members))
        shuffled.append([members[i] for i in order])
    look, painted_on = choose_image(shuffled, cells)
    count = min(cells, count_cells(painted_on.labels))
    centre = seed_cell(painted_on.labels, np.random.default_rng([seed, number, 1]))
    labels = paint_cells(painted_on.labels, count, near=centre)
    others = [item for item in look if item is not painted_on]
    return Case(kind, seed, cells, painted_on, labels, tuple(others[:MOST_SCORED]))


def choose_image(
    looks: Sequence[Sequence[AnnotatedImage]], cells: int
) -> tuple[Sequence[AnnotatedImage], AnnotatedImage]:
    """Return the first look and image with enough cells, or the richest image of all."""
    usable = [look for look in looks if len(look) > 1]
    for needed in (max(cells, _ROOMY), cells):
        for look in usable:
            for item in look:
                if count_cells(item.labels) >= needed:
                    return look, item
    everything = [(look, item) for look in usable for item in look]
    return max(everything, key=lambda pair: count_cells(pair[1].labels))


def count_cells(labels: Labels) -> int:
    """Return the number of objects."""
    return len(np.unique(labels[labels > 0]))


def seed_cell(labels: Labels, random: np.random.Generator) -> tuple[float, float]:
    """Return the centre of a typical cell: whole, and neither very small nor very large."""
    numbers, areas = np.unique(labels[labels > 0], return_counts=True)
    edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    middle = np.median(areas)
    typical = (areas >= 0.5 * middle) & (areas <= 2 * middle)
    whole = ~np.isin(numbers, edge)
    for wanted in (typical & whole, typical):
        if wanted.any():
            chosen = int(random.choice(numbers[wanted]))
            y, x = np.nonzero(labels == chosen)
            return float(y.mean()), float(x.mean())
    raise ValueError("an image without cells cannot be painted on")
