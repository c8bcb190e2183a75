"""A trained U-Net prepared for prediction: batch norm folded in, only needed pixels computed.

On an image mirrored without end no zero padding ever takes part, so ``valid`` and ``same``
networks are one thing here: unpadded convolutions in absolute coordinates. A level's pixel ``j``
covers the pixels ``2j + phase`` and ``2j + phase + 1`` of the level above; the phases are 0 for
``same`` and follow from the published border arithmetic for ``valid``. From an output interval
the interval that each level must compute follows exactly, so the contracting path is not computed
beyond the receptive field and the expanding path hardly beyond the tile.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from napari_unet.core.unet import UNet

Interval = tuple[int, int]


class CancelledError(Exception):
    """The computation was asked to stop between two layers."""


@dataclass(frozen=True)
class AxisPlan:
    """Intervals along one axis, in absolute coordinates of each level.

    Attributes
    ----------
    source
        Pixels of the image that are read.
    contracted
        Output of each contracting block.
    pooled
        Input of each level below the first (index 0 is the first pooling's output).
    expanded
        Output of each expanding block; the last entry is that of the bottom.
    """

    source: Interval
    contracted: tuple[Interval, ...]
    pooled: tuple[Interval, ...]
    expanded: tuple[Interval, ...]


def level_phases(net: UNet) -> tuple[int, ...]:
    """Return, per pooling, which of two neighbouring pixels starts a pair (0 even, 1 odd)."""
    if net.padding == "same":
        return (0,) * net.depth
    phases = []
    start = -(net.size_loss // 2)
    for _ in range(net.depth):
        start += 2  # two unpadded convolutions
        phases.append(start % 2)
        start = (start - start % 2) // 2
    return tuple(phases)


def plan_axis(start: int, stop: int, phases: tuple[int, ...]) -> AxisPlan:
    """Plan what each level computes for the outputs ``[start, stop)`` of one axis."""
    depth = len(phases)
    expanded = [(start, stop)]
    for phase in phases:
        first, last = expanded[-1][0] - 2, expanded[-1][1] + 2
        expanded.append(((first - phase) // 2, -((phase - last) // 2)))
    below = (expanded[depth][0] - 2, expanded[depth][1] + 2)
    contracted: list[Interval] = []
    pooled: list[Interval] = []
    for level in reversed(range(depth)):
        pooled.append(below)
        phase = phases[level]
        skip = (expanded[level][0] - 2, expanded[level][1] + 2)
        held = (
            min(skip[0], 2 * below[0] + phase),
            max(skip[1], 2 * below[1] + phase),
        )
        contracted.append(held)
        below = (held[0] - 2, held[1] + 2)
    return AxisPlan(below, tuple(contracted[::-1]), tuple(pooled[::-1]), tuple(expanded))


def folded_block(block: nn.Sequential) -> list[nn.Conv2d]:
    """Return the convolutions of a double convolution with batch norm folded into them."""
    layers = list(block)
    folded = []
    for position, layer in enumerate(layers):
        if not isinstance(layer, nn.Conv2d):
            continue
        follower = layers[position + 1]
        if isinstance(follower, nn.BatchNorm2d):
            layer = fuse_conv_bn_eval(layer, follower)
        folded.append(layer)
    return folded


class InferenceNetwork:
    """Class probabilities of a U-Net on any window of an image without end.

    A :class:`~napari_unet.core.tiling.WindowFunction`. The network given is not changed and not
    kept; weights are copied to ``device`` once.

    Parameters
    ----------
    net
        The network; its batch-norm statistics are used as in evaluation mode, dropout is off.
    device
        Where to compute.
    half
        On CUDA, compute in half precision (probabilities within 1 % of float32). A result that is
        not finite is computed again in single precision.
    """

    def __init__(self, net: UNet, device: torch.device | str = "cpu", half: bool = False) -> None:
        self.device = torch.device(device)
        self.half = half and self.device.type == "cuda"
        self.depth = net.depth
        self.base_channels = net.base_channels
        self.n_classes = net.n_classes
        self.phases = level_phases(net)
        self.stride = net.stride
        held = copy.deepcopy(net).to("cpu").eval().requires_grad_(False)
        self._contracting = [self._prepare(block) for block in held.contracting]
        self._bottom = self._prepare(held.bottom)
        self._up = [self._place(layer) for layer in held.up]
        self._expanding = [self._prepare(block) for block in held.expanding]
        self._classifier = self._place(held.classifier)

    @property
    def outputs(self) -> int:
        """Number of probability channels: one per class, 2 for a network with a single logit."""
        return max(2, self.n_classes)

    def _place(self, layer: nn.Module) -> nn.Module:
        placed: nn.Module = layer.to(device=self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        return placed

    def _prepare(self, block: nn.Module) -> list[nn.Module]:
        assert isinstance(block, nn.Sequential)
        return [self._place(layer) for layer in folded_block(block)]

    def needs(self, start: int, stop: int) -> Interval:
        """Return the image pixels that the outputs ``[start, stop)`` of an axis depend on."""
        return plan_axis(start, stop, self.phases).source

    def __call__(
        self,
        pixels: npt.NDArray[np.float32],
        rows: Interval,
        columns: Interval,
        cancelled: Callable[[], bool] | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return the probabilities ``(K, y, x)`` on ``rows`` x ``columns``.

        Parameters
        ----------
        pixels
            Normalised ``(C, y, x)`` float32 on the intervals of :meth:`needs`.
        rows, columns
            Half-open intervals in absolute pixels of the network's grid.
        cancelled
            Looked at between layers.

        Raises
        ------
        Cancelled
            If ``cancelled`` returned true.
        """
        plans = (plan_axis(*rows, self.phases), plan_axis(*columns, self.phases))
        with torch.inference_mode():
            x = self._upload(pixels)
            probabilities = self._probabilities(x, plans, cancelled, self.half)
            if self.half and not bool(torch.isfinite(probabilities).all()):
                probabilities = self._probabilities(x, plans, cancelled, False)
            result: npt.NDArray[np.float32] = probabilities[0].cpu().numpy()
        return result

    def _upload(self, pixels: npt.NDArray[np.float32]) -> Tensor:
        x = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))[None]
        if self.device.type == "cuda":
            x = x.pin_memory()
        return x.to(self.device, non_blocking=True).contiguous(memory_format=torch.channels_last)

    def _probabilities(
        self,
        x: Tensor,
        plans: tuple[AxisPlan, AxisPlan],
        cancelled: Callable[[], bool] | None,
        half: bool,
    ) -> Tensor:
        with torch.autocast("cuda", torch.float16) if half else nullcontext():
            logits = self._logits(x, plans, cancelled or _never)
        logits = logits.float()
        if self.n_classes == 1:
            foreground = torch.sigmoid(logits)
            return torch.cat([1 - foreground, foreground], dim=1)
        return torch.softmax(logits, dim=1)

    def _logits(
        self, x: Tensor, plans: tuple[AxisPlan, AxisPlan], cancelled: Callable[[], bool]
    ) -> Tensor:
        vertical, horizontal = plans
        skips: list[Tensor] = []
        held: tuple[Interval, ...]
        for level, block in enumerate(self._contracting):
            x = _double(x, block, cancelled)
            held = (vertical.contracted[level], horizontal.contracted[level])
            phase = self.phases[level]
            skips.append(_crop(x, held, tuple(_grown(p.expanded[level]) for p in plans)))
            below = tuple(_doubled(p.pooled[level], phase) for p in plans)
            x = functional.max_pool2d(_crop(x, held, below), 2)
        x = _double(x, self._bottom, cancelled)
        for level in reversed(range(self.depth)):
            x = self._up[level](x)
            phase = self.phases[level]
            held = tuple(_doubled(p.expanded[level + 1], phase) for p in plans)
            x = _crop(x, held, tuple(_grown(p.expanded[level]) for p in plans))
            x = torch.cat([skips.pop(), x], dim=1)
            x = _double(x, self._expanding[level], cancelled)
        result: Tensor = self._classifier(x)
        return result


def _never() -> bool:
    return False


def _grown(interval: Interval) -> Interval:
    """Return what two unpadded 3 x 3 convolutions need for an output interval."""
    return interval[0] - 2, interval[1] + 2


def _doubled(interval: Interval, phase: int) -> Interval:
    """Return the interval of the level above that a pooled interval covers."""
    return 2 * interval[0] + phase, 2 * interval[1] + phase


def _crop(x: Tensor, held: tuple[Interval, ...], wanted: tuple[Interval, ...]) -> Tensor:
    for axis, (have, want) in enumerate(zip(held, wanted, strict=True), start=2):
        x = x.narrow(axis, want[0] - have[0], want[1] - want[0])
    return x


def _double(x: Tensor, block: list[nn.Module], cancelled: Callable[[], bool]) -> Tensor:
    for layer in block:
        if cancelled():
            raise CancelledError
        assert isinstance(layer, nn.Conv2d)
        x = functional.relu_(functional.conv2d(x, layer.weight, layer.bias))
    return x
