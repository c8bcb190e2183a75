"""The layers of a trained network as prediction computes them."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_unet.core.packed import PackedWeights, is_available
from napari_unet.core.winograd import Scratch, WideConvolution, is_faster


def folded_block(block: nn.Module) -> list[nn.Conv2d]:
    """Return the convolutions of a double convolution with batch norm folded into them."""
    layers = list(block.children())
    folded = []
    for position, layer in enumerate(layers):
        if not isinstance(layer, nn.Conv2d):
            continue
        follower = layers[position + 1]
        if isinstance(follower, nn.BatchNorm2d):
            layer = fuse_conv_bn_eval(layer, follower)
        folded.append(layer)
    return folded


class Convolution:
    """An unpadded 3 x 3 convolution with bias and ReLU, on channels-last maps.

    On the CPU oneDNN is called more directly than PyTorch's convolution does, see
    :mod:`napari_unet.core.packed`, and wide layers are computed with fewer multiplications where
    that is faster, see :mod:`napari_unet.core.winograd`.

    Parameters
    ----------
    layer
        Weights and bias.
    device
        Where to compute.
    scratch
        Memory that the layers of a network share.
    """

    def __init__(
        self, layer: nn.Conv2d, device: torch.device, scratch: Scratch | None = None
    ) -> None:
        self.channels = layer.out_channels
        weight = layer.weight.detach().to(device)
        bias = layer.bias
        self._bias = torch.zeros(self.channels) if bias is None else bias.detach()
        self._bias = self._bias.to(device)
        self._weight = weight.contiguous(memory_format=torch.channels_last)
        self._packed: PackedWeights | None = None
        self._wide: WideConvolution | None = None
        if device.type == "cpu" and is_available():
            self._packed = PackedWeights(self._weight)
            self._wide = WideConvolution(self._weight, self._bias, scratch)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the map of a ``(1, C, y, x)`` map, 2 rows and columns smaller."""
        if self._packed is None or self._wide is None:
            return functional.relu_(functional.conv2d(x, self._weight, self._bias))
        if is_faster(self._weight, x.shape[2] - 2, x.shape[3] - 2):
            return self._wide(x)
        return self._packed.convolve(x, self._bias, relu=True)


class UpConvolution:
    """A 2 x 2 transposed convolution with stride 2, on channels-last maps."""

    def __init__(self, layer: nn.Module, device: torch.device) -> None:
        assert isinstance(layer, nn.ConvTranspose2d)
        weight = layer.weight.detach().to(device)
        self._weight = weight.contiguous(memory_format=torch.channels_last)
        self._bias = None if layer.bias is None else layer.bias.detach().to(device)

    def __call__(self, x: Tensor) -> Tensor:
        """Return the map of a ``(1, C, y, x)`` map, doubled in size."""
        return functional.conv_transpose2d(x, self._weight, self._bias, stride=2)
