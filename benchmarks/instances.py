"""Cost of the instance step and of stitching tiles, against one watershed of scikit-image.

python -m benchmarks.instances
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from skimage.segmentation import watershed

from benchmarks.report import conditions, median_ratio, seconds_in_turn, table, write
from napari_unet.core.instances import StreamingInstances, label_instances
from napari_unet.core.settings import InstanceSettings
from napari_unet.core.simulation import simulate_nuclei
from napari_unet.core.tiling import Box, cut

Map = npt.NDArray[np.float32]
WATERSHED = "one scikit-image `watershed`"
SETTINGS = {
    "one threshold (0.5)": InstanceSettings(),
    "seeds 0.6, mask 0.4": InstanceSettings(seed_threshold=0.6, mask_threshold=0.4),
    "seeds 0.8, mask 0.2": InstanceSettings(seed_threshold=0.8, mask_threshold=0.2),
}


def foreground_map(size: int, objects: int) -> tuple[Map, int]:
    """Return a map like a network's: blurred objects with dim borders, and how many there are."""
    _, labels = simulate_nuclei((size, size), n=objects, diameter=36, seed=0)
    inside = labels > 0
    for axis in (0, 1):
        for step in (-1, 1):
            inside &= np.roll(labels, step, axis) == labels
    blurred = ndimage.gaussian_filter(inside.astype(np.float32), 1.0)
    noise = np.random.default_rng(0).normal(0, 0.02, blurred.shape)
    return np.clip(blurred + noise, 0, 1).astype(np.float32), int(labels.max())


def one_watershed(values: Map, settings: InstanceSettings) -> Callable[[], object]:
    """Return the call that is compared with: seeds are given, nothing but the flood is timed."""
    seeds, _ = ndimage.label(values > settings.seed_threshold)
    return lambda: watershed(-values, seeds, mask=values > settings.mask_threshold)


def streamed(values: Map, settings: InstanceSettings, boxes: list[Box]) -> StreamingInstances:
    """Add all tiles."""
    streaming = StreamingInstances((values.shape[0], values.shape[1]), settings)
    for box in boxes:
        streaming.add(box.slices, values[box.slices])
    return streaming


def compare(values: Map, tile: int, repeats: int) -> str:
    """Return the table."""
    boxes = cut(Box(0, values.shape[0], 0, values.shape[1]), tile)
    rows = []
    for name, settings in SETTINGS.items():
        whole = label_instances(values, settings)
        if not np.array_equal(streamed(values, settings, boxes).finish(), whole):
            raise SystemExit("Streamed and whole labels differ.")
        tiles = "tiles one by one, not stitched"
        times = seconds_in_turn(
            {
                WATERSHED: one_watershed(values, settings),
                "`label_instances`": lambda s=settings: label_instances(values, s),  # type: ignore[misc]
                tiles: lambda s=settings: [  # type: ignore[misc]
                    label_instances(values[box.slices], s) for box in boxes
                ],
                "tiles streamed and stitched": lambda s=settings: streamed(values, s, boxes),  # type: ignore[misc]
            },
            repeats,
            time.process_time,
        )
        for candidate, taken in times.items():
            rows.append(
                (
                    name,
                    candidate,
                    f"{statistics.median(taken):.3f}",
                    f"{median_ratio(taken, times[WATERSHED]):.2f}",
                    f"{median_ratio(taken, times[tiles]):.2f}",
                )
            )
    header = ("thresholds", "", "CPU seconds", "over one watershed", "over unstitched tiles")
    return table(header, rows)


def main() -> None:
    """Compare, print the table and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=2048)
    parser.add_argument("--objects", type=int, default=1200)
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    values, objects = foreground_map(options.size, options.objects)
    text = [
        f"# Instances: {options.size} x {options.size} pixels, {objects} objects",
        conditions("numpy", "scipy", "scikit-image")
        + f" Medians of {options.repeats} runs in turn, processor time of one thread.",
        f"Tiles of {options.tile} px. `watershed` gets its seeds for free; `label_instances` finds "
        "them, drops small objects, fills holes and numbers what is left. The streamed labels were "
        "found equal to those of the whole map before any time was taken.",
        compare(values, options.tile, options.repeats),
        "Goals: `label_instances` at most 1.5 watersheds; stitching at most 10 % over labelling "
        "the tiles one by one (1.10 in the last column).",
    ]
    write("instances", "\n\n".join(text))


if __name__ == "__main__":
    main()
