"""A 3 x 3 convolution with 2.25 times fewer multiplications, for wide layers on the CPU.

Winograd's minimal filtering F(2 x 2, 3 x 3) (Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks", 2016): four neighbouring outputs of a 3 x 3 filter need 16 products of sums of
pixels with sums of weights instead of 36. The sums cost memory traffic, so it pays where many
channels make products nearly all of the time. Here they are 16 matrix products per group of rows
that fits into the cache.
"""

from __future__ import annotations

import functools
import math
import platform
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

#: Layers with fewer channels in or out are about as fast, or faster, with a plain convolution.
FEWEST_INPUTS, FEWEST_OUTPUTS = 256, 128
#: Bytes of the largest intermediate array of a group of rows, at least, and the share of the
#: weights' bytes that it has where they are many: they are read once for each group.
_GROUP_BYTES, _GROUP_SHARE = 3 * 2**20, 0.2
#: Turns three weights along an axis into four (Lavin and Gray, section 4.1).
_FILTER_SUMS = torch.tensor([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


class Scratch:
    """Memory for intermediate results, used again from one layer to the next.

    Fresh memory of this size comes from the operating system page by page, each time.
    """

    def __init__(self) -> None:
        self._held: dict[str, Tensor] = {}

    def take(self, name: str, *shape: int) -> Tensor:
        """Return an uninitialised array; what was taken under that name before is overwritten."""
        size = math.prod(shape)
        held = self._held.get(name)
        if held is None or held.numel() < size:
            self._held.pop(name, None)  # given back before more is asked for
            del held
            held = self._held[name] = torch.empty(size)
        return held[:size].view(shape)

    def clear(self) -> None:
        """Give the memory back."""
        self._held.clear()


def is_faster(weight: Tensor) -> bool:
    """Return whether this computer is faster this way for a layer with weights ``(K, C, 3, 3)``.

    Told from the processor's maker, not timed: the same computer must always choose the same.
    """
    outputs, inputs = weight.shape[:2]
    return inputs >= FEWEST_INPUTS and outputs >= FEWEST_OUTPUTS and made_by_intel()


@functools.cache
def made_by_intel() -> bool:
    """Return whether this computer has an Intel processor."""
    try:
        described = Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        described = platform.processor()
    return "GenuineIntel" in described


class WideConvolution:
    """An unpadded 3 x 3 convolution with bias and ReLU, on channels-last maps.

    Parameters
    ----------
    weight
        ``(K, C, 3, 3)`` float32, on the CPU.
    bias
        ``(K,)``.
    scratch
        Shared by layers that are never computed at the same time.
    """

    def __init__(self, weight: Tensor, bias: Tensor, scratch: Scratch | None = None) -> None:
        outputs, inputs = weight.shape[:2]
        sums = _FILTER_SUMS.double()
        along_both = torch.einsum("ia,kcab,jb->ijck", sums, weight.double(), sums)
        self._factors = along_both.reshape(16, inputs, outputs).float().contiguous()
        self._weight = weight.contiguous(memory_format=torch.channels_last)
        self._bias = bias
        self._scratch = scratch or Scratch()

    def __call__(self, x: Tensor) -> Tensor:
        """Return the map of a ``(1, C, y, x)`` map, 2 rows and columns smaller."""
        height, width = x.shape[2] - 2, x.shape[3] - 2
        even = height // 2 * 2, width // 2 * 2
        result = x.new_empty(1, height, width, len(self._bias))
        if min(even):
            pixels = x[0, :, : even[0] + 2, : even[1] + 2].permute(1, 2, 0)
            self._blocks(pixels, result[0, : even[0], : even[1]])
        result = result.permute(0, 3, 1, 2)
        for axis, (size, whole) in enumerate(zip((height, width), even, strict=True), start=2):
            if size > whole:  # the last row or column has no partner
                strip = x.narrow(axis, whole, 3)
                result.narrow(axis, whole, 1).copy_(
                    functional.conv2d(strip, self._weight, self._bias)
                )
        return result.clamp_(min=0)

    def _blocks(self, x: Tensor, result: Tensor) -> None:
        """Convolve ``(y + 2, x + 2, C)`` into ``(y, x, K)`` with even y and x, without ReLU."""
        height, width, outputs = result.shape
        widest = max(x.shape[2], outputs)
        budget = max(_GROUP_BYTES, _GROUP_SHARE * self._factors.nbytes)
        group = max(1, int(budget / (4 * 16 * (width // 2) * widest)))
        for first in range(0, height, 2 * group):
            last = min(height, first + 2 * group)
            sums = self._pixel_sums(x[first : last + 2])
            products = self._scratch.take("products", 16, sums.shape[1], outputs)
            torch.bmm(sums, self._factors, out=products)
            self._output_sums(products, result[first:last])

    def _pixel_sums(self, x: Tensor) -> Tensor:
        """Return the 16 sums of pixels of each 2 x 2 block, ``(16, blocks, C)``."""
        rows, columns, channels = x.shape[0] // 2 - 1, x.shape[1] // 2 - 1, x.shape[2]
        even, odd = x[0::2], x[1::2]
        down = self._scratch.take("sums down", 4, rows, x.shape[1], channels)
        _four_sums(even[:-1], odd[:-1], even[1:], odd[1:], down)
        both = self._scratch.take("sums", 4, 4, rows, columns, channels)
        even, odd = down[:, :, 0::2], down[:, :, 1::2]
        _four_sums(
            even[:, :, :-1], odd[:, :, :-1], even[:, :, 1:], odd[:, :, 1:], both.transpose(0, 1)
        )
        return both.view(16, rows * columns, channels)

    def _output_sums(self, products: Tensor, result: Tensor) -> None:
        """Add 16 products per block up to its 2 x 2 outputs, in ``(y, x, K)``."""
        height, width, outputs = result.shape
        products[5] += self._bias  # the one product that every output contains exactly once
        grid = products.view(4, 4, height // 2, width // 2, outputs)
        down = self._scratch.take("outputs down", 2, *grid.shape[1:])
        _two_sums(grid, down)
        blocks = result.view(height // 2, 2, width // 2, 2, outputs)
        for row in range(2):
            _two_sums(down[row], blocks[:, row].movedim(2, 0))


def _four_sums(a: Tensor, b: Tensor, c: Tensor, d: Tensor, out: Tensor) -> None:
    """Turn four pixels along an axis into the sums that are multiplied (transposed B there)."""
    torch.sub(a, c, out=out[0])
    torch.add(b, c, out=out[1])
    torch.sub(c, b, out=out[2])
    torch.sub(b, d, out=out[3])


def _two_sums(products: Tensor, out: Tensor) -> None:
    """Turn four products along an axis into two outputs (transposed A there)."""
    torch.add(products[0], products[1], out=out[0]).add_(products[2])
    torch.sub(products[1], products[2], out=out[1]).sub_(products[3])
