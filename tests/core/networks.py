"""Small networks and the plain, untiled prediction they are compared with."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from napari_unet.core.model import Model
from napari_unet.core.planes import as_plane
from napari_unet.core.settings import Norm, Padding
from napari_unet.core.unet import UNet


def small_net(
    padding: Padding = "same",
    norm: Norm | None = "batch",
    *,
    depth: int = 2,
    in_channels: int = 1,
    n_classes: int = 2,
    seed: int = 0,
) -> UNet:
    """Return a random network whose batch norm (if any) has seen other statistics than 0 and 1."""
    torch.manual_seed(seed)
    net = UNet(in_channels, n_classes, base_channels=3, depth=depth, padding=padding, norm=norm)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.3)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.2)
            nn.init.normal_(module.bias, std=0.2)
        elif isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and module.bias is not None:
            nn.init.normal_(module.bias, std=0.2)
    return net.eval()


def small_model(net: UNet | None = None, **options: Any) -> Model:
    """Return a model around a network (by default :func:`small_net`)."""
    net = net or small_net()
    names = ("background", *(f"class {k}" for k in range(1, net.n_classes)))
    return Model(net, class_names=names[: net.n_classes], **options)


def untiled(model: Model, image: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Apply the network module itself to the whole mirrored image, and read the image domain."""
    net = model.net
    plane = as_plane(image)
    height, width = plane.shape
    halo = net.halo
    if net.padding == "valid":
        rows, columns = net.input_size(height), net.input_size(width)
    else:
        rows, columns = (net.fitting_size(n) + 2 * halo for n in (height, width))
    pixels = plane.read_mirrored(-halo, rows - halo, -halo, columns - halo)
    pixels = model.normalization.measure(plane).apply(pixels)
    with torch.no_grad():
        logits = net(torch.from_numpy(pixels)[None])
        probabilities = torch.softmax(logits, dim=1)[0].numpy()
    first = 0 if net.padding == "valid" else halo
    return probabilities[:, first : first + height, first : first + width]
