"""A trained U-Net prepared for prediction: batch norm folded in, only needed pixels computed.

On an image mirrored without end no zero padding ever takes part, so ``valid`` and ``same``
networks are one thing here: unpadded convolutions in absolute coordinates. A level's pixel ``j``
covers the pixels ``2j + phase`` and ``2j + phase + 1`` of the level above; the phases are 0 for
``same`` and follow from the published border arithmetic for ``valid``. From an output interval
the interval that each level must compute follows exactly, so the contracting path is not computed
beyond the receptive field and the expanding path hardly beyond the tile.

On the CPU every level is computed in stripes of rows that stay in the cache, from one
convolution to the next; only skips and the result of a level are held as a whole. Feature maps of
tens of megabytes would otherwise be written to fresh memory pages and read back at each layer,
which costs about as much as the convolutions.
"""

from __future__ import annotations

import copy
import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from napari_unet.core.device import release_memory
from napari_unet.core.layers import Convolution, UpConvolution, folded_block
from napari_unet.core.sampling import match_channels
from napari_unet.core.unet import UNet, class_probabilities
from napari_unet.core.winograd import Scratch

Interval = tuple[int, int]

#: Bytes of one feature map of a stripe on the CPU: a few of them fit into the cache.
STRIPE_BYTES = 6 * 2**20
#: Fewer rows than this would compute too much twice (2 rows more per convolution).
_STRIPE_ROWS = 32
_float32_switch = threading.Lock()


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


class InferenceNetwork:
    """Class probabilities of a U-Net on any window of an image without end.

    A :class:`~napari_unet.core.tiling.WindowFunction`. The network given is not changed and not
    kept; weights are copied to ``device`` once. One window is computed at a time, whatever the
    number of threads that ask.

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
        self.in_channels = net.in_channels
        self.base_channels = net.base_channels
        self.n_classes = net.n_classes
        self.phases = level_phases(net)
        self.stride = net.stride
        held = copy.deepcopy(net).to("cpu").eval().requires_grad_(False)
        self._scratch = Scratch()
        self._contracting = [self._double(block) for block in held.contracting]
        self._bottom = self._double(held.bottom)
        self._up = [UpConvolution(layer, self.device) for layer in held.up]
        self._expanding = [self._double(block) for block in held.expanding]
        self._classifier = held.classifier.to(self.device)
        self._busy = threading.Lock()

    def _double(self, block: nn.Module) -> _Double:
        first, second = (
            Convolution(layer, self.device, self._scratch) for layer in folded_block(block)
        )
        return _Double(first, second)

    @property
    def outputs(self) -> int:
        """Number of probability channels: one per class, 2 for a network with a single logit."""
        return max(2, self.n_classes)

    def needs(self, start: int, stop: int) -> Interval:
        """Return the image pixels that the outputs ``[start, stop)`` of an axis depend on."""
        return plan_axis(start, stop, self.phases).source

    def release(self) -> None:
        """Free the memory that is kept from one window to the next."""
        with self._busy:
            self._scratch.clear()
        release_memory(self.device)

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
            Normalised ``(C, y, x)`` float32 on the intervals of :meth:`needs`. A single channel
            is shown to a network of several as gray.
        rows, columns
            Half-open intervals in absolute pixels of the network's grid.
        cancelled
            Looked at between layers.

        Raises
        ------
        CancelledError
            If ``cancelled`` returned true.
        """
        plans = (plan_axis(*rows, self.phases), plan_axis(*columns, self.phases))
        with self._busy, torch.inference_mode():
            x = self._upload(pixels)
            probabilities = self._run(x, plans, cancelled, self.half)
            if self.half and not bool(torch.isfinite(probabilities).all()):
                probabilities = self._run(x, plans, cancelled, False)
            result: npt.NDArray[np.float32] = self._download(probabilities[0]).numpy()
        return result

    def _upload(self, pixels: npt.NDArray[np.float32]) -> Tensor:
        x = torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))[None]
        if self.device.type == "cuda":
            x = x.pin_memory()  # from a pool of page-locked memory: copied while Python goes on
        x = match_channels(x.to(self.device, non_blocking=True), self.in_channels)
        return x.contiguous(memory_format=torch.channels_last)

    def _download(self, probabilities: Tensor) -> Tensor:
        if self.device.type != "cuda":
            return probabilities.cpu()
        held = torch.empty(probabilities.shape, pin_memory=True)
        held.copy_(probabilities, non_blocking=True)
        torch.cuda.current_stream(self.device).synchronize()
        return held

    def _run(
        self,
        x: Tensor,
        plans: tuple[AxisPlan, AxisPlan],
        cancelled: Callable[[], bool] | None,
        half: bool,
    ) -> Tensor:
        with self._arithmetic(half):
            return self._forward(x, plans, cancelled or _never)

    def _arithmetic(self, half: bool) -> AbstractContextManager[object]:
        if self.device.type != "cuda":
            return nullcontext()
        return torch.autocast("cuda", torch.float16) if half else _full_float32()

    def _forward(
        self, x: Tensor, plans: tuple[AxisPlan, AxisPlan], cancelled: Callable[[], bool]
    ) -> Tensor:
        skips: list[Tensor] = []
        for level in range(self.depth):
            skip, x = self._contract(level, x, plans, cancelled)
            skips.append(skip)
        if cancelled():
            raise CancelledError
        x = self._bottom(x, cancelled)
        for level in reversed(range(self.depth)):
            x = self._expand(level, x, skips.pop(), plans, cancelled)
        return x

    def _contract(
        self,
        level: int,
        x: Tensor,
        plans: tuple[AxisPlan, AxisPlan],
        cancelled: Callable[[], bool],
    ) -> tuple[Tensor, Tensor]:
        """Return the skip and the pooled map of one contracting level."""
        phase, block = self.phases[level], self._contracting[level]
        held = tuple(plan.contracted[level] for plan in plans)
        kept = tuple(_grown(plan.expanded[level]) for plan in plans)
        paired = tuple(_doubled(plan.pooled[level], phase) for plan in plans)
        halved = tuple(plan.pooled[level] for plan in plans)
        skip = self._buffer("skip", level, block.channels, kept)
        pooled = self._buffer("pooled", level, block.channels, halved)
        for start, stop in self._stripes(held, block.channels, phase):
            above = start - held[0][0]
            y = block(x.narrow(2, above, stop - start + 4), cancelled)
            part = _common((start, stop), kept[0])
            if part[0] < part[1]:
                goal = skip.narrow(2, part[0] - kept[0][0], part[1] - part[0])
                goal.copy_(_crop(y, ((start, stop), held[1]), (part, kept[1])))
            part = _common((start, stop), paired[0])
            if part[0] < part[1]:
                pairs = _crop(y, ((start, stop), held[1]), (part, paired[1]))
                first = (part[0] - paired[0][0]) // 2
                goal = pooled.narrow(2, first, (part[1] - part[0]) // 2)
                goal.copy_(nn.functional.max_pool2d(pairs, 2))
        return skip, pooled

    def _expand(
        self,
        level: int,
        below: Tensor,
        skip: Tensor,
        plans: tuple[AxisPlan, AxisPlan],
        cancelled: Callable[[], bool],
    ) -> Tensor:
        """Return the map of one expanding level; of the last one, the probabilities."""
        phase, block = self.phases[level], self._expanding[level]
        coarse = tuple(plan.expanded[level + 1] for plan in plans)
        goal = tuple(plan.expanded[level] for plan in plans)
        wide = _grown(goal[1])
        doubled = _doubled(coarse[1], phase)
        if level:
            result = self._buffer("expanded", level, block.channels, goal)
        else:
            shape = (1, self.outputs, goal[0][1] - goal[0][0], goal[1][1] - goal[1][0])
            result = torch.empty(shape, device=self.device)
        for start, stop in self._stripes(goal, 2 * block.channels, phase):
            rows = _grown((start, stop))
            source = (rows[0] - phase) // 2, -((phase - rows[1]) // 2)
            up = self._up[level](below.narrow(2, source[0] - coarse[0][0], source[1] - source[0]))
            up = _crop(up, (_doubled(source, phase), doubled), (rows, wide))
            beside = skip.narrow(2, start - goal[0][0], stop - start + 4)
            y = block(torch.cat([beside, up], dim=1), cancelled)
            part = result.narrow(2, start - goal[0][0], stop - start)
            part.copy_(y if level else class_probabilities(self._classifier(y).float()))
        return result

    def _stripes(self, goal: tuple[Interval, ...], channels: int, phase: int) -> list[Interval]:
        """Cut rows into stripes that start between two pooled pairs."""
        (start, stop), (left, right) = goal
        if self.device.type != "cpu":
            return [(start, stop)]
        fitting = STRIPE_BYTES // (4 * channels * (right - left))
        height = max(_STRIPE_ROWS, fitting // 2 * 2)
        parts = max(1, round((stop - start) / height))
        height = -(-(stop - start) // (2 * parts)) * 2
        first = start + (start - phase) % 2
        breaks = [start, *range(first + height, stop, height), stop]
        return list(itertools.pairwise(breaks))

    def _buffer(self, kind: str, level: int, channels: int, goal: tuple[Interval, ...]) -> Tensor:
        """Return an uninitialised channels-last map; on the CPU its memory is used again."""
        height, width = (stop - start for start, stop in goal)
        if self.device.type != "cpu":
            dtype = torch.float16 if torch.is_autocast_enabled("cuda") else torch.float32
            shape = (1, channels, height, width)
            return torch.empty(
                shape, device=self.device, dtype=dtype, memory_format=torch.channels_last
            )
        held = self._scratch.take(f"{kind} {level}", 1, height, width, channels)
        return held.permute(0, 3, 1, 2)


@dataclass(frozen=True)
class _Double:
    """Two unpadded 3 x 3 convolutions, each with ReLU."""

    first: Convolution
    second: Convolution

    @property
    def channels(self) -> int:
        return self.second.channels

    def __call__(self, x: Tensor, cancelled: Callable[[], bool]) -> Tensor:
        for convolution in (self.first, self.second):
            if cancelled():
                raise CancelledError
            x = convolution(x)
        return x


@contextmanager
def _full_float32() -> Iterator[None]:
    """Let CUDA convolve with all bits of float32 for a while, one thread at a time.

    By default PyTorch rounds the factors to 11 bits (TF32): tiles would then differ from the
    whole by 1e-3. The switch belongs to the process, so it is put back.
    """
    with _float32_switch, torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def _never() -> bool:
    return False


def _grown(interval: Interval) -> Interval:
    """Return what two unpadded 3 x 3 convolutions need for an output interval."""
    return interval[0] - 2, interval[1] + 2


def _doubled(interval: Interval, phase: int) -> Interval:
    """Return the interval of the level above that a pooled interval covers."""
    return 2 * interval[0] + phase, 2 * interval[1] + phase


def _common(a: Interval, b: Interval) -> Interval:
    return max(a[0], b[0]), min(a[1], b[1])


def _crop(x: Tensor, held: tuple[Interval, Interval], wanted: tuple[Interval, Interval]) -> Tensor:
    for axis, (have, want) in enumerate(zip(held, wanted, strict=True), start=2):
        x = x.narrow(axis, want[0] - have[0], want[1] - want[0])
    return x
