"""Other ways to segment from a few painted cells: threshold, random forest, Cellpose.

Each gets the same image and the same painted cells, and returns a function from an image to
labels. What is not painted is unknown; where a method needs background it is taken from around
the painted cells, as the U-Net's annotated area ``around`` does.
"""

from __future__ import annotations

import logging
import math
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage import feature, filters

from napari_unet.core.annotation import training_target
from napari_unet.core.diameter import median_diameter
from napari_unet.core.judging import best_overlaps
from napari_unet.core.metrics import average_precision
from napari_unet.core.normalization import Normalization
from napari_unet.core.planes import as_plane

#: Flow and cell probability thresholds that are tried; 0 as flow threshold switches the check off.
_CELLPOSE_THRESHOLDS = [(flow, cell) for flow in (0.4, 0.8, 0.0) for cell in (0.0, -1.0, 1.0)]

Labels = npt.NDArray[np.int32]
Segmenter = Callable[[npt.NDArray[Any]], Labels]

#: Objects smaller than this share of the smallest tenth of the painted ones are dropped.
_SMALLEST = 0.25


def normalised(image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return ``(C, y, x)`` intensities scaled by percentiles, as the U-Net sees them."""
    plane = as_plane(image)
    height, width = plane.shape
    return Normalization().measure(plane).apply(plane.read(0, height, 0, width))


def smallest_area(painted: Labels) -> int:
    """Return the area below which a found object is taken for dirt."""
    areas = np.unique(painted[painted > 0], return_counts=True)[1]
    return max(1, int(_SMALLEST * np.percentile(areas, 10)))


def components(mask: npt.NDArray[np.bool_], smallest: int) -> Labels:
    """Label connected components without holes and without small ones."""
    found, _ = ndimage.label(ndimage.binary_fill_holes(mask))
    keep = np.bincount(found.ravel()) >= smallest
    keep[0] = False
    return np.where(keep[found], found, 0).astype(np.int32)


def otsu(image: npt.NDArray[Any], painted: Labels) -> Segmenter:
    """Otsu's threshold of each image; bright or dark objects, as fits the painted cells better."""
    smallest = smallest_area(painted)

    def segmenter(bright: bool) -> Segmenter:
        def segment(picture: npt.NDArray[Any]) -> Labels:
            gray = normalised(picture).mean(axis=0)
            threshold = filters.threshold_otsu(gray)
            return components(gray > threshold if bright else gray < threshold, smallest)

        return segment

    def agreement(bright: bool) -> float:
        return float(np.mean(best_overlaps(painted, segmenter(bright)(image))))

    return segmenter(max((True, False), key=agreement))


def random_forest(
    image: npt.NDArray[Any], painted: Labels, *, seed: int = 0, threads: int = 1
) -> Segmenter:
    """Pixel classification with a random forest on intensities, edges and texture at scales.

    The pixels it learns from, object and background, are those the U-Net is trained on, with the
    ridge between touching cells.
    """
    from sklearn.ensemble import RandomForestClassifier

    target = training_target(painted)
    known = target.weight > 0
    forest = RandomForestClassifier(
        n_estimators=100,
        min_samples_leaf=5,
        max_features="sqrt",
        class_weight="balanced",
        random_state=seed,
        n_jobs=threads,
    )
    forest.fit(_features(image)[known], target.target[known] > 0)
    smallest = smallest_area(painted)

    def segment(picture: npt.NDArray[Any]) -> Labels:
        features = _features(picture)
        probability = forest.predict_proba(features.reshape(-1, features.shape[-1]))[:, 1]
        return components(probability.reshape(features.shape[:2]) > 0.5, smallest)

    return segment


def _features(image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return ``(y, x, features)`` at standard deviations from 0.5 to 16 px."""
    pixels = np.moveaxis(normalised(image), 0, -1)
    found = feature.multiscale_basic_features(pixels, channel_axis=-1, sigma_min=0.5, sigma_max=16)
    return np.asarray(found, np.float32)


def cellpose(
    image: npt.NDArray[Any], painted: Labels, *, seconds: float, seed: int = 0
) -> tuple[Segmenter, float]:
    """Train Cellpose 3 from scratch for a time; return it and the seconds training took.

    Batches of one crop and matched object sizes. Cellpose knows no "not painted", so it gets the
    window of the painted cells. It wants a number of epochs: that is set from the speed of a short
    trial, which is not counted. Other images are segmented at the diameter of the painted cells,
    with the thresholds that suit the painted window best: after a minute the default flow threshold
    drops most objects.
    """
    import torch
    from cellpose import models, train

    logging.getLogger("cellpose").setLevel(logging.WARNING)
    diameter = median_diameter(painted) or 30.0
    window = _painted_window(painted, margin=0.3 * diameter)
    crop, labels = _gray(image)[window], painted[window]

    def trained(epochs: int) -> tuple[Any, float]:
        torch.manual_seed(seed)
        model = models.CellposeModel(gpu=False, pretrained_model=False)
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            train.train_seg(
                model.net,
                train_data=[crop],
                train_labels=[labels],
                channels=[0, 0],
                batch_size=1,
                n_epochs=epochs,
                min_train_masks=1,
                save_path=folder,
                save_every=epochs + 1,
            )
        return model, time.perf_counter() - start

    short, long = (trained(epochs)[1] for epochs in (2, 8))
    step = max(1e-3, (long - short) / 6)
    model, used = trained(max(1, 2 + math.floor((seconds - short) / step)))

    def segmenter(flow: float, probability: float) -> Segmenter:
        def segment(picture: npt.NDArray[Any]) -> Labels:
            found = model.eval(
                _gray(picture),
                channels=[0, 0],
                diameter=diameter,
                flow_threshold=flow,
                cellprob_threshold=probability,
            )[0]
            return np.asarray(found, np.int32)

        return segment

    def agreement(thresholds: tuple[float, float]) -> float:
        return sum(average_precision(labels, segmenter(*thresholds)(crop), [0.5, 0.75]))

    return segmenter(*max(_CELLPOSE_THRESHOLDS, key=agreement)), used


def _gray(image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    pixels = np.asarray(image, np.float32)
    return pixels.mean(axis=-1) if pixels.ndim == 3 else pixels


def _painted_window(painted: Labels, margin: float) -> tuple[slice, slice]:
    y, x = np.nonzero(painted)
    grow = math.ceil(margin)
    return (
        slice(max(0, int(y.min()) - grow), int(y.max()) + grow + 1),
        slice(max(0, int(x.min()) - grow), int(x.max()) + grow + 1),
    )
