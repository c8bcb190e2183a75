"""What would make the first click slow, done beforehand: PyTorch, the device, the first model."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from napari_unet.core.model import Model


@dataclass(frozen=True)
class DeviceFound:
    """Where the network will run; ``reason`` is one sentence for the user."""

    name: str
    reason: str


@dataclass(frozen=True)
class ModelLoaded:
    """A model was read from ``source`` (a name or a path)."""

    source: str
    model: Model = field(repr=False, compare=False)


def warm_up_job(
    source: str | None, *, cancelled: Callable[[], bool] | None = None
) -> Generator[DeviceFound | ModelLoaded, None, None]:
    """Import PyTorch, choose the device, load a model, predict a few pixels, make an optimiser.

    Parameters
    ----------
    source
        Name or path of the model; None loads none.
    cancelled
        Looked at between the parts.
    """
    from napari_unet.core.device import choose_device

    device = choose_device("auto")
    yield DeviceFound(device.name, device.reason)
    if source is None or (cancelled is not None and cancelled()):
        return
    from napari_unet.core.model_file import load_model
    from napari_unet.core.prediction import predict

    model = load_model(source)
    yield ModelLoaded(source, model)
    channels = () if model.net.in_channels in (1, 3) else (model.net.in_channels,)
    predict(
        model,
        np.zeros((*channels, 32, 32), dtype=np.float32),
        channel_axis=0 if channels else None,
        cancelled=cancelled,
    )
    if cancelled is None or not cancelled():
        _make_optimiser()


def _make_optimiser() -> None:
    """Make an optimiser: the first one of a process imports PyTorch's compiler, over a second."""
    import torch

    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])
