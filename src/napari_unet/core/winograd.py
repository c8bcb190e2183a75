"""A 3 x 3 convolution with four times fewer multiplications, for wide layers on the CPU.

Winograd's minimal filtering F(4 x 4, 3 x 3) (Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks", 2016): 4 x 4 neighbouring outputs of a 3 x 3 filter need 36 products of sums of
pixels with sums of weights instead of 144. The sums cost memory traffic, so it pays where many
channels make products nearly all of the time. Here they are 36 convolutions with 1 x 1 filters
per group of rows, by oneDNN.

The polynomials are evaluated at 0, +-3/4, +-3/2 and infinity. With the usual 0, +-1, +-2 rounding
errors are twice as large; with these they are 2.5 times those of a plain convolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from napari_unet.core.packed import Layouts, convolve, pack

#: Layers with fewer products per pixel are about as fast, or faster, with a plain convolution.
FEWEST_PRODUCTS = 256 * 128
#: So many 4 x 4 blocks must come together to make good use of a product's filters.
_FEWEST_BLOCKS = 128
#: Bytes of the sums of pixels of one group of rows.
_GROUP_BYTES = 20 * 2**20
#: Filters of a layer that are kept laid out for several sizes of group, in bytes.
_KEPT_BYTES = 24 * 2**20
_INNER, _OUTER = 0.75, 1.5
_INNER_2, _OUTER_2 = _INNER**2, _OUTER**2


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


def is_faster(weight: Tensor, height: int, width: int) -> bool:
    """Return whether a map of that size is convolved faster this way, weights ``(K, C, 3, 3)``."""
    outputs, inputs = weight.shape[:2]
    blocks = (height // 4) * (width // 4)
    return outputs * inputs >= FEWEST_PRODUCTS and blocks >= _FEWEST_BLOCKS


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
        self._weight, self._bias = weight, bias
        self._outputs, self._inputs = weight.shape[:2]
        self._scratch = scratch or Scratch()
        self._layouts: Layouts[list[Tensor]] = Layouts(_KEPT_BYTES // (4 * weight.nbytes))

    def __call__(self, x: Tensor) -> Tensor:
        """Return the map of a ``(1, C, y, x)`` map, 2 rows and columns smaller."""
        height, width = x.shape[2] - 2, x.shape[3] - 2
        columns = -(-width // 4)
        result = x.new_empty(1, height, width, self._outputs)
        pixels = x[0].permute(1, 2, 0)
        rows = self._rows_at_once(-(-height // 4), columns)
        filters = self._layouts.get(rows, columns, lambda: self._filters(rows, columns))
        for first in range(0, height, 4 * rows):
            sums = self._pixel_sums(pixels[first : first + 4 * rows + 2], rows, columns)
            products = [convolve(part, each) for part, each in zip(sums, filters, strict=True)]
            blocks = self._output_sums(products, rows, columns)
            goal = result[0, first : first + 4 * rows]
            torch.add(blocks[: len(goal), :width], self._bias, out=goal)
        return result.permute(0, 3, 1, 2).clamp_(min=0)

    def _rows_at_once(self, rows: int, columns: int) -> int:
        """Return how many rows of blocks make a group.

        Filters are laid out for the size of a group, so one that is there already and hardly too
        large is used: the lowest stripe of a map often has a row less than the others.
        """
        widest = max(self._inputs, self._outputs)
        groups = max(1, round(4 * 36 * rows * columns * widest / _GROUP_BYTES))
        wanted = -(-rows // groups)
        known = self._layouts.heights(columns)
        return min((n for n in known if wanted <= n <= 1.25 * wanted), default=wanted)

    def _filters(self, rows: int, columns: int) -> list[Tensor]:
        """Return the 36 filters ``(K, C, 1, 1)``, laid out for groups of that size."""
        x = self._scratch.take("sums", 1, 1, rows * columns, self._inputs).permute(0, 3, 1, 2)
        return [pack(each[:, :, None, None], x) for each in _filter_sums(self._weight)]

    def _pixel_sums(self, x: Tensor, rows: int, columns: int) -> list[Tensor]:
        """Return the 36 sums of pixels of each block of 6 x 6, each ``(1, C, 1, blocks)``."""
        needed, wide = 4 * rows + 2, 4 * columns + 2
        height, width, channels = x.shape
        if height < needed:  # the blocks reach beyond the map
            padded = self._scratch.take("padded", needed, width, channels)
            padded[:height] = x
            padded[height:] = 0
            x = padded
        down = self._scratch.take("sums down", 6, rows, wide, channels)
        spare = self._scratch.take("spare", rows, width, channels)
        _six_sums([x[k : k + 4 * rows - 3 : 4] for k in range(6)], down[:, :, :width], spare)
        down[:, :, width:] = 0
        both = self._scratch.take("sums", 6, 6, rows, columns, channels)
        spare = self._scratch.take("spare", 6, rows, columns, channels)
        parts = [down[:, :, k : k + 4 * columns - 3 : 4] for k in range(6)]
        _six_sums(parts, both.transpose(0, 1), spare)
        return list(both.view(36, 1, 1, rows * columns, channels).permute(0, 1, 4, 2, 3))

    def _output_sums(self, products: list[Tensor], rows: int, columns: int) -> Tensor:
        """Add the 36 products of each block up to its 4 x 4 outputs, ``(y, x, K)``."""
        shape = (rows, columns, self._outputs)
        grid = [product[0].permute(1, 2, 0).view(shape) for product in products]
        down = self._scratch.take("outputs down", 4, 6, *shape)
        spare = self._scratch.take("spare", 4, *shape)
        for column in range(6):
            _four_sums(grid[column::6], down[:, column], spare)
        result = self._scratch.take("outputs", 4 * rows, 4 * columns, self._outputs)
        blocks = result.view(rows, 4, columns, 4, self._outputs).permute(3, 1, 0, 2, 4)
        spare = self._scratch.take("spare", 4, 4, *shape)
        _four_sums(list(down.transpose(0, 1)), blocks, spare)
        return result


def _filter_sums(weight: Tensor) -> Tensor:
    """Return the 36 sums of the weights of each filter ``(K, C, 3, 3)``, as ``(36, K, C)``."""
    sums = [[1 / (_INNER_2 * _OUTER_2), 0, 0]]
    for point, other in ((_INNER, _OUTER_2), (_OUTER, _INNER_2)):
        share = 1 / (2 * point**2 * (point**2 - other))
        sums += [[share, sign * point * share, point**2 * share] for sign in (1, -1)]
    along_one = torch.tensor([*sums, [0, 0, 1]], dtype=torch.float64)
    along_both = torch.kron(along_one, along_one)
    taps = weight.permute(2, 3, 0, 1).reshape(9, -1).double()
    return (along_both @ taps).float().view(36, *weight.shape[:2])


def _six_sums(x: Sequence[Tensor], out: Tensor, spare: Tensor) -> None:
    """Turn six pixels along an axis into the sums that are multiplied (transposed B there)."""
    both = _INNER_2 + _OUTER_2
    torch.sub(x[4], x[2], alpha=both, out=out[0]).add_(x[0], alpha=_INNER_2 * _OUTER_2)
    torch.sub(x[5], x[3], alpha=both, out=out[5]).add_(x[1], alpha=_INNER_2 * _OUTER_2)
    for place, point, other in ((1, _INNER, _OUTER_2), (3, _OUTER, _INNER_2)):
        torch.sub(x[3], x[1], alpha=other, out=spare)
        torch.sub(x[4], x[2], alpha=other, out=out[place + 1])
        torch.add(out[place + 1], spare, alpha=point, out=out[place])
        out[place + 1].sub_(spare, alpha=point)


def _four_sums(x: Sequence[Tensor], out: Tensor, spare: Tensor) -> None:
    """Turn six products along an axis into four outputs (transposed A there)."""
    inner, inner_odd, outer, outer_odd = spare
    torch.add(x[1], x[2], out=inner)
    torch.sub(x[1], x[2], out=inner_odd)
    torch.add(x[3], x[4], out=outer)
    torch.sub(x[3], x[4], out=outer_odd)
    torch.add(x[0], inner, out=out[0]).add_(outer)
    torch.mul(inner_odd, _INNER, out=out[1]).add_(outer_odd, alpha=_OUTER)
    torch.mul(inner, _INNER_2, out=out[2]).add_(outer, alpha=_OUTER_2)
    torch.add(x[5], inner_odd, alpha=_INNER**3, out=out[3]).add_(outer_odd, alpha=_OUTER**3)
