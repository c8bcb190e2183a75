"""Planes larger than memory: time per megapixel, largest memory, going on after a kill.

Each size is segmented in a process of its own, so that its largest memory is known. The image is a
simulated field of nuclei, repeated and mirrored, in a zarr.

    python -m benchmarks.large                          1024, 2048 and 4096 pixels
    python -m benchmarks.large --sizes 1024 4096 16384  more
    python -m benchmarks.large --kill                   kill -9 in the middle, start again
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr

from benchmarks.report import RESULTS, conditions, table, write
from napari_unet.core.events import BlocksDone, LargeSegmentationDone
from napari_unet.core.model import Model
from napari_unet.core.model_file import load_model
from napari_unet.core.settings import InstanceSettings, TileSettings
from napari_unet.core.simulation import simulate_nuclei
from napari_unet.core.unet import UNet
from napari_unet.io.large import iter_large_segmentation

FIELD = 1024
#: Promised for a plane of 32,768 x 32,768 pixels.
LIMIT = 2 * 2**30


def write_image(path: Path, size: int) -> None:
    """Write a field of nuclei of ``size`` x ``size`` pixels, chunk by chunk."""
    field, _ = simulate_nuclei((FIELD, FIELD), n=300, diameter=36, seed=0)
    array = zarr.create_array(path, shape=(size, size), chunks=(FIELD, FIELD), dtype=field.dtype)
    for top in range(0, size, FIELD):
        for left in range(0, size, FIELD):
            turn = (top // FIELD + left // FIELD) % 4
            part = np.rot90(field, turn)[: size - top, : size - left]
            array[top : top + part.shape[0], left : left + part.shape[1]] = part


def chosen_model(name: str) -> Model:
    """Return a model by name, or an untrained one of a size given as ``32x3``."""
    base, _, depth = name.partition("x")
    if base.isdigit() and depth.isdigit():
        torch.manual_seed(0)
        net = UNet(1, 2, int(base), int(depth), "same", "batch", dropout=0.0).eval()
        thresholds = InstanceSettings(seed_threshold=0.55, mask_threshold=0.5)
        return Model(net, instances=thresholds)
    return load_model(name)


def job(image: Path, labels: Path, model: str, diameter: float | None, tile: int | None) -> None:
    """Segment in this process; print one line of JSON per finished stage."""
    array = zarr.open_array(image, mode="r")
    began, stages = time.perf_counter(), defaultdict(float)
    settings = TileSettings(tile=tile)
    for event in iter_large_segmentation(
        chosen_model(model), array, labels, settings=settings, diameter=diameter
    ):
        now = time.perf_counter()
        if isinstance(event, BlocksDone):
            stages[event.stage] += now - began
            print(json.dumps({"stage": event.stage, "done": event.done}), flush=True)
        elif isinstance(event, LargeSegmentationDone):
            stages["writing"] += now - began
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            memory *= 1 if sys.platform == "darwin" else 1024
            result = {"stages": stages, "memory": memory, "objects": event.objects}
            print(json.dumps(result), flush=True)
        began = now


def started(folder: Path, options: argparse.Namespace) -> subprocess.Popen[str]:
    """Start a job on the image in ``folder``."""
    command = [sys.executable, "-m", "benchmarks.large", "--job", str(folder)]
    command += ["--model", options.model]
    if options.diameter is not None:
        command += ["--diameter", str(options.diameter)]
    if options.tile is not None:
        command += ["--tile", str(options.tile)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def outcome(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Run a job to its end and return its last line."""
    with started(folder, options) as process:
        assert process.stdout is not None
        lines = process.stdout.readlines()
    if process.returncode:
        raise SystemExit(f"The job ended with status {process.returncode}.")
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def growth(options: argparse.Namespace) -> str:
    """Return the table over image sizes, and draw it."""
    rows, points = [], []
    for size in options.sizes:
        with tempfile.TemporaryDirectory(dir=options.folder) as name:
            folder = Path(name)
            write_image(folder / "image.zarr", size)
            result = outcome(folder, options)
        pixels = size * size / 1e6
        stages = result["stages"]
        prediction = stages["prediction"] / pixels
        rest = (sum(stages.values()) - stages["prediction"]) / pixels
        points.append((size, prediction, rest, result["memory"] / 2**30))
        rows.append(
            (
                f"{size:,}",
                f"{result['objects']:,}",
                f"{prediction:.2f}",
                f"{rest:.3f}",
                f"{result['memory'] / 2**30:.2f}",
            )
        )
        if result["memory"] > LIMIT:
            raise SystemExit(f"{size} px took {result['memory'] / 2**30:.2f} GiB of memory.")
    _plot(points)
    header = ("side", "objects", "prediction, s/Mpx", "everything else, s/Mpx", "memory, GiB")
    return (
        table(header, rows) + "\n\nThe memory is the largest resident size of the whole process, "
        "Python and PyTorch included; a run above 2 GiB would have failed.\n\n"
        "![Time and memory over image size](large.png)"
    )


def _plot(points: list[tuple[int, float, float, float]]) -> None:
    from matplotlib.figure import Figure

    sizes, prediction, rest, memory = zip(*points, strict=True)
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.loglog(sizes, prediction, "o-", label="prediction")
    left.loglog(sizes, rest, "s-", label="everything else")
    left.set(xlabel="side of the image (px)", ylabel="seconds per megapixel")
    left.legend()
    right.semilogx(sizes, memory, "o-")
    right.axhline(2, color="gray", linestyle=":")
    right.set(xlabel="side of the image (px)", ylabel="largest memory (GiB)", ylim=(0, 2.2))
    figure.savefig(RESULTS / "large.png", dpi=120)


def kill(options: argparse.Namespace) -> str:
    """Kill a job in the middle of its prediction, start it again, compare with a run at once."""
    size = options.sizes[-1]
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        write_image(folder / "image.zarr", size)
        blocks = (-(-size // 2048)) ** 2
        with started(folder, options) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if json.loads(line).get("done") == max(1, blocks // 2):
                    process.send_signal(signal.SIGKILL)
        began = time.perf_counter()
        outcome(folder, options)
        second = time.perf_counter() - began
        resumed = zarr.open_group(folder / "labels.zarr", mode="r")["0"][:]
        shutil.rmtree(folder / "labels.zarr")
        began = time.perf_counter()
        outcome(folder, options)
        whole = time.perf_counter() - began
        equal = np.array_equal(resumed, zarr.open_group(folder / "labels.zarr", mode="r")["0"][:])
    if not equal:
        raise SystemExit("The labels after a kill differ from those of a run at once.")
    return (
        f"Killed with SIGKILL after half of the {blocks} blocks of {size} x {size} pixels and "
        f"started again: the second run took {second:.0f} s, a run at once {whole:.0f} s; the "
        "labels are equal."
    )


def main() -> None:
    """Measure, print the table and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048, 4096])
    parser.add_argument("--model", default="32x3", help="model name, or CHANNELSxDEPTH (untrained)")
    parser.add_argument("--diameter", type=float, help="object diameter in the image")
    parser.add_argument("--tile", type=int)
    parser.add_argument("--kill", action="store_true", help="also kill and start again")
    parser.add_argument("--folder", help="folder with room for the largest image")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job is not None:
        files = options.job / "image.zarr", options.job / "labels.zarr"
        job(*files, options.model, options.diameter, options.tile)
        return
    text = [
        "# Planes larger than memory",
        conditions("torch", "zarr", "numpy"),
        f"Network: {options.model}. Image: uint16 zarr in chunks of {FIELD} px.",
        growth(options),
    ]
    if options.kill:
        text.append(kill(options))
    write("large", "\n\n".join(text))


if __name__ == "__main__":
    main()
