"""Train a shipped base model: ``python -m training.train_base nuclei --data DIR --steps 8000``.

With ``--device cuda`` everything from the crops to the step runs on the GPU, and a time may be
given in place of steps: ``--seconds 500 --batch 64 --crop 224``. The run can be stopped at any
time and goes on from its checkpoint when started again. The result is the moving average of the
weights; ``training.export_base`` puts it into the package.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from scipy import ndimage
from training.base_data import AnnotatedImage, read_collection
from training.base_looks import changed_looks
from training.base_simulation import dimmed, off_scale, rendered
from training.crop_atlas import AtlasImage, CropAtlas

from napari_unet.core.annotation import training_target
from napari_unet.core.augmentation import Augmentation
from napari_unet.core.device import fast_bfloat16
from napari_unet.core.model_file import load_model, load_tensors, save_tensors
from napari_unet.core.normalization import Normalization
from napari_unet.core.optimization import move_average
from napari_unet.core.planes import as_plane
from napari_unet.core.resampling import resample_plane
from napari_unet.core.settings import AnnotationSettings, AugmentationSettings, WeightMapSettings
from napari_unet.core.unet import UNet

logger = logging.getLogger("train_base")
T = TypeVar("T")
R = TypeVar("R")

#: Median object diameter (px) that each network sees. Cells with thin ends need more pixels.
DIAMETERS = {"nuclei": 24.0, "cells": 32.0}
NETWORK = {
    "in_channels": 3,
    "n_classes": 2,
    "base_channels": 16,
    "depth": 4,
    "padding": "same",
    "norm": "batch",
    "dropout": 0.0,
}
AUGMENTATION = AugmentationSettings(
    scale=0.35, elastic=8.0, gamma=0.4, contrast=0.3, noise=0.12, blur=1.5, inversion=0.25,
    desaturation=0.4,
)  # fmt: skip
#: Class balance would shift probabilities towards the rare class, and touching nuclei together.
WEIGHTS = WeightMapSettings(ridge=2, class_balance=False)
WARM_UP = 100
SAVE_EVERY = 60.0
#: Steps between two entries of the loss curve.
RECORD_EVERY = 20
#: Images drawn from real label maps, see ``base_simulation``, and how many are drawn at a time.
RENDERED, RENDERED_AT_ONCE = 640, 20

#: How often each kind of image is drawn.
SHARES = {
    "nuclei": {
        "fluo_small": 0.28,
        "fluo_large": 0.22,
        "histology_purple": 0.22,
        "brightfield": 0.08,
        "simulated": 0.12,
        "off scale": 0.08,
    },
    "cells": {
        "phase": 0.36,
        "SEM": 0.28,
        "fluo_small": 0.05,
        "fluo_large": 0.05,
        "histology_purple": 0.1,
        "brightfield": 0.04,
        "simulated": 0.08,
        "off scale": 0.04,
    },
}


@dataclass(frozen=True)
class Recipe:
    """Settings of one run; the checkpoint and the model card record them.

    Attributes
    ----------
    steps, seconds
        Where the run ends; with ``seconds`` given, the number of steps does not matter.
    batch, crop
        Crops per step and their side in pixels.
    learning_rate, weight_decay
        Of AdamW; the rate falls along a cosine.
    ema_decay
        Of the moving average of the weights.
    device
        ``"cpu"`` or ``"cuda"``.
    seed
        Of weights, crops and rendered images.
    """

    steps: int = 8000
    seconds: float = math.inf
    batch: int = 8
    crop: int = 160
    learning_rate: float = 2e-3
    weight_decay: float = 1e-3
    ema_decay: float = 0.9985
    device: str = "cpu"
    seed: int = 0

    def fraction(self, step: int, seconds: float) -> float:
        """Return which part of the run is over."""
        if math.isfinite(self.seconds):
            return seconds / self.seconds
        return step / self.steps


def prepare(item: AnnotatedImage, share: float, diameter: float) -> AtlasImage:
    """Bring one image to the network's scale and build its target."""
    plane = as_plane(item.image)
    factor = float(np.clip(diameter / item.diameter, 0.2, 4.0))
    intensities = Normalization().measure(plane)
    scaled = resample_plane(plane, factor)
    height, width = scaled.shape
    target = training_target(
        item.labels, settings=AnnotationSettings(area="all"), weights=WEIGHTS, scale=factor
    )
    pixels = intensities.apply(scaled.read(0, height, 0, width)).astype(np.float16)
    ids = np.unique(item.labels[item.labels > 0])
    centres = ndimage.center_of_mass(np.ones_like(item.labels, np.uint8), item.labels, ids)
    return AtlasImage(
        pixels=np.ascontiguousarray(
            np.broadcast_to(np.moveaxis(pixels, 0, -1), (height, width, NETWORK["in_channels"]))
        ),
        target=target.target.astype(np.uint8),
        weight=target.weight.astype(np.float16),
        objects=np.rint(np.reshape(centres, (-1, 2))).astype(np.intp),
        factor=factor,
        share=share,
    )


def prepare_all(
    items: list[AnnotatedImage], diameter: float, shares: dict[str, float]
) -> list[AtlasImage]:
    """Prepare all images; large groups count with the square root of their size."""
    in_group = Counter((item.kind, item.group) for item in items)
    weights = [in_group[item.kind, item.group] ** -0.5 for item in items]
    per_kind: Counter[str] = Counter()
    for item, weight in zip(items, weights, strict=True):
        per_kind[item.kind] += weight
    part = [
        shares[item.kind] * weight / per_kind[item.kind]
        for item, weight in zip(items, weights, strict=True)
    ]
    return _on_all_cores(partial(_prepare_one, diameter=diameter), zip(items, part, strict=True))


def _prepare_one(task: tuple[AnnotatedImage, float], diameter: float) -> AtlasImage:
    return prepare(*task, diameter)


def varied(items: list[AnnotatedImage], seed: int) -> list[AnnotatedImage]:
    """Return further looks of the same fields: rendered label maps, dimmed objects."""
    chunks = range(RENDERED // RENDERED_AT_ONCE)
    drawn = _on_all_cores(partial(_rendered_chunk, items, seed), chunks)
    fluorescence = [item for item in items if item.kind.startswith("fluo")]
    dim = _on_all_cores(partial(_dimmed_one, seed), enumerate(fluorescence))
    return [item for chunk in drawn for item in chunk] + dim + off_scale(items, seed)


def _rendered_chunk(items: list[AnnotatedImage], seed: int, chunk: int) -> list[AnnotatedImage]:
    return rendered(items, RENDERED_AT_ONCE, [seed, chunk])


def _dimmed_one(seed: int, task: tuple[int, AnnotatedImage]) -> AnnotatedImage:
    number, item = task
    return dimmed(item, np.random.default_rng([seed, number]))


def _on_all_cores(work: Callable[[T], R], tasks: Iterable[T]) -> list[R]:
    """Map in processes, in order."""
    with ProcessPoolExecutor(min(os.cpu_count() or 1, 16)) as pool:
        return list(pool.map(work, tasks, chunksize=4))


class Run:
    """Everything that a stop and restart has to bring back."""

    def __init__(self, folder: Path, recipe: Recipe, start: str | None) -> None:
        self.folder, self.recipe = folder, recipe
        self.device = torch.device(recipe.device)
        torch.manual_seed(recipe.seed)
        self.net = UNet(**NETWORK).to(self.device, memory_format=torch.channels_last)
        self.earlier_steps = 0
        if start is not None:
            model = load_model(start)
            self.net.load_state_dict(model.net.state_dict())
            self.earlier_steps = int(model.training.get("steps", 0))
        self.average = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(),
            recipe.learning_rate,
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.generator = torch.Generator(self.device).manual_seed(recipe.seed)
        self.step, self.seconds = 0, 0.0
        self.curve: list[tuple[int, float, float]] = []

    @property
    def checkpoint(self) -> Path:
        """File that :meth:`save` writes."""
        return self.folder / "checkpoint.safetensors"

    @property
    def fraction(self) -> float:
        """Part of the run that is over."""
        return self.recipe.fraction(self.step, self.seconds)

    def save(self) -> None:
        """Write the whole state and the loss curve."""
        tensors = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.items()}
        tensors["generator"] = self.generator.get_state()
        names = [name for name, _ in self.net.named_parameters()]
        for name, state in zip(names, self.optimizer.state.values(), strict=False):
            tensors |= {f"optimizer.{name}.{k}": v for k, v in state.items()}
        header = {
            "step": self.step,
            "seconds": self.seconds,
            "earlier_steps": self.earlier_steps,
            "network": NETWORK,
            "diameter": DIAMETERS[self.folder.name],
            "recipe": asdict(self.recipe),
        }
        tensors = {name: value.detach().cpu() for name, value in tensors.items()}
        save_tensors(self.checkpoint, tensors, header, "base training")
        with (self.folder / "curve.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("step", "seconds", "loss"), *self.curve])

    def resume(self) -> None:
        """Read the state that :meth:`save` wrote."""
        tensors, header = load_tensors(self.checkpoint, "base training")
        pick = {
            part: {k.removeprefix(part): v for k, v in tensors.items() if k.startswith(part)}
            for part in ("net.", "average.", "optimizer.")
        }
        self.net.load_state_dict(pick["net."])
        self.average = {name: value.to(self.device) for name, value in pick["average."].items()}
        self.generator.set_state(tensors["generator"])
        for name, parameter in self.net.named_parameters():
            state = {
                key: pick["optimizer."][f"{name}.{key}"].to(self.device)
                for key in ("step", "exp_avg", "exp_avg_sq")
            }
            for key in ("exp_avg", "exp_avg_sq"):  # the fused step needs the layout of the weights
                state[key] = torch.empty_like(parameter, requires_grad=False).copy_(state[key])
            self.optimizer.state[parameter] = state
        self.step, self.seconds = int(header["step"]), float(header["seconds"])
        self.earlier_steps = int(header["earlier_steps"])
        with (self.folder / "curve.csv").open(newline="") as file:
            rows = list(csv.reader(file))[1:]
        self.curve = [(int(a), float(b), float(c)) for a, b, c in rows]

    def atlas(self, images: list[AtlasImage]) -> CropAtlas:
        """Return the source of this run's batches."""
        return CropAtlas(
            images,
            crop=self.recipe.crop,
            batch=self.recipe.batch,
            augmentation=Augmentation(AUGMENTATION, self.generator),
        )

    def advance(self, atlas: CropAtlas) -> torch.Tensor:
        """Do one step and return its loss, still on the device."""
        rate = self.recipe.learning_rate * min(1, (self.step + 1) / WARM_UP)
        rate *= 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(self.fraction, 1)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = atlas.draw()
        image = changed_looks(batch.image, self.generator)
        image = image.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=fast_bfloat16(self.device)):
            logits = self.net(image)
        losses = torch.nn.functional.cross_entropy(logits.float(), batch.target, reduction="none")
        loss = (losses * batch.weight).sum() / batch.weight.sum().clamp(min=1)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        decay = min(self.recipe.ema_decay, (1 + self.step) / (10 + self.step))
        move_average(self.average, self.net.state_dict(), decay)
        return loss.detach()


def train(run: Run, images: list[AtlasImage], most: float = math.inf) -> None:
    """Train until the run is over (or ``most`` steps are done), saving now and then."""
    atlas = run.atlas(images)
    run.net.train()
    clock = saved = time.monotonic()
    recent: list[torch.Tensor] = []
    while run.fraction < 1 and run.step < most:
        recent.append(run.advance(atlas))
        if len(recent) == RECORD_EVERY:
            loss = round(torch.stack(recent).mean().item(), 5)  # waits for the GPU
            run.curve.append((run.step, round(run.seconds, 1), loss))
            logger.info("step %d, %.0f s, loss %.4f", *run.curve[-1])
            recent = []
        now = time.monotonic()
        run.seconds += now - clock
        clock = now
        if now - saved > SAVE_EVERY:
            run.save()
            saved = now
    run.save()


def main() -> None:
    """Read the options, train, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(SHARES))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, default=Path(".scratch"))
    parser.add_argument("--start", help="shipped model or model file to start from")
    for option, default in asdict(Recipe()).items():
        name = f"--{option.replace('_', '-')}"
        parser.add_argument(name, type=type(default), default=default)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    recipe = Recipe(**{option: getattr(options, option) for option in asdict(Recipe())})

    shares = SHARES[options.name]
    items = [i for i in read_collection(options.data, tuple(shares)) if not i.held_out]
    everything = items + varied(items, recipe.seed)
    images = prepare_all(everything, DIAMETERS[options.name], shares)
    logger.info("%d images", len(images))
    folder = options.output / options.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.json").write_text(json.dumps(sorted(i.identifier for i in items), indent=1))
    run = Run(folder, recipe, options.start)
    if run.checkpoint.exists():
        run.resume()
    train(run, images)


if __name__ == "__main__":
    main()
