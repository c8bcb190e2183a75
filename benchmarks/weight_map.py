"""Speed, memory and exactness of the weight map.

Everything is compared in one run on the same labels: with one Euclidean distance transform of the
image (scipy), with a plain version that transforms one window per object, and with brute force
that transforms the whole image once per object. Results are compared before times are.

    python -m benchmarks.weight_map            about a minute
    python -m benchmarks.weight_map --large    also 16384 x 16384 with 80,000 objects
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
import tracemalloc
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from benchmarks.report import RESULTS, conditions, median_ratio, seconds_in_turn, table, write
from napari_unet.core.annotation import training_target
from napari_unet.core.live_target import LiveTarget
from napari_unet.core.settings import AnnotationSettings, WeightMapSettings
from napari_unet.core.simulation import simulate_nuclei
from napari_unet.core.weight_map import weight_map

Labels = npt.NDArray[np.int32]
Floats = npt.NDArray[Any]
W0, SIGMA = 10.0, 5.0
BRUTE_OBJECTS = 3
NO_BALANCE: dict[str, Any] = {"w0": W0, "sigma": SIGMA, "class_balance": False}
REACH = math.ceil(SIGMA * math.sqrt(-2 * math.log(1e-4)))


def formula(labels: Labels, total: Floats) -> Floats:
    """Return ``1 + w0 exp(-total^2 / (2 sigma^2))`` on background, 1 on objects."""
    term: Floats = np.exp(-(total**2) / total.dtype.type(2 * SIGMA**2))
    term *= total.dtype.type(W0)
    term *= labels == 0
    term += 1
    return term


def brute_force(labels: Labels, numbers: Sequence[int]) -> Floats:
    """One distance transform of the whole image per object of ``numbers``."""
    nearest = np.full(labels.shape, np.inf)
    second = nearest.copy()
    for number in numbers:
        own = ndimage.distance_transform_edt(labels != number)
        np.minimum(second, np.maximum(nearest, own), out=second)
        np.minimum(nearest, own, out=nearest)
    return formula(labels, nearest + second)


def plain_windows(labels: Labels) -> Floats:
    """One distance transform per object, in its bounding box grown by the reach."""
    nearest = np.full(labels.shape, np.inf, np.float32)
    second = nearest.copy()
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        window = tuple(slice(max(s.start - REACH, 0), s.stop + REACH) for s in box)
        own = ndimage.distance_transform_edt(labels[window] != number)
        np.minimum(second[window], np.maximum(nearest[window], own), out=second[window])
        np.minimum(nearest[window], own, out=nearest[window])
    return formula(labels, nearest + second)


def compare(labels: Labels, crop: int) -> str:
    """Compare results and return a sentence about them."""
    part = labels[:crop, :crop]
    truth = brute_force(part, np.unique(part[part > 0]).tolist())
    exact = float(np.abs(weight_map(part, **NO_BALANCE) - truth).max())
    windows = float(np.abs(weight_map(labels, **NO_BALANCE) - plain_windows(labels)).max())
    for difference in (exact, windows):
        if difference > 1.01e-4 * W0:
            raise SystemExit(f"The weight map differs from the formula by {difference}.")
    return (
        f"Largest difference from brute force on a {crop} x {crop} crop: {exact / W0:.1e} w0; from "
        f"plain windows on the whole image: {windows / W0:.1e} w0 (promised: 1e-4 w0)."
    )


def full_build(labels: Labels, repeats: int) -> str:
    """Return the table of full builds."""
    numbers = np.unique(labels[labels > 0])
    few = numbers[:: max(len(numbers) // BRUTE_OBJECTS, 1)][:BRUTE_OBJECTS].tolist()
    times = seconds_in_turn(
        {
            "one scipy `distance_transform_edt`": lambda: ndimage.distance_transform_edt(
                labels == 0
            ),
            "`weight_map`": lambda: weight_map(labels),
            "`training_target` (states, ridge, counts, warnings too)": lambda: training_target(
                labels
            ),
            "plain windows, one transform per object": lambda: plain_windows(labels),
            "brute force (extrapolated)": lambda: brute_force(labels, few),
        },
        repeats,
        time.process_time,
    )
    factor = len(numbers) / len(few)
    times["brute force (extrapolated)"] = [
        one * factor for one in times["brute force (extrapolated)"]
    ]
    transform, own = times["one scipy `distance_transform_edt`"], times["`weight_map`"]
    rows = [
        (
            name,
            f"{statistics.median(taken):,.3f}",
            f"{median_ratio(taken, transform):,.2f}",
            f"{median_ratio(taken, own):,.1f}",
        )
        for name, taken in times.items()
    ]
    return (
        table(("", "CPU seconds", "ratio to one transform", "ratio to `weight_map`"), rows)
        + f"\n\nBrute force was timed on the whole image with {len(few)} of its {len(numbers)} "
        "objects and is extrapolated by the number of objects."
    )


def strokes(labels: Labels, count: int) -> str:
    """Paint discs along short lines and time what follows."""
    labels = labels.copy()
    live = LiveTarget(labels)
    rng = np.random.default_rng(0)
    offsets = np.indices((21, 21)) - 10
    disc = np.hypot(*offsets) <= 10
    view = (slice(400, 1400), slice(300, 1700))
    taken: dict[str, list[float]] = {}

    def timed(name: str, run: Callable[[], object]) -> None:
        start = time.process_time()
        run()
        taken.setdefault(name, []).append(time.process_time() - start)

    for stroke in range(count):
        y, x = rng.integers(20, np.array(labels.shape) - 80)
        value = (0, -1, 50_000 + stroke)[stroke % 3]
        for step in range(0, 41, 4):
            labels[y - 10 : y + 11, x - 10 + step : x + 11 + step][disc] = value
        box = (y - 10, x - 10, y + 11, x + 51)
        timed("update", lambda box=box: live.update(labels, box))  # type: ignore[misc]
        timed("counts and warnings", lambda: (live.counts, live.warnings))
        timed("weights of view", lambda: live.weight(view))
    for w0 in np.linspace(0, 50, 11).tolist():
        weights = WeightMapSettings(w0=w0)
        timed(
            "new w0 and weights of view",
            lambda weights=weights: (live.change_weights(weights), live.weight(view)),  # type: ignore[misc]
        )
    if not np.array_equal(live.weight(), training_target(labels, weights=weights).weight):
        raise SystemExit("The live target differs from the full computation.")
    rows = [
        (name, f"{1e3 * statistics.median(one):.1f}", f"{1e3 * max(one):.1f}")
        for name, one in taken.items()
    ]
    return table(("after a stroke of 61 x 21 px", "median CPU ms", "worst CPU ms"), rows)


def growth(labels: Labels, repeats: int) -> str:
    """Time the target over the annotated share of the image, with a figure and a line fit."""
    side = labels.shape[0]
    shares = np.array([0, 1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4, 1])
    painted = []
    for share in shares:
        part = np.zeros_like(labels)
        edge = round(side * math.sqrt(share))
        part[:edge, :edge] = labels[:edge, :edge]
        painted.append(part)
    times = seconds_in_turn(
        {
            str(k): lambda part=part: training_target(part, settings=AnnotationSettings())  # type: ignore[misc]
            for k, part in enumerate(painted)
        },
        repeats,
        time.process_time,
    )
    seconds = np.array([statistics.median(one) for one in times.values()])
    slope, offset = np.polyfit(shares, seconds, 1)
    fitted = offset + slope * shares
    unexplained = ((seconds - fitted) ** 2).sum() / ((seconds - seconds.mean()) ** 2).sum()
    _plot(shares * labels.size / 1e6, seconds, fitted)
    rows = [(f"{share:.3f}", f"{one:.3f}") for share, one in zip(shares, seconds, strict=True)]
    return (
        table(("annotated share of the image", "CPU seconds"), rows)
        + f"\n\nA straight line explains {100 * (1 - unexplained):.1f} % of the variance: "
        f"{offset:.3f} s for the image itself and {slope:.3f} s for the annotation.\n\n"
        "![Time over annotated area](weight_map_growth.png)"
    )


def _plot(
    megapixels: Floats,
    seconds: Floats,
    fitted: Floats,
) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(4.5, 3), layout="constrained")
    axes.plot(megapixels, seconds, "o", label="training_target")
    axes.plot(megapixels, fitted, "-", color="0.5", label="straight line")
    axes.set(xlabel="annotated megapixels", ylabel="CPU seconds", ylim=(0, None), xlim=(0, None))
    axes.legend()
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / "weight_map_growth.png", dpi=120)
    plt.close(figure)


def tiled(field: Labels, rows: int, columns: int) -> Labels:
    """Return copies of a field side by side, each with objects of its own."""
    count, (height, width) = int(field.max()), field.shape
    plane = np.zeros((rows * height, columns * width), np.int32)
    for copy, (row, column) in enumerate(np.ndindex(rows, columns)):
        place = plane[row * height : (row + 1) * height, column * width : (column + 1) * width]
        np.copyto(place, field + copy * count, where=field > 0)
    return plane


def _field() -> Labels:
    """Return 512 x 512 pixels with 75 nuclei, of which some touch."""
    return simulate_nuclei((512, 512), 75, seed=1)[1]


def large() -> str:
    """Build a 16384 x 16384 map with 80,000 objects and watch the memory."""
    plane = tiled(simulate_nuclei((512, 512), 79, seed=2)[1], 32, 32)
    start = time.process_time()
    weight_map(plane)
    seconds = time.process_time() - start
    tracemalloc.start()
    weights = weight_map(plane)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    ratio = peak / weights.nbytes
    if ratio > 1.5:
        raise SystemExit(f"Memory rose to {ratio:.2f} times the output.")
    return (
        f"16384 x 16384 with {int(plane.max()):,} objects: {seconds:.1f} CPU s "
        f"({1e3 * seconds / (plane.size / 1e6):.0f} ms per megapixel); memory allocated, output "
        f"included, at most {ratio:.2f} times the output (promised: 1.5)."
    )


def main() -> None:
    """Run, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=2048, help="a multiple of 512")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument(
        "--large", action="store_true", help="16384 x 16384, needs 3 GB and a minute"
    )
    chosen = parser.parse_args()
    times = chosen.size // len(_field())
    labels = tiled(_field(), times, times)
    text = [
        "# Weight map",
        conditions("numpy", "scipy"),
        f"{chosen.size} x {chosen.size} pixels, {labels.max():,} simulated nuclei "
        f"({100 * (labels > 0).mean():.0f} % of the area), w0 {W0:g}, sigma {SIGMA:g}; medians of "
        f"{chosen.repeats} turns. Everything here runs on one core; times are those of the "
        "processor, so that other programs on the machine count less.",
        compare(labels, min(400, chosen.size)),
        "## Full build",
        full_build(labels, chosen.repeats),
        "## While painting",
        strokes(labels, 45),
        "## Growth with the annotated area",
        growth(labels, max(chosen.repeats - 2, 3)),
    ]
    if chosen.large:
        text += ["## A large image", large()]
    write("weight_map", "\n\n".join(text))


if __name__ == "__main__":
    main()
