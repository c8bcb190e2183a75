"""oneDNN's convolution with weights laid out beforehand, on the CPU.

PyTorch's public convolution brings the weights into oneDNN's layout at each call, does not fuse
the ReLU, and is slow for one input channel and for 1 x 1 filters. The operators used here are
those of PyTorch's compiler, not public: :func:`is_available` tries them before they are trusted.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

logger = logging.getLogger(__name__)

#: Weights of a layer that are kept laid out for several sizes of its map, in bytes.
_KEPT_BYTES = 8 * 2**20
_Packed = TypeVar("_Packed")


class Layouts(Generic[_Packed]):
    """Weights laid out for the sizes of map asked for last, and for the number of threads.

    Parameters
    ----------
    most
        Layouts that are kept; one always is.
    """

    def __init__(self, most: int) -> None:
        self._most = max(1, most)
        self._held: dict[tuple[int, int, int], _Packed] = {}

    def get(self, height: int, width: int, make: Callable[[], _Packed]) -> _Packed:
        """Return the layout for a size; it is made when it is not there."""
        layout = (height, width, torch.get_num_threads())
        if layout not in self._held:
            if len(self._held) >= self._most:
                self._held.pop(next(iter(self._held)))
            self._held[layout] = make()
        return self._held[layout]

    def __len__(self) -> int:
        return len(self._held)


class PackedWeights:
    """Weights of one layer in oneDNN's own layout.

    The layout depends on the size of the map that is convolved and on the number of threads. With
    that of another size the convolution can take 15 times as long (seen with 384 and 512
    channels), so there is one for each that is asked for.

    Parameters
    ----------
    weight
        ``(K, C, y, x)`` float32, on the CPU.
    """

    def __init__(self, weight: Tensor) -> None:
        self._weight = weight.contiguous(memory_format=torch.channels_last)
        self._layouts: Layouts[Tensor] = Layouts(_KEPT_BYTES // weight.nbytes)

    def convolve(self, x: Tensor, bias: Tensor | None = None, *, relu: bool = False) -> Tensor:
        """Return the unpadded convolution of a ``(1, C, y, x)`` channels-last map."""
        packed = self._layouts.get(x.shape[2], x.shape[3], lambda: pack(self._weight, x))
        return convolve(x, packed, bias, relu=relu)


def pack(weight: Tensor, x: Tensor, groups: int = 1) -> Tensor:
    """Lay weights ``(K, C / groups, y, x)`` out for maps of the size of ``x``."""
    packed: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
        weight, [0, 0], [1, 1], [1, 1], groups, list(x.shape)
    )
    return packed


def convolve(
    x: Tensor, packed: Tensor, bias: Tensor | None = None, *, relu: bool = False, groups: int = 1
) -> Tensor:
    """Return the unpadded convolution with weights from :func:`pack`."""
    then = "relu" if relu else "none"
    result: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, packed, bias, [0, 0], [1, 1], [1, 1], groups, then, [], ""
    )
    return result


@functools.cache
def is_available() -> bool:
    """Return whether this PyTorch has the operators, and whether they are right."""
    for inputs, side, groups in ((1, 3, 1), (16, 3, 1), (16, 1, 1), (16, 1, 4)):
        each = inputs // groups
        weight = torch.linspace(-1, 1, 8 * each * side**2).reshape(8, each, side, side)
        bias = torch.linspace(-0.1, 0.1, 8)
        x = torch.linspace(-1, 1, inputs * 64).reshape(1, inputs, 8, 8)
        x = x.contiguous(memory_format=torch.channels_last)
        expected = functional.relu(functional.conv2d(x, weight, bias, groups=groups))
        try:
            found = convolve(x, pack(weight, x, groups), bias, relu=True, groups=groups)
        except (AttributeError, RuntimeError, TypeError) as error:
            logger.debug("The packed convolution is not available: %s", error)
            return False
        if not torch.allclose(found, expected, rtol=1e-4, atol=1e-4):
            logger.debug("The packed convolution differs from the plain one; it is not used.")
            return False
    return True
