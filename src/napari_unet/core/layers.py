"""The layers of a trained network as prediction computes them."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_unet.core.winograd import Scratch, WideConvolution, is_faster

logger = logging.getLogger(__name__)

#: Packed weights of a layer that are kept, for several sizes of its map; one always is.
_PACKED_BYTES = 16 * 2**20


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

    On the CPU, oneDNN's convolution with the ReLU fused into it and weights laid out beforehand is
    used where this PyTorch offers it. PyTorch's own entry point is slower, for one input channel
    ten times. Wide layers are computed with fewer multiplications where that is faster, see
    :mod:`napari_unet.core.winograd`.

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
        on_cpu, wide = device.type == "cpu", is_faster(weight)
        self._wide = WideConvolution(weight, self._bias, scratch) if on_cpu and wide else None
        self._packed = _PackedWeights.of(weight) if on_cpu and not wide else None

    def __call__(self, x: Tensor) -> Tensor:
        """Return the map of a ``(1, C, y, x)`` map, 2 rows and columns smaller."""
        if self._wide is not None:
            return self._wide(x)
        if self._packed is None:
            return functional.relu_(functional.conv2d(x, self._weight, self._bias))
        return _pointwise(x, self._packed.for_map(x), self._bias)


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


def _pointwise(x: Tensor, packed: Tensor, bias: Tensor) -> Tensor:
    result: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, packed, bias, [0, 0], [1, 1], [1, 1], 1, "relu", [], ""
    )
    return result


class _PackedWeights:
    """Weights in oneDNN's own layout, which depends on the size of the map that is convolved.

    With the layout for another size the convolution can take 15 times as long (seen with 384
    channels), so there is one for each size that is asked for.
    """

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight
        self._most = max(1, _PACKED_BYTES // weight.nbytes)
        self._held: dict[tuple[int, int], Tensor] = {}

    @classmethod
    def of(cls, weight: Tensor) -> _PackedWeights | None:
        """Return the weights, or None where packing them does not work.

        The operators are those of PyTorch's compiler, not public: they are tried on a small map
        against the public convolution before they are trusted.
        """
        packed = cls(weight)
        x = torch.linspace(-1, 1, weight.shape[1] * 64).reshape(1, -1, 8, 8)
        x = x.contiguous(memory_format=torch.channels_last)
        bias = torch.zeros(weight.shape[0])
        expected = functional.relu(functional.conv2d(x, weight, bias))
        try:
            got = _pointwise(x, packed.for_map(x), bias)
        except (AttributeError, RuntimeError, TypeError) as error:
            logger.debug("The fused convolution is not available: %s", error)
            return None
        tolerance: Any = 1e-5 * (1 + expected.abs().max())
        if not torch.allclose(got, expected, rtol=1e-4, atol=float(tolerance)):
            logger.debug("The fused convolution differs from the plain one; it is not used.")
            return None
        return packed

    def for_map(self, x: Tensor) -> Tensor:
        """Return the weights for maps of the size of ``x``."""
        size = (x.shape[2], x.shape[3])
        if size not in self._held:
            if len(self._held) >= self._most:
                self._held.pop(next(iter(self._held)))
            self._held[size] = torch.ops.mkldnn._reorder_convolution_weight(
                self._weight, [0, 0], [1, 1], [1, 1], 1, list(x.shape)
            )
        return self._held[size]
