"""The U-Net of Ronneberger, Fischer and Brox (MICCAI 2015), and its ``same``-padded variant."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from napari_unet.core.errors import SettingsError, SizeError
from napari_unet.core.settings import Norm, Padding

#: Beyond, the smallest image that fits is wider than any camera's; a damaged file may say more.
_DEEPEST = 16


def _double_convolution(
    channels_in: int, channels_out: int, padding: Padding, norm: Norm | None
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for source in (channels_in, channels_out):
        layers.append(
            nn.Conv2d(source, channels_out, 3, padding=int(padding == "same"), bias=norm is None)
        )
        if norm == "batch":
            layers.append(nn.BatchNorm2d(channels_out))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """U-Net for 2-D planes.

    Parameters
    ----------
    in_channels
        Channels of the input image.
    n_classes
        Channels of the logits.
    base_channels
        Feature channels of the first level; they double per level.
    depth
        Number of 2 x 2 max-pooling steps.
    padding
        ``"valid"``: convolutions without padding as published, the output is smaller than the
        input. ``"same"``: zero padding, the output is as large as the input.
    norm
        ``"batch"`` puts batch normalisation after each 3 x 3 convolution.
    dropout
        Probability at the end of the contracting path (its last level and the bottom).

    Notes
    -----
    The forward pass takes ``(N, C, Y, X)`` float and returns logits ``(N, K, Y', X')``; no
    softmax is applied. Weights start from a normal distribution with standard deviation
    ``sqrt(2 / fan_in)`` (He et al. 2015), as in section 3 of the U-Net paper.
    """

    def __init__(
        self,
        in_channels: int = 1,
        n_classes: int = 2,
        base_channels: int = 64,
        depth: int = 4,
        padding: Padding = "valid",
        norm: Norm | None = None,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        _check(in_channels, n_classes, base_channels, depth, padding, norm, dropout)
        self.in_channels, self.n_classes, self.base_channels = in_channels, n_classes, base_channels
        self.depth, self.padding, self.norm, self.dropout_rate = depth, padding, norm, dropout

        widths = [base_channels * 2**level for level in range(depth + 1)]
        sources = [in_channels, *widths]
        self.contracting = nn.ModuleList(
            _double_convolution(sources[level], widths[level], padding, norm)
            for level in range(depth)
        )
        self.bottom = _double_convolution(widths[depth - 1], widths[depth], padding, norm)
        self.dropout = nn.Dropout(dropout)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(widths[level + 1], widths[level], 2, stride=2)
            for level in range(depth)
        )
        self.expanding = nn.ModuleList(
            _double_convolution(2 * widths[level], widths[level], padding, norm)
            for level in range(depth)
        )
        self.classifier = nn.Conv2d(base_channels, n_classes, 1)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                # A 2 x 2, stride 2 up-convolution feeds each output pixel from one input pixel.
                taps = (
                    1 if isinstance(module, nn.ConvTranspose2d) else math.prod(module.kernel_size)
                )
                nn.init.normal_(module.weight, std=math.sqrt(2 / (module.in_channels * taps)))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def config(self) -> dict[str, Any]:
        """Return the constructor's arguments."""
        return {
            "in_channels": self.in_channels,
            "n_classes": self.n_classes,
            "base_channels": self.base_channels,
            "depth": self.depth,
            "padding": self.padding,
            "norm": self.norm,
            "dropout": self.dropout_rate,
        }

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of a batch.

        Raises
        ------
        SizeError
            If the channels or the spatial size do not fit the network.
        """
        self._check_input(x)
        skips = []
        for level, block in enumerate(self.contracting):
            x = block(x)
            if level == self.depth - 1:
                x = self.dropout(x)
            skips.append(x)
            x = nn.functional.max_pool2d(x, 2)
        x = self.dropout(self.bottom(x))
        for level in reversed(range(self.depth)):
            x = self.up[level](x)
            x = torch.cat([_centre_crop(skips[level], x.shape[-2:]), x], dim=1)
            x = self.expanding[level](x)
        logits: Tensor = self.classifier(x)
        return logits

    @property
    def stride(self) -> int:
        """Pixels between two positions at which the network computes the same function."""
        return int(2**self.depth)

    @property
    def size_loss(self) -> int:
        """Pixels by which the output is smaller than the input (0 for ``same``)."""
        return self._size_loss(0) if self.padding == "valid" else 0

    def _size_loss(self, level: int) -> int:
        return 4 if level == self.depth else 8 + 2 * self._size_loss(level + 1)

    def output_size(self, size: int) -> int:
        """Return the output size along one axis of an input of ``size`` pixels.

        Raises
        ------
        SizeError
            If a pooling step would meet an odd size, or nothing would be left.
        """
        if self.padding == "same":
            if size < 1 or size % self.stride:
                raise SizeError(
                    f"A 'same' U-Net of depth {self.depth} takes sizes that are multiples of "
                    f"{self.stride}; pad {size} px to {self.fitting_size(size)} px."
                )
            return size
        at_level = size
        for _ in range(self.depth):
            at_level -= 4
            if at_level < 2 or at_level % 2:
                raise SizeError(self._valid_size_message(size))
            at_level //= 2
        if size <= self.size_loss:  # the expanding path would run out of pixels
            raise SizeError(self._valid_size_message(size))
        return size - self.size_loss

    def _valid_size_message(self, size: int) -> str:
        return (
            f"A 'valid' U-Net of depth {self.depth} cannot take {size} px along an axis; "
            f"the next size that fits is {self.fitting_size(size)} px."
        )

    def fitting_size(self, size: int) -> int:
        """Return the smallest input size that fits the network and is at least ``size``."""
        if self.padding == "same":
            return max(1, -(-size // self.stride)) * self.stride
        # From the bottom up: its output may have any number of pixels, and each level doubles. At
        # least one pixel has to be left at the end of the expanding path.
        wanted = max(size, self.size_loss + 1)
        return self._valid_input(-(-(wanted - self._valid_input(1)) // self.stride) + 1)

    def _valid_input(self, bottom: int) -> int:
        """Return the input size whose bottom level's output has ``bottom`` pixels."""
        size = bottom + 4
        for _ in range(self.depth):
            size = 2 * size + 4
        return size

    def input_size(self, output: int) -> int:
        """Return the smallest fitting input size whose output has at least ``output`` pixels."""
        return self.fitting_size(output + self.size_loss)

    @property
    def receptive_field(self) -> int:
        """Largest number of input pixels along one axis that one output pixel depends on."""
        spans = (self._dependency(0, i, i) for i in range(self.stride))
        return max(last - first + 1 for first, last in spans)

    @property
    def halo(self) -> int:
        """Context a tile needs on each side, in pixels.

        For ``valid``, half the size loss. For ``same``, the reach of the receptive field beyond a
        block of ``stride`` pixels, rounded up to whole blocks, so that the zero padding at the
        border of a tile cannot reach the pixels that are kept.
        """
        if self.padding == "valid":
            return self.size_loss // 2
        first, last = self._dependency(0, 0, self.stride - 1)
        reach = max(-first, last - (self.stride - 1))
        return -(-reach // self.stride) * self.stride

    def _dependency(self, level: int, first: int, last: int) -> tuple[int, int]:
        """Map an interval of outputs of ``level`` to the inputs of that level it depends on."""
        before = 2 if self.padding == "same" else 0  # reach of a double convolution to the left
        after = 4 - before
        if level == self.depth:
            return first - before, last + after
        first, last = first - before, last + after
        crop = 0 if self.padding == "same" else self._size_loss(level + 1)
        below_first, below_last = self._dependency(level + 1, first // 2, last // 2)
        first = min(first + crop, 2 * below_first)
        last = max(last + crop, 2 * below_last + 1)
        return first - before, last + after

    def convolutions(self) -> Iterator[nn.Module]:
        """Yield every layer with weights that are convolved, in definition order."""
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
                yield module

    def _check_input(self, x: Tensor) -> None:
        if x.ndim != 4:
            raise SizeError(f"The network takes arrays (N, C, Y, X), not {x.ndim} axes.")
        if x.shape[1] != self.in_channels:
            raise SizeError(
                f"The network takes {self.in_channels} channel(s), the image has {x.shape[1]}."
            )
        for size in x.shape[-2:]:
            self.output_size(int(size))


def class_probabilities(logits: Tensor) -> Tensor:
    """Turn ``(batch, K, y, x)`` logits into probabilities, background first.

    Softmax over the classes; a network with a single logit has two, by the logistic function.
    """
    if logits.shape[1] == 1:
        foreground = torch.sigmoid(logits)
        return torch.cat([1 - foreground, foreground], dim=1)
    return torch.softmax(logits, dim=1)


def _centre_crop(x: Tensor, size: torch.Size) -> Tensor:
    for axis, length in zip((-2, -1), size, strict=True):
        excess = x.shape[axis] - length
        if excess:
            x = x.narrow(axis, excess // 2, length)
    return x


def _check(
    in_channels: int,
    n_classes: int,
    base_channels: int,
    depth: int,
    padding: str,
    norm: str | None,
    dropout: float,
) -> None:
    counts = {
        "in_channels": in_channels,
        "n_classes": n_classes,
        "base_channels": base_channels,
        "depth": depth,
    }
    for name, value in counts.items():
        if value < 1:
            raise SettingsError(f"{name} must be at least 1, not {value}.")
    if depth > _DEEPEST:
        raise SettingsError(f"depth must be at most {_DEEPEST}, not {depth}.")
    if padding not in ("valid", "same"):
        raise SettingsError(f"padding must be 'valid' or 'same', not {padding!r}.")
    if norm not in (None, "batch"):
        raise SettingsError(f"norm must be 'batch' or None, not {norm!r}.")
    if not 0 <= dropout < 1:
        raise SettingsError(f"dropout must be at least 0 and below 1, not {dropout}.")
