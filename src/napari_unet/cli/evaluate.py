"""`napari-unet evaluate`: segmentations against the truth."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from napari_unet.cli.console import OK, bar, note, say
from napari_unet.cli.files import MASKS, existing_file, labels_in
from napari_unet.core.errors import InputError
from napari_unet.io.images import file_name_stem, read_labels
from napari_unet.io.ome_zarr import is_zarr

if TYPE_CHECKING:
    from napari_unet.core.evaluation import Evaluation, Evaluator


def run(options: argparse.Namespace) -> int:
    """Print the scores of all pairs together, and of each image when there are several."""
    pairs = find_pairs(options.predictions, options.truth)

    from napari_unet.core.evaluation import Evaluator

    total = Evaluator()
    single: dict[str, Evaluation] = {}
    with bar(len(pairs), " images", "Comparing", disable=len(pairs) == 1) as line:
        for prediction, truth in pairs:
            single[truth.name] = _compare(prediction, truth, total)
            line.update(1)
    pooled = total.result()
    if options.json:
        everything = pooled.to_dict()
        everything["per_image"] = {name: scores.to_dict() for name, scores in single.items()}
        say(json.dumps(everything, indent=2))
        return OK
    if len(single) > 1:
        say(_overview(single))
    say(pooled.table())
    return OK


def find_pairs(predictions: str, truth: str) -> list[tuple[Path, Path]]:
    """Return the files to compare: two files, or the files of two folders with the same stem.

    Raises
    ------
    InputError
        If a file is missing, or nothing matches.
    """
    found, known = existing_file(predictions), existing_file(truth)
    folders = [path.is_dir() and not is_zarr(path) for path in (found, known)]
    if not any(folders):
        return [(found, known)]
    if not all(folders):
        raise InputError("Give two label images, or two folders of label images.")
    by_stem = {_plain_stem(path): path for path in labels_in(found)}
    truths = {_plain_stem(path): path for path in labels_in(known)}
    if not truths:
        raise InputError(f"There is no label image in the folder {truth!r}.")
    missing = [path.name for stem, path in truths.items() if stem not in by_stem]
    if len(missing) == len(truths):
        raise InputError(
            f"No file in {predictions!r} has the name of a file in {truth!r} "
            f"(with or without {MASKS} at the end)."
        )
    if missing:
        note(
            f"{len(missing)} of {len(truths)} images in {truth!r} have no prediction and are left "
            f"out, the first of them is {missing[0]}"
        )
    return [(by_stem[stem], path) for stem, path in truths.items() if stem in by_stem]


def _plain_stem(path: Path) -> str:
    return file_name_stem(path).removesuffix(MASKS)


def _compare(prediction: Path, truth: Path, total: Evaluator) -> Evaluation:
    """Score one pair of files, a stack plane by plane, and add it to the total."""
    import numpy as np

    from napari_unet.core.evaluation import Evaluator
    from napari_unet.core.planes import read_window

    found, known = (
        read_window(read_labels(path).data, (), f"labels {path.name!r}")
        for path in (prediction, truth)
    )
    if found.shape != known.shape:
        raise InputError(
            f"{prediction.name} has shape {found.shape} but {truth.name} has shape {known.shape}; "
            "compare labels of the same image."
        )
    alone = Evaluator()
    for index in np.ndindex(*known.shape[:-2]):
        for evaluator in (alone, total):
            evaluator.add(known[index], found[index])
    return alone.result()


def _overview(single: dict[str, Evaluation]) -> str:
    width = max(map(len, single))
    lines = [f"{'image':<{width}}   AP50   AP75     F1  objects"]
    for name, scores in single.items():
        at = dict(zip(scores.thresholds, scores.average_precision, strict=True))
        values = "".join(f"{value:7.3f}" for value in (at[0.5], at[0.75], scores.f1[0]))
        lines.append(f"{name:<{width}}{values}{scores.objects:9d}")
    return "\n".join([*lines, ""])
