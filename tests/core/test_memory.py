"""Complaint 13: what a training or a segmentation took is given back (within 50 MB)."""

from __future__ import annotations

import gc
from collections.abc import Callable

import numpy as np
import pytest
import torch

from napari_unet.core.events import TrainingFinished
from napari_unet.core.optimization import Optimization
from napari_unet.core.prediction import Predictor, predict
from napari_unet.core.settings import (
    AnnotationSettings,
    NetworkSettings,
    TileSettings,
    TrainSettings,
)
from napari_unet.core.simulation import simulate_nuclei
from napari_unet.core.training import iter_training

LIMIT = 50e6
NETWORK = NetworkSettings(base_channels=16, depth=3)


def tensor_bytes() -> int:
    """Return the memory behind all tensors that can still be reached, on the CPU."""
    gc.collect()
    tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
    plain = [tensor.untyped_storage() for tensor in tensors if not tensor.is_mkldnn]
    packed = sum(4 * tensor.numel() for tensor in tensors if tensor.is_mkldnn)
    return packed + sum({each.data_ptr(): each.nbytes() for each in plain}.values())


def cuda_bytes() -> int:
    """Return what PyTorch holds on the GPU, its cache included."""
    gc.collect()
    return torch.cuda.memory_reserved()


MEASURES = [
    pytest.param("cpu", tensor_bytes),
    pytest.param(
        "cuda",
        cuda_bytes,
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
    ),
]


def train(device: str) -> TrainingFinished:
    image, labels = simulate_nuclei((160, 160), diameter=18, seed=1)
    settings = TrainSettings(
        seconds=None,
        steps=2,
        device=device,
        network=NETWORK,
        annotation=AnnotationSettings(area="all"),
    )
    for event in iter_training([(image, labels)], settings, None):
        if isinstance(event, TrainingFinished):
            return event
    raise AssertionError("training did not finish")


@pytest.mark.parametrize(("device", "measure"), MEASURES)
def test_after_training(device: str, measure: Callable[[], int]) -> None:
    """The finished event is kept, as the panel keeps it for going on later."""
    before = measure()
    finished = train(device)
    assert measure() - before < LIMIT
    assert finished.steps == 2


def test_a_gpu_gets_its_memory_back_before_training_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """PyTorch's cache can only give back what nothing refers to any more."""
    released = []
    monkeypatch.setattr(
        "napari_unet.core.training.release_memory", lambda _: released.append(_optimizers())
    )
    before = _optimizers()
    train("cpu")
    assert released == [before]


def _optimizers() -> int:
    gc.collect()
    return sum(type(thing) is Optimization for thing in gc.get_objects())


@pytest.mark.parametrize(("device", "measure"), MEASURES)
def test_after_prediction(device: str, measure: Callable[[], int]) -> None:
    """The predictor is kept, as the panel keeps it for the next image."""
    model = train(device).model
    before = measure()
    predictor = Predictor(model, TileSettings(device=device))
    image = np.random.default_rng(0).normal(size=(1024, 1024)).astype(np.float32)
    held = []

    def during() -> bool:
        held.append(sum(buffer.nbytes for buffer in predictor.network._scratch._held.values()))
        return False

    probabilities = predict(predictor, image, cancelled=during)
    if device == "cpu":
        assert max(held) > LIMIT  # otherwise this would show nothing
    assert measure() - before - probabilities.nbytes < LIMIT
