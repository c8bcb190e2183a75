"""What a training step costs: share of data preparation, against a plain loop, first latency.

``python -m benchmarks.training_step [--device auto|cpu|cuda] [--repeats N]`` writes
``results/training_step.md``.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.report import conditions, median_ratio, seconds_in_turn, table, write
from napari_unet.core.augmentation import Augmentation
from napari_unet.core.device import choose_device
from napari_unet.core.events import Scores, TrainingStep
from napari_unet.core.model import Model
from napari_unet.core.normalization import Normalization
from napari_unet.core.optimization import Optimization, seeded
from napari_unet.core.pairs import TrainingPair, annotated_planes
from napari_unet.core.preparation import PreparedData, prepare, scale_factors
from napari_unet.core.sampling import Batch, CropSampler
from napari_unet.core.settings import NetworkSettings, TrainSettings
from napari_unet.core.simulation import simulate_nuclei
from napari_unet.core.training import iter_training
from napari_unet.core.unet import UNet

PAINTED = 20
#: A base that segments everything is anchored to with full strength: the most expensive case.
_PERFECT = Scores(1.0, 1.0, 1.0, 1.0, 0.0)

Run = Callable[[], object]


@dataclass(frozen=True)
class StepTimes:
    """Seconds a step of each turn: drawing, our steps, plain loops on a batch that is there."""

    data: list[float]
    ours: list[float]
    anchored: list[float]
    plain: list[float]
    plain_channels_last: list[float]


def painted_image(side: int = 512) -> TrainingPair:
    """Return an image of which ``PAINTED`` neighbouring nuclei are painted."""
    image, labels = simulate_nuclei((side, side), diameter=24, seed=0)
    centres = np.array([np.argwhere(labels == k).mean(axis=0) for k in range(1, labels.max() + 1)])
    nearest = np.argsort(np.linalg.norm(centres - side / 2, axis=1))[:PAINTED] + 1
    return TrainingPair(image, np.where(np.isin(labels, nearest), labels, 0))


def prepared(pair: TrainingPair, settings: TrainSettings, device: torch.device) -> PreparedData:
    """Return what training draws crops from."""
    planes = annotated_planes([pair])
    factors, diameter = scale_factors(planes, settings, None)
    return prepare(planes, factors, diameter, settings, Normalization(), device)


def plain_loop(net: UNet, batch: Batch, settings: TrainSettings) -> Run:
    """Return a step as a tutorial writes it: forward, weighted loss, backward, AdamW."""
    optimizer = torch.optim.AdamW(net.parameters(), settings.learning_rate)
    criterion = nn.CrossEntropyLoss(reduction="none")

    def step() -> float:
        optimizer.zero_grad()
        loss: Tensor = (criterion(net(batch.image), batch.target) * batch.weight).mean()
        torch.autograd.backward(loss)
        optimizer.step()
        return loss.item()

    return step


def measure_steps(
    data: PreparedData, settings: TrainSettings, device: torch.device, repeats: int
) -> StepTimes:
    """Time all kinds of steps in turn, on a GPU in rounds of the batches that are drawn at once."""
    with seeded(0, torch.device("cpu")):
        start = Model(UNet(data.channels, 2, **settings.network.to_dict()).eval())
    sampler = CropSampler(
        data.images,
        crop=settings.crop,
        batch=settings.batch,
        augmentation=Augmentation(settings.augmentation, torch.Generator().manual_seed(0)),
        in_channels=start.net.in_channels,
    )
    batch = sampler.draw()
    last = replace(batch, image=batch.image.contiguous(memory_format=torch.channels_last))
    ours = Optimization(start, data, settings, device, fine_tuning=False)
    anchored = Optimization(start, data, settings, device, fine_tuning=True)
    anchored.follow(start, _PERFECT)
    nets = [copy.deepcopy(start.net).to(device).train() for _ in range(2)]
    for parameter in nets[1].parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    candidates: dict[str, Run] = {
        "data": sampler.draw,
        "ours": lambda: ours.advance(0.1),
        "anchored": lambda: anchored.advance(0.1),
        "plain": plain_loop(nets[0], batch, settings),
        "plain_channels_last": plain_loop(nets[1], last, settings),
    }
    steps = sampler.at_once
    rounds = {name: _round(run, steps, device) for name, run in candidates.items()}
    times = seconds_in_turn(rounds, repeats, _clock(device))
    return StepTimes(**{name: [t / steps for t in taken] for name, taken in times.items()})


def _round(run: Run, steps: int, device: torch.device) -> Run:
    def finished() -> None:
        for _ in range(steps):
            run()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return finished


def _clock(device: torch.device) -> Callable[[], float]:
    """Processor time on the CPU, so that other programs count less; wall time beside a GPU."""
    return time.process_time if device.type == "cpu" else time.perf_counter


def first_step_latency(
    pair: TrainingPair, settings: TrainSettings, base: str | None, repeats: int
) -> list[float]:
    """Return seconds from the call to the first finished step, once to warm up left out."""
    clock = _clock(choose_device(settings.device).device)
    found = []
    for _ in range(repeats + 1):
        start = clock()
        for event in iter_training([pair], settings, base):
            if isinstance(event, TrainingStep):
                break
        found.append(clock() - start)
    return found[1:]


def step_rows(name: str, times: StepTimes) -> list[list[str]]:
    """Return the lines of the table for one network."""
    kinds = {
        "crop, augmentation, weights": times.data,
        "our step, from scratch": times.ours,
        "our step, anchored to a base": times.anchored,
        "plain loop, batch at hand": times.plain,
        "plain loop, channels last": times.plain_channels_last,
    }
    return [
        [
            name if row == 0 else "",
            kind,
            f"{1000 * statistics.median(seconds):.1f}",
            f"{median_ratio(seconds, times.plain):.2f}",
            f"{median_ratio(seconds, times.ours):.2f}",
        ]
        for row, (kind, seconds) in enumerate(kinds.items())
    ]


def main() -> None:
    """Measure, print and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto", choices=["auto", "cpu", "cuda"])
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    device = choose_device(options.device).device
    pair = painted_image()
    rows: list[list[str]] = []
    for channels, depth in ((32, 3), (64, 3)):
        network = NetworkSettings(base_channels=channels, depth=depth)
        settings = TrainSettings(seconds=None, steps=1000, device=device.type, network=network)
        data = prepared(pair, settings, device)
        rows += step_rows(
            f"{channels} x {depth}", measure_steps(data, settings, device, options.repeats)
        )
    settings = TrainSettings(seconds=None, steps=1000, device=device.type)
    repeats = min(3, options.repeats)
    latency = [
        [start, f"{statistics.median(first_step_latency(pair, settings, base, repeats)):.2f}"]
        for start, base in (("from scratch", None), ("shipped model `nuclei`", "nuclei"))
    ]
    what = "CPU seconds" if device.type == "cpu" else "seconds"
    text = [
        "# Training step",
        conditions("torch", "numpy", "scipy"),
        f"{settings.batch} crops of {settings.crop} px, drawn from a simulated image of 512 x 512 "
        f"px with {PAINTED} painted nuclei, AdamW, on the {device.type.upper()}; medians of "
        f"{options.repeats} turns. The plain loops train the same network on a batch that is there "
        "already, with the same loss; ours draw, augment and weigh their crops, clip gradients and "
        "keep a moving average. Anchored steps ask the base, too.",
        table(["network", "", f"{what} / 1000", "ratio to plain", "ratio to ours"], rows),
        "## From the call to the first step",
        "Reading the annotation, weight map, normalisation, network or model file, judging the "
        "model that training starts from, and one step.",
        table(["training starts", what], latency),
    ]
    write("training_step" if device.type == "cpu" else "training_step_cuda", "\n\n".join(text))


if __name__ == "__main__":
    main()
