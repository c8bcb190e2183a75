"""One run over the tiles of a plane: order, tile size, reading ahead, memory."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import torch

from napari_unet.core.device import (
    describe_memory,
    free_memory,
    is_out_of_memory,
    release_memory,
)
from napari_unet.core.errors import (
    DeviceMemoryError,
    PredictionError,
    first_line,
)
from napari_unet.core.events import TileDone
from napari_unet.core.inference import CancelledError, InferenceNetwork
from napari_unet.core.tiling import Box, InputReader, TileQueue, TileRequest, cut, even_size

logger = logging.getLogger(__name__)

Focus = Callable[[], tuple[float, float] | None]
Pixels = npt.NDArray[np.float32]

#: Side of the first tile when somebody watches, and after the view moved.
FIRST_TILE = 256
#: A watched tile shall not take longer than this.
WATCHED_SECONDS = 1.0
#: Largest automatic tile. Beyond it the saving in overlap is a few percent and the memory high.
LARGEST_TILE = {"cpu": 1024, "mps": 1024, "cuda": 2048}
#: A tile of this size that does not fit into memory ends the run.
SMALLEST_TILE = 16
#: Feature maps of the first level that are alive at once, with room for work space. The CPU holds
#: little more than the skips.
_LIVE_MAPS = {"cpu": 3}
_MOST_LIVE_MAPS = 8


def automatic_tile(network: InferenceNetwork, device: torch.device) -> int:
    """Return the side of a tile, in network pixels, that fits into half of the free memory."""
    start, stop = network.needs(0, network.stride)
    overlap = stop - start - network.stride
    maps = _LIVE_MAPS.get(device.type, _MOST_LIVE_MAPS)
    per_pixel = 4 * maps * network.base_channels
    fitting = math.isqrt(max(1, free_memory(device) // 2 // per_pixel)) - overlap
    side = min(LARGEST_TILE.get(device.type, 1024), fitting)
    return max(SMALLEST_TILE, side // network.stride * network.stride)


class TileRun:
    """Iterate over the finished tiles of a region.

    Parameters
    ----------
    network
        Computes a window.
    read
        Reads a window of the network's input.
    region
        Box of the image to predict.
    factor
        Network pixels per image pixel.
    device
        Where the network runs (for its memory).
    tile
        Side of the tiles in image pixels; None for automatic ones.
    focus, cancelled
        As in :func:`napari_unet.core.prediction.iter_tiles`.
    """

    def __init__(
        self,
        network: InferenceNetwork,
        read: InputReader,
        region: Box,
        *,
        factor: float = 1.0,
        device: torch.device | None = None,
        tile: int | None = None,
        focus: Focus | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        self._network = network
        self._read = read
        self._factor = factor
        self._device = device or torch.device("cpu")
        self._cancelled = cancelled
        self._focus = focus
        self._progressive = tile is None and focus is not None
        self._grid = network.stride if factor == 1.0 else 1
        self._region = region
        if tile is None:
            tile = max(1, int(automatic_tile(network, self._device) / factor))
            height, width = (even_size(n, tile, self._grid) for n in region.shape)
        else:
            height = width = tile
        self._queue = TileQueue(cut(region, (height, width), self._grid))
        self._limit = -(-max(height, width) // self._grid) * self._grid
        self._limit_now = self._limit
        self._last_focus: tuple[float, float] | None = None
        self._pixels_per_second: float | None = None
        self._ahead: tuple[Box, Future[Pixels]] | None = None

    def __iter__(self) -> Iterator[TileDone]:
        with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as reader:
            try:
                yield from self._tiles(reader)
            except CancelledError:
                return
            finally:
                self._network.release()

    def _tiles(self, reader: ThreadPoolExecutor) -> Iterator[TileDone]:
        done, total = 0, self._region.area
        while len(self._queue) and not self._stopped():
            box = self._next_box()
            probabilities = self._compute(box, reader)
            if probabilities is None:
                continue  # split into smaller tiles
            done += box.area
            yield TileDone(box.slices, probabilities, done, total)

    def _stopped(self) -> bool:
        return self._cancelled is not None and self._cancelled()

    def _looked_at(self) -> tuple[float, float] | None:
        return self._focus() if self._focus is not None else None

    def _next_box(self) -> Box:
        """Return the nearest box, cut down to what may be computed at once now."""
        focus = self._looked_at()
        moved = focus != self._last_focus
        self._last_focus = focus
        limit = self._limit
        if self._progressive:
            limit = min(limit, self._watched_limit(moved))
        # Boxes are cut on the grid, so a side between two of its lines is rounded up, as cut does.
        limit = max(1, -(-limit // self._grid)) * self._grid
        self._limit_now = limit
        box = self._queue.nearest(focus)
        while max(box.shape) > limit:
            self._queue.take(box)
            self._queue.put(cut(box, limit, self._grid))
            box = self._queue.nearest(focus)
        return box

    def _watched_limit(self, moved: bool) -> int:
        """Return the largest tile while somebody watches: small at first, then by time."""
        first = max(1, int(FIRST_TILE / self._factor))
        if moved or self._pixels_per_second is None:
            return first
        in_time = math.isqrt(int(self._pixels_per_second * WATCHED_SECONDS))
        # Powers of two of the first tile: boxes that are cut leave no slivers behind.
        return first << max(0, int(math.log2(max(1, in_time) / first)))

    def _compute(self, box: Box, reader: ThreadPoolExecutor) -> Pixels | None:
        """Return the probabilities of a box; None when it had to be split for lack of memory."""
        request = TileRequest.of(box, self._factor)
        self._queue.take(box)
        try:
            pixels = self._pixels(box, request)
            self._read_ahead(reader)
            began = time.perf_counter()
            values = self._network(pixels, request.rows, request.columns, self._cancelled)
            result = request.bring_back(values)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise PredictionError(
                    f"The network could not be evaluated on {self._device.type}: "
                    + first_line(error)
                ) from error
            self._split(box, error)
            return None
        self._pixels_per_second = box.area / max(1e-6, time.perf_counter() - began)
        return result

    def _pixels(self, box: Box, request: TileRequest) -> Pixels:
        if self._ahead is not None and self._ahead[0] == box:
            return self._ahead[1].result()
        return request.read(self._read, self._network)

    def _read_ahead(self, reader: ThreadPoolExecutor) -> None:
        """Read the tile that would come next while this one is computed."""
        self._ahead = None
        if len(self._queue):
            box = self._queue.nearest(self._last_focus)
            if max(box.shape) <= self._limit_now:
                request = TileRequest.of(box, self._factor)
                self._ahead = box, reader.submit(request.read, self._read, self._network)

    def _split(self, box: Box, error: BaseException) -> None:
        """Put the box back as smaller ones, and keep to that size from now on.

        Raises
        ------
        DeviceMemoryError
            If the box is already as small as it can be.
        """
        release_memory(self._device)
        side = max(box.shape)
        smaller = max(self._grid, -(-(side // 2) // self._grid) * self._grid)
        if side <= SMALLEST_TILE or smaller >= side:
            raise DeviceMemoryError(
                f"Not even a tile of {side} px fits into the memory of {self._device.type} "
                f"({describe_memory(free_memory(self._device))} free); close other programs or "
                "use a smaller network."
            ) from error
        logger.warning(
            "Out of memory with a tile of %d px; going on with tiles of %d px.", side, smaller
        )
        self._ahead = None
        self._queue.put(cut(box, smaller, self._grid))
        self._limit = min(self._limit, smaller)
