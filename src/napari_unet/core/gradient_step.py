"""Loss and gradients of one batch; on CUDA recorded once and played back from then on."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

import torch
from torch import Tensor

from napari_unet.core.device import fast_bfloat16, recording
from napari_unet.core.errors import first_line
from napari_unet.core.fine_tuning import Anchor
from napari_unet.core.sampling import Batch
from napari_unet.core.unet import UNet

logger = logging.getLogger(__name__)

_LARGEST_GRADIENT = 5.0
#: Plain steps before one is recorded: in them the libraries choose algorithms and work space.
_PLAIN_STEPS = 3


class GradientStep:
    """Computes the loss of a batch and leaves its gradients in the network's parameters.

    A step of a small network is about a thousand short kernels; a GPU runs them several times
    faster than Python starts them. So after a few steps the work is recorded as a CUDA graph, and
    each further batch of the same shape is copied to where the recorded one was.

    Parameters
    ----------
    net
        The network being trained, on ``device``.
    device
        Where to compute.
    """

    def __init__(self, net: UNet, device: torch.device) -> None:
        self.net, self.device = net, device
        self.anchor: Anchor | None = None
        self._parameters = list(net.parameters())
        self._recorded: _Recording | None = None
        self._plain_steps = 0
        self._recordable = device.type == "cuda"

    @property
    def recorded(self) -> bool:
        """Whether batches are played through a recorded step."""
        return self._recorded is not None

    def forget(self) -> None:
        """Drop what was recorded; needed when modes of the network or the batch size change."""
        self._recorded = None
        self._plain_steps = 0
        self._drop_gradients()

    def _drop_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None

    def __call__(self, batch: Batch) -> tuple[float, float]:
        """Return the cross entropy of the painted pixels, and that with the anchor's term."""
        if self._recordable and not self.recorded and self._plain_steps >= _PLAIN_STEPS:
            self._record(batch)
        if self._recorded is None:
            losses = self._losses(batch)
            self._plain_steps += 1
        else:
            losses = self._recorded(batch)
        painted, total = losses.tolist()
        return painted, total

    def _record(self, batch: Batch) -> None:
        try:
            self._recorded = _Recording(self._losses, batch, self.device)
        except RuntimeError as error:
            self._recordable = False
            reason = first_line(error)
            logger.info("Training goes on step by step: recording a step failed (%s).", reason)

    def _losses(self, batch: Batch) -> Tensor:
        self._drop_gradients()
        with self._precision():
            logits = self.net(batch.image)
            target = centre(batch.target, logits.shape[-2:])
            weight = centre(batch.weight, logits.shape[-2:])
            painted = total = weighted_cross_entropy(logits, target, weight)
            if self.anchor is not None:
                total = painted + self.anchor.loss(logits, batch.image, weight)
        torch.autograd.backward(total)
        torch.nn.utils.clip_grad_norm_(self._parameters, _LARGEST_GRADIENT)
        return torch.stack([painted.detach(), total.detach()])

    def _precision(self) -> contextlib.AbstractContextManager[object]:
        """Mixed precision in bfloat16 where it is faster: no loss scaling is needed."""
        if fast_bfloat16(self.device):
            return torch.autocast(self.device.type, torch.bfloat16)
        return contextlib.nullcontext()


class _Recording:
    """A computation on batches of one shape as a CUDA graph."""

    def __init__(
        self, compute: Callable[[Batch], Tensor], batch: Batch, device: torch.device
    ) -> None:
        self._input = Batch(batch.image.clone(), batch.target.clone(), batch.weight.clone())
        self._graph = torch.cuda.CUDAGraph()
        pool = torch.cuda.graph_pool_handle()
        stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        # Other threads may go on with their own work on the GPU meanwhile.
        record = torch.cuda.graph(
            self._graph, pool=pool, stream=stream, capture_error_mode="thread_local"
        )
        usual = torch.cuda.current_stream(device)
        with recording:
            try:
                with record:
                    self._output = compute(self._input)
            except RuntimeError:
                torch.cuda.set_stream(usual)
                _end_allocation(pool, device)
                raise

    def __call__(self, batch: Batch) -> Tensor:
        self._input.image.copy_(batch.image)
        self._input.target.copy_(batch.target)
        self._input.weight.copy_(batch.weight)
        self._graph.replay()
        return self._output


def _end_allocation(pool: tuple[int, int], device: torch.device) -> None:
    """Let PyTorch free memory again after a recording that the driver has given up.

    PyTorch ends the recording first and the allocation from its pool afterwards; an error of the
    former leaves the latter open, and then nothing is given back to the driver any more.
    """
    index = torch.cuda.current_device() if device.index is None else device.index
    # The first call fails if the allocation has ended, as it does after an error of our own.
    with contextlib.suppress(RuntimeError, AttributeError):
        torch._C._cuda_endAllocateToPool(index, pool)
        torch._C._cuda_releasePool(index, pool)


def centre(pixels: Tensor, size: torch.Size) -> Tensor:
    """Return the middle of ``(..., y, x)``: a ``valid`` network answers for less than it sees."""
    for axis, length in zip((-2, -1), size, strict=True):
        pixels = pixels.narrow(axis, (pixels.shape[axis] - length) // 2, length)
    return pixels


def weighted_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Pixel-wise softmax cross entropy, weighted (Ronneberger et al. 2015, eq. 1).

    Parameters
    ----------
    logits
        ``(N, K, y, x)``.
    target
        ``(N, y, x)`` class indices.
    weight
        ``(N, y, x)``; the sum is divided by the sum of the weights. The target of a pixel of
        weight 0 has no influence at all.
    """
    losses = torch.nn.functional.cross_entropy(
        logits.float(), torch.where(weight > 0, target, 0), reduction="none"
    )
    return (losses * weight).sum() / weight.sum().clamp(min=1e-6)
