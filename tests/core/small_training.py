"""Small networks and short runs, shared by the tests of training."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from napari_unet.core.events import TrainingFinished
from napari_unet.core.model import Model
from napari_unet.core.normalization import Normalization
from napari_unet.core.pairs import TrainingPair, annotated_planes
from napari_unet.core.preparation import PreparedData, prepare
from napari_unet.core.settings import AnnotationSettings, NetworkSettings, TrainSettings
from napari_unet.core.simulation import simulate_nuclei

TINY = NetworkSettings(base_channels=4, depth=2)
ABLE = NetworkSettings(base_channels=8, depth=2)  # learns a simple image in 50 steps
EVERYWHERE = AnnotationSettings(area="all")
CPU = torch.device("cpu")


def small(**changes: Any) -> TrainSettings:
    """Return settings of a run of 12 steps that takes a fraction of a second."""
    options: dict[str, Any] = {
        "seconds": None,
        "steps": 12,
        "crop": 32,
        "batch": 2,
        "device": "cpu",
        "network": TINY,
    }
    return TrainSettings(**{**options, **changes})


def able(**changes: Any) -> TrainSettings:
    """Return settings of a run of about 2 s that finds most nuclei of :func:`nuclei`."""
    options: dict[str, Any] = {
        "steps": 50,
        "crop": 48,
        "batch": 4,
        "network": ABLE,
        "learning_rate": 4e-3,
        "annotation": EVERYWHERE,
    }
    return small(**{**options, **changes})


def nuclei(seed: int = 1) -> tuple[Any, Any]:
    """Return a simulated image of 96 x 96 px and its labels: 9 nuclei of 14 px."""
    return simulate_nuclei((96, 96), 9, diameter=14, seed=seed)


def data_of(*pairs: Any, settings: TrainSettings | None = None) -> PreparedData:
    """Prepare pairs without resampling."""
    planes = annotated_planes(
        [p if isinstance(p, TrainingPair) else TrainingPair(*p) for p in pairs]
    )
    return prepare(planes, [1.0] * len(planes), 14.0, settings or small(), Normalization(), CPU)


def finished(events: Iterable[Any]) -> TrainingFinished:
    """Return the last event of a run."""
    *_, last = events
    assert isinstance(last, TrainingFinished)
    return last


def same_weights(a: Model, b: Model) -> bool:
    """Return whether two models have the same weights and statistics, bit for bit."""
    first, second = a.net.state_dict(), b.net.state_dict()
    return list(first) == list(second) and all(
        torch.equal(first[name], second[name]) for name in first
    )


def largest_difference(a: Model, b: Model) -> float:
    """Return the largest difference of any weight."""
    first, second = a.net.state_dict(), b.net.state_dict()
    return max(float((first[k].double() - second[k].double()).abs().max()) for k in first)


def finite(model: Model) -> bool:
    """Return whether no weight is NaN or infinite."""
    return all(bool(np.isfinite(v.numpy()).all()) for v in model.net.state_dict().values())
