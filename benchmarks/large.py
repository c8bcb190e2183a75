"""Planes larger than memory: time per megapixel, largest memory, going on after a kill.

Each size is segmented in a process of its own, so that its largest memory is known. The image is a
simulated field of nuclei, repeated and turned, in a zarr; the networks pass its smoothed brightness
on, so that the objects are those nuclei, at the cost of a trained network of the same size.

    python -m benchmarks.large                          1024 to 4096 pixels, two networks
    python -m benchmarks.large --sizes 1024 8192        other sizes
    python -m benchmarks.large --whole                  the small network up to 32768 pixels, too
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
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr

from benchmarks.report import RESULTS, conditions, table, write
from napari_unet.core.events import BlocksDone, LargeSegmentationDone
from napari_unet.core.model import Model
from napari_unet.core.model_file import load_model
from napari_unet.core.prediction import predict
from napari_unet.core.settings import InstanceSettings, TileSettings
from napari_unet.core.simulation import simulate_nuclei
from napari_unet.core.unet import UNet
from napari_unet.io.large import iter_large_segmentation

FIELD = 1024
SMALL = "8x2"
WHOLE = 32768
LARGER = [8192, 16384, WHOLE]
#: Side of the image in the middle of which a job is killed.
KILLED = 8192
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
    """Return a model by name, or one that smooths brightness, of a size given as ``32x3``."""
    base, _, depth = name.partition("x")
    if not (base.isdigit() and depth.isdigit()):
        return load_model(name)
    net = UNet(1, 2, int(base), int(depth), "same", None, dropout=0.0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        # Channel 0 of the first level goes over its skip connection to the classifier.
        for block in (net.contracting[0], net.expanding[0]):
            for layer in (block[0], block[2]):
                layer.weight[0, 0] = 1 / 9
        net.classifier.weight[:, 0, 0, 0] = torch.tensor([-10.0, 10.0])
        net.classifier.bias[:] = torch.tensor([1.8, -1.8])
    thresholds = InstanceSettings(seed_threshold=0.8, mask_threshold=0.5, min_size=50)
    return Model(net.eval(), name, instances=thresholds)


def job(image: Path, labels: Path, model: str, diameter: float | None, tile: int | None) -> None:
    """Segment in this process; print one line of JSON per finished stage."""
    array = zarr.open_array(image, mode="r")
    network, settings = chosen_model(model), TileSettings(tile=tile)
    # The first tile of a process also pays for choosing kernels, at any size of the image.
    predict(network, array[:FIELD, :FIELD], settings=settings)
    began, stages = time.perf_counter(), defaultdict(float)
    for event in iter_large_segmentation(
        network, array, labels, settings=settings, diameter=diameter
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


def started(folder: Path, model: str, options: argparse.Namespace) -> subprocess.Popen[str]:
    """Start a job on the image in ``folder``."""
    command = [sys.executable, "-m", "benchmarks.large", "--job", str(folder), "--models", model]
    if options.diameter is not None:
        command += ["--diameter", str(options.diameter)]
    if options.tile is not None:
        command += ["--tile", str(options.tile)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def outcome(folder: Path, model: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run a job to its end and return its last line."""
    with started(folder, model, options) as process:
        assert process.stdout is not None
        lines = process.stdout.readlines()
    if process.returncode:
        raise SystemExit(f"The job ended with status {process.returncode}.")
    result: dict[str, Any] = json.loads(lines[-1])
    return result


@dataclass(frozen=True)
class Run:
    """What one size cost: seconds per megapixel of prediction and of all else, bytes of memory."""

    size: int
    objects: int
    prediction: float
    rest: float
    memory: float

    @property
    def total(self) -> float:
        """Seconds per megapixel."""
        return self.prediction + self.rest


def measured(size: int, model: str, options: argparse.Namespace) -> Run:
    """Segment one size; end the benchmark when it takes more memory than is promised."""
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        write_image(folder / "image.zarr", size)
        result = outcome(folder, model, options)
    stages, megapixels = result["stages"], size * size / 1e6
    rest = sum(stages.values()) - stages["prediction"]
    run = Run(
        size,
        result["objects"],
        stages["prediction"] / megapixels,
        rest / megapixels,
        result["memory"],
    )
    print(model, run, flush=True)
    if run.memory > LIMIT:
        raise SystemExit(f"{size} px took {run.memory / 2**30:.2f} GiB of memory.")
    return run


def growth(sizes: Sequence[int], model: str, options: argparse.Namespace) -> tuple[list[Run], str]:
    """Return the runs over image sizes with one network, and their table."""
    runs = [measured(size, model, options) for size in sizes]
    rows = [
        (
            f"{run.size:,}",
            f"{run.objects:,}",
            f"{run.prediction:.3f}",
            f"{run.rest:.3f}",
            f"{run.memory / 2**30:.2f}",
        )
        for run in runs
    ]
    last = runs[-1]
    text = table(
        ("side", "objects", "prediction, s/Mpx", "all else, s/Mpx", "memory, GiB (goal: < 2)"), rows
    )
    if last.size < WHOLE:
        minutes = last.total * WHOLE**2 / 1e6 / 60
        text += (
            f"\n\nExtrapolated from the time per megapixel at {last.size:,} px, {WHOLE:,} x "
            f"{WHOLE:,} px take {minutes:,.0f} minutes."
        )
    return runs, text


def _plot(runs: dict[str, list[Run]]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for model, done in runs.items():
        sizes = [run.size for run in done]
        (line,) = left.semilogx(sizes, [run.prediction for run in done], "o-", label=model)
        left.semilogx(
            sizes,
            [run.rest for run in done],
            "s--",
            color=line.get_color(),
            label=f"{model}, all else",
        )
        right.semilogx(sizes, [run.memory / 2**30 for run in done], "o-", label=model)
        if sizes[-1] < WHOLE:
            left.semilogx([sizes[-1], WHOLE], [done[-1].prediction] * 2, ":", color="gray")
    left.set(xlabel="side of the image (px)", ylabel="seconds per megapixel")
    left.set_ylim(bottom=0)
    left.legend(fontsize="small")
    right.axhline(LIMIT / 2**30, color="gray", linestyle=":")
    right.set(xlabel="side of the image (px)", ylabel="largest memory (GiB)", ylim=(0, 2.2))
    ticks = sorted({run.size for done in runs.values() for run in done} | {WHOLE})
    for axes in (left, right):
        axes.set_xticks(ticks, [f"{size // 1024}k" for size in ticks])
        axes.minorticks_off()
    figure.savefig(RESULTS / "large.png", dpi=120)


def kill(options: argparse.Namespace) -> str:
    """Kill a job in the middle of its prediction, start it again, compare with a run at once."""
    size, model = KILLED, SMALL
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        write_image(folder / "image.zarr", size)
        blocks = (-(-size // 2048)) ** 2
        with started(folder, model, options) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if json.loads(line).get("done") == max(1, blocks // 2):
                    process.send_signal(signal.SIGKILL)
        began = time.perf_counter()
        outcome(folder, model, options)
        second = time.perf_counter() - began
        resumed = zarr.open_group(folder / "labels.zarr", mode="r")["0"][:]
        shutil.rmtree(folder / "labels.zarr")
        began = time.perf_counter()
        outcome(folder, model, options)
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
    """Measure, print the tables and write them down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1024, 2048, 4096])
    parser.add_argument(
        "--models",
        nargs="+",
        default=["32x3", SMALL],
        help="model names, or CHANNELSxDEPTH for networks that smooth brightness",
    )
    parser.add_argument("--diameter", type=float, help="object diameter in the image")
    parser.add_argument("--tile", type=int)
    parser.add_argument("--whole", action="store_true", help=f"{SMALL} also on {WHOLE} pixels")
    parser.add_argument("--kill", action="store_true", help="also kill and start again")
    parser.add_argument("--folder", help="folder with room for the largest image")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job is not None:
        files = options.job / "image.zarr", options.job / "labels.zarr"
        job(*files, options.models[0], options.diameter, options.tile)
        return
    runs, sections = {}, []
    for model in options.models:
        more = LARGER if options.whole and model == SMALL else []
        runs[model], text = growth([*options.sizes, *more], model, options)
        channels, _, depth = model.partition("x")
        name = f"{channels} channels, depth {depth}" if depth.isdigit() else f"`{model}`"
        sections += [f"## {name}", text]
    _plot(runs)
    sections += [
        "Goal: a time per megapixel that does not grow with the image. The memory is the largest "
        "resident size of the whole process, Python and PyTorch included; a run above 2 GiB would "
        "have failed.",
        "![Time and memory over image size](large.png)",
    ]
    if options.kill:
        sections += ["## Killed and started again", kill(options)]
    head = [
        "# Planes larger than memory",
        conditions("torch", "zarr", "numpy"),
        f"Image: uint16 zarr in chunks of {FIELD} px, a simulated field of nuclei repeated. Labels "
        "are written as OME-Zarr. Wall-clock times.",
    ]
    write("large", "\n\n".join([*head, *sections]))


if __name__ == "__main__":
    main()
