"""A 3 x 3 convolution with four times fewer multiplications, for wide layers on the CPU.

Winograd's minimal filtering F(4 x 4, 3 x 3) (Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks", 2016): 4 x 4 neighbouring outputs of a 3 x 3 filter need 36 products of sums of
pixels with sums of weights instead of 144. The sums cost memory traffic, so it pays where many
channels make products nearly all of the time.

A group of neighbouring blocks is computed at once, small enough for its sums to stay in the cache:
the sums of pixels, the products, as one convolution of oneDNN with 1 x 1 filters in 36 groups of
channels, and the sums of products. The bias is added to the products, in shares that come out as
the bias of each output.

The polynomials are evaluated at 0, +-3/4, +-3/2 and infinity. With the usual 0, +-1, +-2 rounding
errors are twice as large; with these they are 2.5 times those of a plain convolution.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_unet.core.packed import Layouts, convolve, pack

#: Layers with fewer products per pixel are about as fast, or faster, with a plain convolution. It
#: is twice as fast with vectors of 512 bits, and the sums are not.
_FEWEST_PRODUCTS = {"AVX512": 256 * 128}
_FEWEST_PRODUCTS_ELSEWHERE = 128 * 128
#: A map of fewer 4 x 4 blocks makes too little use of a product's filters.
_FEWEST_BLOCKS = 128
#: Blocks that are computed together: few, so that their sums stay in the cache, but more where a
#: layer has more filters, which are read once a group.
_SMALLEST_GROUP, _LARGEST_GROUP = 96, 256
_PRODUCTS_A_BLOCK = 2048
#: What reading the filters costs, in blocks.
_READING = 32
#: So much more work is accepted to use filters that are laid out already.
_MORE_WORK = 1.6
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
    processor = torch.backends.cpu.get_cpu_capability()
    fewest = _FEWEST_PRODUCTS.get(processor, _FEWEST_PRODUCTS_ELSEWHERE)
    return outputs * inputs >= fewest and blocks >= _FEWEST_BLOCKS


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
        self._weight = weight
        self._bias = torch.outer(_bias_shares(), bias).flatten()
        self._outputs, self._inputs = weight.shape[:2]
        self._scratch = scratch or Scratch()
        self._layouts: Layouts[Tensor] = Layouts(_KEPT_BYTES // (4 * weight.nbytes))
        self._grids: dict[tuple[int, int], Grid] = {}

    def __call__(self, x: Tensor) -> Tensor:
        """Return the map of a ``(1, C, y, x)`` map, 2 rows and columns smaller."""
        height, width = x.shape[2] - 2, x.shape[3] - 2
        grid = self._grid(height, width)
        filters = self._layouts.get(1, grid.group, lambda: self._filters(grid.group))
        pixels = x[0].permute(1, 2, 0)
        result = x.new_empty(height, width, self._outputs)
        for top, left, rows, columns in grid.groups():
            window = self._window(pixels[top:, left:], 4 * rows + 2, 4 * columns + 2)
            sums = self._pixel_sums(window, grid.group, rows, columns)
            products = convolve(sums, filters, self._bias, groups=36)
            goal = result[top : top + 4 * rows, left : left + 4 * columns]
            found = self._output_sums(products, rows, columns)
            torch.clamp(found[: goal.shape[0], : goal.shape[1]], min=0, out=goal)
        return result[None].permute(0, 3, 1, 2)

    def _grid(self, height: int, width: int) -> Grid:
        """Return the blocks of a map of that size, and which are computed together.

        Filters are laid out for the size of a group, so one that is there already and makes
        little more work is used: the lowest stripe of a map often has fewer rows than the others.
        """
        if (height, width) not in self._grids:
            wanted = self._inputs * self._outputs // _PRODUCTS_A_BLOCK
            most = min(max(wanted, _SMALLEST_GROUP), _LARGEST_GROUP)
            best = best_grid(height, width, most)
            known = {grid.group for grid in self._grids.values()}
            used = [best_grid(height, width, group, full=True) for group in known]
            least = min(used, key=lambda grid: grid.work, default=best)
            self._grids[height, width] = least if least.work <= _MORE_WORK * best.work else best
        return self._grids[height, width]

    def _filters(self, group: int) -> Tensor:
        """Return the 36 filters of each channel ``(36 K, C, 1, 1)``, laid out for a group."""
        sums = self._scratch.take("sums", 1, 1, group, 36 * self._inputs)
        filters = _filter_sums(self._weight).flatten(0, 1)[:, :, None, None]
        return pack(filters, sums.permute(0, 3, 1, 2), groups=36)

    def _window(self, x: Tensor, height: int, width: int) -> Tensor:
        """Return the first rows and columns of a map ``(y, x, C)``, zero beyond it."""
        inside = x[:height, :width]
        if inside.shape[:2] == (height, width):
            return inside
        padded = self._scratch.take("padded", height, width, x.shape[2]).zero_()
        padded[: inside.shape[0], : inside.shape[1]] = inside
        return padded

    def _pixel_sums(self, x: Tensor, group: int, rows: int, columns: int) -> Tensor:
        """Return the 36 sums of pixels of each block of 6 x 6, ``(1, 36 C, 1, group)``.

        Where there are fewer blocks than in a group, the rest is whatever was there.
        """
        channels = self._inputs
        down = self._scratch.take("down", 6, rows, 4 * columns + 2, channels)
        spare = self._scratch.take("spare", rows, 4 * columns + 2, channels)
        _six_sums([x[k : k + 4 * rows - 3 : 4] for k in range(6)], list(down), spare)
        held = self._scratch.take("sums", 1, 1, group, 36 * channels)
        both = held[0, 0, : rows * columns].view(rows, columns, 6, 6, channels)
        spare = self._scratch.take("spare", rows, columns, 6, channels)
        down = down.permute(1, 2, 0, 3)
        parts = [down[:, k : k + 4 * columns - 3 : 4] for k in range(6)]
        _six_sums(parts, list(both.unbind(3)), spare)
        return held.permute(0, 3, 1, 2)

    def _output_sums(self, products: Tensor, rows: int, columns: int) -> Tensor:
        """Add the 36 products of each block up to its 4 x 4 outputs, ``(y, x, K)``."""
        channels = self._outputs
        held = products[0, :, 0, : rows * columns].T.view(rows, columns, 6, 6, channels)
        down = self._scratch.take("down", 4, rows, columns, 6, channels)
        spare = self._scratch.take("spare", 4, rows, columns, 6, channels)
        _four_sums(held.unbind(2), list(down), spare)
        result = self._scratch.take("outputs", rows, 4, columns, 4, channels)
        spare = self._scratch.take("spare", 4, rows, 4, columns, channels)
        _four_sums(down.transpose(0, 1).unbind(3), list(result.unbind(3)), spare)
        return result.view(4 * rows, 4 * columns, channels)


@dataclass(frozen=True)
class Grid:
    """The blocks of 4 x 4 outputs that cover a map, and how many are computed together.

    Attributes
    ----------
    rows, columns
        Of blocks, in all.
    high, wide
        Rows and columns of blocks that are computed together; fewer at the lower and right edge.
    group
        Blocks that the filters are laid out for, at least ``high * wide``.
    """

    rows: int
    columns: int
    high: int
    wide: int
    group: int

    @property
    def work(self) -> int:
        """What the products cost, in blocks."""
        groups = -(-self.rows // self.high) * -(-self.columns // self.wide)
        return groups * (self.group + _READING)

    def groups(self) -> Iterator[tuple[int, int, int, int]]:
        """Yield the first output of each group (y, x), and its rows and columns of blocks."""
        for row in range(0, self.rows, self.high):
            for column in range(0, self.columns, self.wide):
                high = min(self.high, self.rows - row)
                yield 4 * row, 4 * column, high, min(self.wide, self.columns - column)


def best_grid(height: int, width: int, most: int, full: bool = False) -> Grid:
    """Return the grid for a map with the least work.

    Parameters
    ----------
    height, width
        Outputs of the map.
    most
        Largest number of blocks to be computed together.
    full
        Compute so many each time, used or not.
    """
    rows, columns = -(-height // 4), -(-width // 4)
    candidates = []
    for high in range(1, min(rows, most) + 1):
        parts = -(-columns // (most // high))
        wide = -(-columns // parts)
        candidates.append(Grid(rows, columns, high, wide, most if full else high * wide))
    return min(candidates, key=lambda grid: grid.work)


def _bias_shares() -> Tensor:
    """Return the shares of a bias that, added to the 36 products, come out as the bias itself."""
    points = torch.tensor([0, _INNER, -_INNER, _OUTER, -_OUTER], dtype=torch.float64)
    along_one = torch.zeros(4, 6, dtype=torch.float64)
    along_one[:, :5] = points ** torch.arange(4)[:, None]
    along_one[3, 5] = 1
    shares = torch.linalg.pinv(along_one).sum(dim=1)
    return torch.outer(shares, shares).flatten().float()


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


def _six_sums(x: Sequence[Tensor], out: Sequence[Tensor], spare: Tensor) -> None:
    """Turn six pixels along an axis into the sums that are multiplied (transposed B there)."""
    both = _INNER_2 + _OUTER_2
    torch.sub(x[4], x[2], alpha=both, out=out[0]).add_(x[0], alpha=_INNER_2 * _OUTER_2)
    torch.sub(x[5], x[3], alpha=both, out=out[5]).add_(x[1], alpha=_INNER_2 * _OUTER_2)
    for place, point, other in ((1, _INNER, _OUTER_2), (3, _OUTER, _INNER_2)):
        torch.sub(x[3], x[1], alpha=other, out=spare)
        torch.sub(x[4], x[2], alpha=other, out=out[place + 1])
        torch.add(out[place + 1], spare, alpha=point, out=out[place])
        out[place + 1].sub_(spare, alpha=point)


def _four_sums(x: Sequence[Tensor], out: Sequence[Tensor], spare: Tensor) -> None:
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
