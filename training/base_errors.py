"""Why objects of held-out images are not found: ``python -m training.base_errors MODEL``.

A score says how many objects are missing, not why. Here each true object without a partner at
IoU 0.5 is given one cause, so that one sees what more training could mend, and what it could not:
specks that an annotator outlined, or kinds of image that the training images hardly hold.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from training.base_data import read_collection
from training.evaluate_base import KINDS, any_model

from napari_unet.core.labels import Labels
from napari_unet.core.metrics import match
from napari_unet.core.overlap import IntArray, overlap
from napari_unet.core.prediction import Predictor
from napari_unet.core.segmentation import segment

CAUSES = ("speck", "missed", "merged", "split", "outline")
#: A speck has at most this share of the median area of the objects of its image.
SPECK = 1 / 6


def causes(truth: Labels, predicted: Labels) -> Counter[str]:
    """Give each true object without a partner at IoU 0.5 one cause.

    Parameters
    ----------
    truth, predicted
        ``(Y, X)`` labels, background 0.

    Returns
    -------
    Numbers of objects: ``found`` (with a partner), ``speck`` (too small to be meant: a sixth of
    the median area of the image at most), ``missed`` (less than a fifth covered by any object),
    ``merged`` (covered for the most part by an object that is half as large again), ``split``
    (covered for the most part, but by several objects), and ``outline`` (the rest: the object is
    there and its outline is wrong).
    """
    table = overlap(truth, predicted)
    partners = set(match(truth, predicted, 0.5).pairs[:, 0].tolist())
    sizes = np.bincount(predicted.ravel().clip(min=0))
    ids, areas = table.truth_total
    smallest = SPECK * float(np.median(areas)) if len(areas) else 0.0
    found: Counter[str] = Counter()
    for label, area in zip(ids.tolist(), areas.tolist(), strict=True):
        over = (table.truth == label) & (table.prediction > 0)
        if label in partners:
            found["found"] += 1
        elif area <= smallest:
            found["speck"] += 1
        else:
            found[_cause(area, table.pixels[over], sizes[table.prediction[over]])] += 1
    return found


def _cause(area: int, shared: IntArray, sizes: IntArray) -> str:
    covered = shared.sum() / area
    if covered < 0.2:
        return "missed"
    largest = int(shared.argmax())
    if 2 * shared[largest] > area and sizes[largest] > 1.5 * area:
        return "merged"
    if covered > 0.5 and shared[largest] < 0.7 * shared.sum():
        return "split"
    return "outline"


def main() -> None:
    """Read the options, segment each held-out image at its true size, print the causes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="model file, shipped name, or folder of a running training")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    options = parser.parse_args()
    model = any_model(options.model)
    predictor = Predictor(model)
    print("".join(f"{name:>10}" for name in ("objects", "found", *CAUSES)), " kind, image")
    for kind in options.kinds:
        total: Counter[str] = Counter()
        for item in read_collection(options.data, (kind,)):
            if item.held_out:
                labels = segment(predictor, item.image, diameter=item.diameter)
                found = causes(item.labels, labels)
                print(_line(found), f" {kind}, {item.identifier}", flush=True)
                total += found
        print(_line(total), f" {kind}, all")


def _line(found: Counter[str]) -> str:
    numbers = (found.total(), found["found"], *(found[cause] for cause in CAUSES))
    return "".join(f"{number:10}" for number in numbers)


if __name__ == "__main__":
    main()
