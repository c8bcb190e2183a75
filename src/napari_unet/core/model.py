"""A model: the network together with everything that prediction needs to know about it."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self, get_args

from napari_unet.core.errors import InputError
from napari_unet.core.normalization import Normalization
from napari_unet.core.settings import InstanceSettings, Task
from napari_unet.core.unet import UNet

#: What the network's input channels mean. ``"gray_or_rgb"``: three channels, a gray image is
#: repeated three times. ``"as_is"``: the image must have exactly the network's channels.
ChannelMode = Literal["gray_or_rgb", "as_is"]


@dataclass(frozen=True)
class Model:
    """A trained network and what surrounds it.

    Attributes
    ----------
    net
        The network, in evaluation mode, on the CPU.
    name
        Short name, for lists and file names.
    task
        ``"objects"`` (2 classes: background, object) or ``"classes"``.
    class_names
        One name per class of the network.
    channels
        See :data:`ChannelMode`.
    normalization
        How intensities are scaled before they enter the network.
    diameter
        Median object diameter at the scale the network sees, in pixels; None when object size is
        not matched (always in task ``classes``).
    pixel_size
        Size of a pixel of the images trained on, in ``pixel_unit``; None when unknown.
    pixel_unit
        Unit of ``pixel_size``.
    instances
        Thresholds of the instance step.
    training
        Summary of the training, plain JSON values.
    """

    net: UNet
    name: str = "unnamed"
    task: Task = "objects"
    class_names: tuple[str, ...] = ("background", "object")
    channels: ChannelMode = "as_is"
    normalization: Normalization = Normalization()
    diameter: float | None = None
    pixel_size: float | None = None
    pixel_unit: str = ""
    instances: InstanceSettings = InstanceSettings()
    training: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.class_names) != self.net.n_classes:
            raise InputError(
                f"A network with {self.net.n_classes} classes needs as many class names, "
                f"not {len(self.class_names)}."
            )
        for name, kind in (("task", Task), ("channels", ChannelMode)):
            value = getattr(self, name)
            if value not in get_args(kind):
                allowed = " or ".join(repr(each) for each in get_args(kind))
                raise InputError(f"The {name} of a model must be {allowed}, not {value!r}.")
        for name in ("diameter", "pixel_size"):
            value = getattr(self, name)
            if value is None:
                continue
            if not (isinstance(value, numbers.Real) and 0 < float(value) < math.inf):
                what = name.replace("_", " ")
                raise InputError(f"The {what} of a model must be a positive number, not {value!r}.")

    def check_channels(self, channels: int) -> None:
        """Raise :class:`InputError` when an image of so many channels cannot be used."""
        wanted = self.net.in_channels
        if self.channels == "gray_or_rgb":
            if channels in (1, 3):
                return
            raise InputError(
                f"The model {self.name!r} takes gray or RGB images; choose one channel of this "
                f"image, which has {channels}."
            )
        if channels != wanted:
            kind = "an RGB" if channels == 3 else f"a {channels}-channel"
            raise InputError(
                f"The model {self.name!r} was trained on images with {wanted} channel(s) and "
                f"cannot be used on {kind} image; choose another model or convert the image."
            )

    def with_name(self, name: str) -> Self:
        """Return the same model under another name."""
        return replace(self, name=name)
