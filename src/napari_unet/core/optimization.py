"""The optimiser's side of a training run: steps, moving average, best weights, restart."""

from __future__ import annotations

import contextlib
import copy
import logging
import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from napari_unet.core.augmentation import Augmentation
from napari_unet.core.device import is_out_of_memory, release_memory
from napari_unet.core.errors import DeviceMemoryError, SettingsError
from napari_unet.core.events import Scores
from napari_unet.core.fine_tuning import (
    ANCHOR_STRENGTH,
    Anchor,
    freeze_norm,
    measure_norm,
    trust,
)
from napari_unet.core.gradient_step import GradientStep
from napari_unet.core.model import Model
from napari_unet.core.preparation import PreparedData
from napari_unet.core.sampling import Batch, CropSampler
from napari_unet.core.settings import TrainSettings
from napari_unet.core.training_state import TrainingState
from napari_unet.core.unet import UNet

logger = logging.getLogger(__name__)

Weights = dict[str, Tensor]

#: Learning rates relative to the setting when the base fails on the painted cells, and when it
#: segments them perfectly: weights that are good already are moved by smaller steps.
RATE_FOR_POOR_BASE, RATE_FOR_GOOD_BASE = 1.5, 0.5
#: From scratch, batch-norm statistics are fixed after this share of the run.
NORM_FREEZE = 0.5
_NORM_BATCHES = 8
_AVERAGE_DECAY = 0.99
_WARM_UP_STEPS = 20


class Optimization:
    """One network being trained, with everything a stop and restart has to bring back.

    Parameters
    ----------
    start
        The model to start from; it is not changed.
    data
        Crops are drawn from its images.
    settings
        Batch, crop, rates, seed.
    device
        Where to compute.
    fine_tuning
        Whether ``start`` is trained already: batch-norm statistics stay fixed from the first
        step, and rates are smaller.
    """

    def __init__(
        self,
        start: Model,
        data: PreparedData,
        settings: TrainSettings,
        device: torch.device,
        *,
        fine_tuning: bool,
    ) -> None:
        self.start, self.settings, self.device = start, settings, device
        self.net = _on_device(start.net, device).train()
        self.average = self._weights()
        self.best = self._weights()
        self.best_quality: float | None = None
        self.step = self.validations = 0
        self.broken = ""
        self.fine_tuning = self.frozen_norm = fine_tuning
        self.trust = 0.0
        self._unguarded = 0 if data.validation else data.objects
        self._compute = GradientStep(self.net, device)
        self._optimizer = self._make_optimizer()
        generator = torch.Generator().manual_seed(settings.seed)
        crop = self.net.input_size(settings.crop)
        if not fine_tuning and start.net.norm and settings.batch == 1 and crop == start.net.stride:
            raise SettingsError(
                "Batch normalisation needs more than one pixel at the bottom of the network; "
                "choose a larger crop or more crops per step."
            )
        self._sampler = CropSampler(
            data.images,
            crop=crop,
            answered=self.net.output_size(crop),
            batch=settings.batch,
            augmentation=Augmentation(settings.augmentation, generator),
            in_channels=self.net.in_channels,
        )
        if self.frozen_norm:
            freeze_norm(self.net)

    def _weights(self) -> Weights:
        return {name: value.detach().clone() for name, value in self.net.state_dict().items()}

    def _make_optimizer(self) -> torch.optim.Optimizer:
        settings = self.settings
        parameters = list(self.net.parameters())
        if settings.optimizer == "sgd":
            return torch.optim.SGD(
                parameters, self._rate, momentum=0.99, weight_decay=settings.weight_decay
            )
        return torch.optim.AdamW(
            parameters,
            self._rate,
            weight_decay=settings.weight_decay,
            fused=self.device.type == "cuda",
        )

    @property
    def _rate(self) -> float:
        if not self.fine_tuning:
            return self.settings.learning_rate
        share = RATE_FOR_POOR_BASE + (RATE_FOR_GOOD_BASE - RATE_FOR_POOR_BASE) * self.trust
        return self.settings.learning_rate * share

    def follow(self, base: Model | None, scores: Scores | None) -> None:
        """Keep close to a base model where nothing is painted, as far as it deserves it."""
        self.trust = trust(scores, self._unguarded)
        strength = self.settings.anchor * ANCHOR_STRENGTH * self.trust
        if base is None or strength == 0:
            return
        teacher = _on_device(base.net, self.device)
        self._compute.anchor = Anchor(teacher.eval().requires_grad_(False), strength)

    def advance(self, fraction: float) -> tuple[float, float]:
        """Do one step at ``fraction`` (0 to 1) of the budget; return loss and learning rate.

        A loss that is not finite changes nothing and sets :attr:`broken` to the reason.
        """
        if not self.frozen_norm and fraction >= NORM_FREEZE:
            measure_norm(
                self.net, lambda: self._to_device(self._sampler.draw()).image, _NORM_BATCHES
            )
            freeze_norm(self.net)
            self.frozen_norm = True
            self._compute.forget()
        rate = self._scheduled(fraction)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        loss = self._step_within_memory()
        if not math.isfinite(loss):
            self.broken = "the loss is no longer a finite number"
            logger.error("Training stopped at step %d: %s", self.step, self.broken)
            return loss, rate
        self.step += 1
        self._update_average()
        return loss, rate

    def _scheduled(self, fraction: float) -> float:
        """Warm up, then fall along a cosine (Loshchilov and Hutter 2017)."""
        warm = min(1.0, (self.step + 1) / _WARM_UP_STEPS)
        return self._rate * warm * 0.5 * (1 + math.cos(math.pi * min(fraction, 1.0)))

    def _step_within_memory(self) -> float:
        while True:
            try:
                return self._gradient_step(self._to_device(self._sampler.draw()))
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self._sampler.batch == 1:
                    raise DeviceMemoryError(
                        f"A single crop of {self.settings.crop} px does not fit into the memory of "
                        f"{self.device.type}; choose a smaller crop or train on the CPU."
                    ) from error
            self._compute.forget()
            release_memory(self.device)
            self._sampler.batch //= 2
            logger.warning(
                "Out of memory: training goes on with batches of %d", self._sampler.batch
            )

    def _to_device(self, batch: Batch) -> Batch:
        image = batch.image.to(self.device).contiguous(memory_format=torch.channels_last)
        return Batch(image, batch.target.to(self.device), batch.weight.to(self.device))

    def _gradient_step(self, batch: Batch) -> float:
        with self._reproducible_dropout():
            painted, total = self._compute(batch)
        if not math.isfinite(total):
            return math.nan
        self._optimizer.step()
        return painted

    @contextlib.contextmanager
    def _reproducible_dropout(self) -> Iterator[None]:
        """Seed dropout by the step, so that a resumed run repeats, and leave the rest alone."""
        if self.net.dropout_rate == 0:
            yield
            return
        with seeded(self.settings.seed * 1_000_003 + self.step, self.device):
            yield

    def _update_average(self) -> None:
        # The average forgets the first, random weights quickly.
        decay = min(_AVERAGE_DECAY, (1 + self.step) / (10 + self.step))
        move_average(self.average, self.net.state_dict(), decay)

    def remember(self, quality: float) -> bool:
        """Keep the average as the best weights if it is better than all before."""
        if self.best_quality is not None and quality <= self.best_quality:
            return False
        self.best_quality = quality
        self.best = {name: value.clone() for name, value in self.average.items()}
        return True

    def current_model(self) -> Model:
        """Return the moving average as a model of its own."""
        return self.model_with(self.average)

    def model_with(self, weights: Weights) -> Model:
        """Return the start model with other weights, on the CPU, in evaluation mode."""
        net = copy.deepcopy(self.start.net).cpu()
        net.load_state_dict(weights)
        return replace(self.start, net=net.eval())

    def state(self, seconds: float) -> TrainingState:
        """Return what :meth:`restore` needs."""
        optimizer: Weights = {}
        for name, parameter in self.net.named_parameters():
            for key, value in self._optimizer.state.get(parameter, {}).items():
                if value is not None:
                    optimizer[f"{name}/{key}"] = torch.as_tensor(value).detach().cpu().clone()
        generator, used_batches = self._sampler.state()
        return TrainingState(
            net=_on_cpu(self._weights()),
            average=_on_cpu(self.average),
            best=_on_cpu(self.best),
            optimizer=optimizer,
            generator=generator,
            used_batches=used_batches,
            step=self.step,
            seconds=seconds,
            validations=self.validations,
            best_quality=self.best_quality,
            frozen_norm=self.frozen_norm,
            settings=self.settings,
        )

    def restore(self, state: TrainingState) -> None:
        """Go back to where a run was stopped."""
        self.net.load_state_dict(state.net)
        self.average = {
            name: value.to(self.device).clone() for name, value in state.average.items()
        }
        self.best = {name: value.to(self.device).clone() for name, value in state.best.items()}
        for name, parameter in self.net.named_parameters():
            kept = {
                key.rpartition("/")[2]: value
                for key, value in state.optimizer.items()
                if key.rpartition("/")[0] == name
            }
            if kept:
                # Everything is beside its weights, but the plain AdamW counts steps on the CPU.
                counter = self.device if self.device.type == "cuda" else torch.device("cpu")
                self._optimizer.state[parameter] = {
                    key: value.to(counter if key == "step" else self.device).clone()
                    for key, value in kept.items()
                }
        self._sampler.restore(state.generator, state.used_batches)
        self.step, self.validations = state.step, state.validations
        self.best_quality, self.frozen_norm = state.best_quality, state.frozen_norm
        if self.frozen_norm:
            freeze_norm(self.net)


def move_average(average: Weights, weights: Weights, decay: float) -> None:
    """Move an exponential moving average of weights; counters are copied."""
    real = [name for name, value in weights.items() if value.is_floating_point()]
    update = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
    update([average[name] for name in real], [weights[name] for name in real], 0)
    for name in weights.keys() - set(real):
        average[name].copy_(weights[name])


@contextlib.contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators of the CPU and of one device for a while, then put them back."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            torch.cuda.manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        yield


def _on_device(net: UNet, device: torch.device) -> UNet:
    """Return a copy with the memory layout that convolutions are fastest with."""
    moved = copy.deepcopy(net).to(device)
    for parameter in moved.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return moved


def _on_cpu(weights: Weights) -> Weights:
    return {name: value.detach().cpu().clone() for name, value in weights.items()}
