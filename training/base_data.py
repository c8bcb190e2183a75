"""Images the shipped models are trained on: reading, sizes, splits."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tifffile

#: Images of these groups and ids are never trained on; they judge the "cells" model.
HELD_OUT_SEM = ("sub-rat2", "sub-rat4")
HELD_OUT_PHASE = tuple(f"train_set{n}" for n in range(1, 46, 4))


@dataclass(frozen=True)
class AnnotatedImage:
    """One image of the collection with its instance labels."""

    identifier: str
    kind: str
    group: str
    held_out: bool
    diameter: float
    image: npt.NDArray[np.generic]
    labels: npt.NDArray[np.int32]


def _rows(folder: Path) -> Iterator[dict[str, str]]:
    with (folder / "index.csv").open(newline="") as file:
        yield from csv.DictReader(file)


def _held_out(row: dict[str, str]) -> bool:
    if row["type"] == "SEM":
        return row["group"] in HELD_OUT_SEM
    if row["type"] == "phase":
        return row["id"] in HELD_OUT_PHASE
    return row["split"] == "val"


def read_collection(root: Path, kinds: tuple[str, ...]) -> list[AnnotatedImage]:
    """Read every image of the given kinds, trained on and held out.

    Parameters
    ----------
    root
        Folder with ``nuclei_dsb2018``, ``phc_usiigaci`` and ``em_axon_sem``.
    kinds
        ``fluo_small``, ``fluo_large``, ``histology_purple``, ``brightfield``, ``phase``, ``SEM``.
    """
    found = []
    for name in ("nuclei_dsb2018", "phc_usiigaci", "em_axon_sem"):
        folder = root / name
        for row in _rows(folder):
            if row["type"] not in kinds:
                continue
            image = tifffile.imread(folder / "images" / f"{row['id']}.tif")
            labels = tifffile.imread(folder / "masks" / f"{row['id']}.tif").astype(np.int32)
            found.append(
                AnnotatedImage(
                    identifier=row["id"],
                    kind=row["type"],
                    group=row["group"] or row["id"],
                    held_out=_held_out(row),
                    diameter=float(row["median_diameter_px"]),
                    image=image,
                    labels=labels,
                )
            )
    return found
