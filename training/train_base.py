"""Train a shipped base model: ``python -m training.train_base nuclei --data DIR --steps 8000``.

The run can be stopped at any time and goes on from its checkpoint when started again. The
result is the moving average of the weights; ``training.export_base`` puts it into the package.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import math
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from training.base_data import AnnotatedImage, read_collection
from training.base_simulation import dimmed, off_scale, rendered

from napari_unet.core.annotation import training_target
from napari_unet.core.augmentation import Augmentation
from napari_unet.core.device import fast_bfloat16
from napari_unet.core.model_file import load_model, load_tensors, save_tensors
from napari_unet.core.normalization import Normalization
from napari_unet.core.planes import as_plane
from napari_unet.core.resampling import resample_plane
from napari_unet.core.sampling import CropSampler, TrainingImage, training_image
from napari_unet.core.settings import AnnotationSettings, AugmentationSettings, WeightMapSettings
from napari_unet.core.unet import UNet

logger = logging.getLogger("train_base")

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
BATCH, CROP = 8, 160
LEARNING_RATE, WEIGHT_DECAY, WARM_UP = 2e-3, 1e-3, 100
EMA_DECAY = 0.9985
SAVE_EVERY = 120.0
#: Images drawn from real label maps, see ``base_simulation``.
RENDERED = 240

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


def prepare(item: AnnotatedImage, diameter: float, share: float) -> TrainingImage:
    """Bring one image to the network's scale and build its target."""
    plane = as_plane(item.image)
    factor = float(np.clip(diameter / item.diameter, 0.2, 4.0))
    intensities = Normalization().measure(plane)
    scaled = resample_plane(plane, factor)
    height, width = scaled.shape
    target = training_target(
        item.labels, settings=AnnotationSettings(area="all"), weights=WEIGHTS, scale=factor
    )
    return training_image(
        intensities.apply(scaled.read(0, height, 0, width)),
        target.target.astype(np.uint8),
        target.weight,
        item.labels,
        factor=factor,
        share=share,
    )


def prepare_all(
    items: list[AnnotatedImage], diameter: float, shares: dict[str, float]
) -> list[TrainingImage]:
    """Prepare all images; large groups count with the square root of their size."""
    in_group = Counter((item.kind, item.group) for item in items)
    weights = [in_group[item.kind, item.group] ** -0.5 for item in items]
    per_kind: Counter[str] = Counter()
    for item, weight in zip(items, weights, strict=True):
        per_kind[item.kind] += weight
    prepared = []
    for item, weight in zip(items, weights, strict=True):
        prepared.append(prepare(item, diameter, shares[item.kind] * weight / per_kind[item.kind]))
    return prepared


def varied(items: list[AnnotatedImage], seed: int) -> list[AnnotatedImage]:
    """Return further looks of the same fields: rendered label maps, dimmed objects."""
    random = np.random.default_rng(seed)
    fluorescence = [item for item in items if item.kind.startswith("fluo")]
    dim = [dimmed(item, random) for item in fluorescence]
    return rendered(items, RENDERED, seed) + dim + off_scale(items, seed)


class Run:
    """Everything that a stop and restart has to bring back."""

    def __init__(self, folder: Path, seed: int, start: str | None) -> None:
        self.folder = folder
        torch.manual_seed(seed)
        self.net = UNet(**NETWORK).to(memory_format=torch.channels_last)
        self.earlier_steps = 0
        if start is not None:
            model = load_model(start)
            self.net.load_state_dict(model.net.state_dict())
            self.earlier_steps = int(model.training.get("steps", 0))
        self.average = {k: v.detach().clone() for k, v in self.net.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            self.net.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
        )
        self.generator = torch.Generator().manual_seed(seed)
        self.step, self.seconds = 0, 0.0
        self.curve: list[tuple[int, float, float]] = []

    @property
    def checkpoint(self) -> Path:
        """File that :meth:`save` writes."""
        return self.folder / "checkpoint.safetensors"

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
        }
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
        self.average = pick["average."]
        self.generator.set_state(tensors["generator"])
        for name, parameter in self.net.named_parameters():
            state = {
                key: pick["optimizer."][f"{name}.{key}"]
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

    def advance(self, sampler: CropSampler, fraction: float) -> float:
        """Do one step at ``fraction`` of the budget and return its loss."""
        rate = LEARNING_RATE * min(1, (self.step + 1) / WARM_UP)
        rate *= 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(fraction, 1)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        batch = sampler.draw()
        image = batch.image.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16, enabled=fast_bfloat16()):
            logits = self.net(image)
        losses = torch.nn.functional.cross_entropy(logits.float(), batch.target, reduction="none")
        loss = (losses * batch.weight).sum() / batch.weight.sum().clamp(min=1)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), 5.0)
        self.optimizer.step()
        self.step += 1
        decay = min(EMA_DECAY, (1 + self.step) / (10 + self.step))
        for key, value in self.net.state_dict().items():
            if value.is_floating_point():
                self.average[key].lerp_(value, 1 - decay)
            else:
                self.average[key].copy_(value)
        return loss.item()


def train(run: Run, images: list[TrainingImage], steps: int) -> None:
    """Train until all steps are done, saving every few minutes."""
    augmentation = Augmentation(AUGMENTATION, run.generator)
    sampler = CropSampler(images, crop=CROP, batch=BATCH, augmentation=augmentation, in_channels=3)
    run.net.train()
    clock = saved = time.monotonic()
    recent: list[float] = []
    while run.step < steps:
        recent.append(run.advance(sampler, run.step / steps))
        now = time.monotonic()
        run.seconds += now - clock
        clock = now
        if len(recent) == 20:
            run.curve.append((run.step, round(run.seconds, 1), round(float(np.mean(recent)), 5)))
            logger.info("step %d, %.0f s, loss %.4f", *run.curve[-1])
            recent = []
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
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", help="shipped model or model file to start from")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")

    shares = SHARES[options.name]
    items = [i for i in read_collection(options.data, tuple(shares)) if not i.held_out]
    everything = items + varied(items, options.seed)
    images = prepare_all(everything, DIAMETERS[options.name], shares)
    logger.info("%d images", len(images))
    folder = options.output / options.name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "data.json").write_text(json.dumps(sorted(i.identifier for i in items), indent=1))
    run = Run(folder, options.seed, options.start)
    if run.checkpoint.exists():
        run.resume()
    train(run, images, options.steps)


if __name__ == "__main__":
    main()
