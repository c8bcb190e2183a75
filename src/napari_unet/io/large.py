"""Segment a plane that does not fit into memory, block by block, and go on after a crash.

Next to the result a folder ``NAME.work`` holds what is finished: the foreground of each predicted
block, reduced to what the labels depend on. A run that was cancelled or killed is continued by
the same call; the folder is removed when the result is complete.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from napari_unet.core.atomic import output_error
from napari_unet.core.blocks import BlockwiseLabels, essential
from napari_unet.core.errors import InputError
from napari_unet.core.events import BlocksDone, DiameterChosen, LargeSegmentationDone
from napari_unet.core.instances import at_scale, foreground
from napari_unet.core.model import Model
from napari_unet.core.normalization import IntensityScale
from napari_unet.core.planes import Plane, as_plane
from napari_unet.core.prediction import Predictor, iter_tiles
from napari_unet.core.segmentation import Diameter, choose_diameter
from napari_unet.core.settings import InstanceSettings, TileSettings
from napari_unet.core.tiling import Box, cut
from napari_unet.io.grid import Grid
from napari_unet.io.ome_zarr import check_replaceable, write_ome_zarr

logger = logging.getLogger(__name__)

LargeEvent = DiameterChosen | BlocksDone | LargeSegmentationDone

#: Side of the blocks that are held in memory, and of the chunks on disk.
BLOCK = 2048
_CHUNK = 1024


def iter_large_segmentation(
    model: Model | Predictor,
    image: Any,
    path: str | Path,
    *,
    channel_axis: int | None = None,
    settings: TileSettings | None = None,
    instances: InstanceSettings | None = None,
    diameter: Diameter = "auto",
    grid: Grid | None = None,
    block: int = BLOCK,
    cancelled: Callable[[], bool] | None = None,
) -> Iterator[LargeEvent]:
    """Segment one plane of any size into an OME-Zarr label image, with bounded memory.

    Memory does not grow with the image: one block, one tile and tables of the objects are held.
    The labels are those of :func:`napari_unet.core.segmentation.segment`. Calling it again with
    the same arguments after a crash predicts only the blocks that are missing.

    Parameters
    ----------
    model
        A model for objects, or a predictor.
    image
        One plane, lazily readable: zarr, dask, memory map, numpy.
    path
        OME-Zarr folder to write; an existing one is replaced when the new one is complete.
    diameter
        Object diameter in image pixels, ``"auto"`` or None, as for ``segment``.
    grid
        Pixel size and position for the result's metadata.
    block
        Side of the blocks in pixels.
    cancelled
        Asked before each block; what is done is kept on disk.

    Yields
    ------
    LargeEvent
        ``DiameterChosen``, ``BlocksDone`` of each stage, ``LargeSegmentationDone``.

    Raises
    ------
    InputError
        If the model or the image cannot be used.
    OutputError
        If the folder cannot be written.
    """
    predictor = model if isinstance(model, Predictor) else Predictor(model, settings)
    if predictor.model.task != "objects":
        raise InputError("Planes larger than memory can be segmented into objects, not classes.")
    plane = as_plane(image, channel_axis)
    predictor.model.check_channels(plane.channels)
    scale = predictor.model.normalization.measure(plane)
    chosen = choose_diameter(predictor, plane, diameter, scale=scale, cancelled=cancelled)
    yield chosen
    thresholds = instances or at_scale(predictor.model.instances, chosen.factor)
    run = _LargeRun(predictor, plane, scale, chosen, thresholds, Path(path), block)
    try:
        yield from run.events(grid, cancelled or (lambda: False))
    except OSError as error:
        raise output_error(path, error) from error


def segment_to_zarr(
    model: Model | Predictor,
    image: Any,
    path: str | Path,
    **options: Any,
) -> bool:
    """Run :func:`iter_large_segmentation` to its end and return whether the result is complete.

    Parameters and errors are those of :func:`iter_large_segmentation`.
    """
    complete = False
    for event in iter_large_segmentation(model, image, path, **options):
        if isinstance(event, LargeSegmentationDone):
            complete = event.complete
    return complete


class _LargeRun:
    """One job: its arrays on disk and what of them is finished."""

    def __init__(
        self,
        predictor: Predictor,
        plane: Plane,
        scale: IntensityScale,
        chosen: DiameterChosen,
        thresholds: InstanceSettings,
        path: Path,
        block: int,
    ) -> None:
        self._predictor, self._plane, self._scale = predictor, plane, scale
        self._chosen, self._thresholds, self._path = chosen, thresholds, path
        self._block = block
        self._folder = path.with_name(f"{path.name}.work")
        height, width = plane.shape
        self._blocks = cut(Box(0, height, 0, width), block)

    def events(
        self, grid: Grid | None, cancelled: Callable[[], bool]
    ) -> Iterator[BlocksDone | LargeSegmentationDone]:
        """Predict what is missing, label, write, clean up."""
        self._prepare()
        values = self._array("foreground", "float32")
        for done, box in enumerate(self._blocks, start=1):
            mark = self._folder / "predicted" / f"{box.top}_{box.left}"
            if not mark.exists():
                block = None if cancelled() else self._predict(box, cancelled)
                if block is None:
                    yield LargeSegmentationDone(self._path, 0, False)
                    return
                values[box.slices] = block
                mark.touch()
            yield BlocksDone("prediction", done, len(self._blocks))
        result = self._array("result", "int32")
        labelling = BlockwiseLabels(
            values, self._array("work", "int32"), result, self._thresholds, self._block
        )
        last = None
        for last in labelling.run(cancelled):
            yield last
        if last is None or last.stage != "numbers" or last.done < last.total:
            yield LargeSegmentationDone(self._path, 0, False)
            return
        write_ome_zarr(self._path, result, grid=grid)
        shutil.rmtree(self._folder)
        yield LargeSegmentationDone(self._path, labelling.objects, True)

    def _predict(self, box: Box, cancelled: Callable[[], bool]) -> Any:
        """Return what is stored of one block, or None when it was cancelled."""
        values = np.empty(box.shape, np.float32)
        done = 0
        for tile in iter_tiles(
            self._predictor,
            self._plane,
            diameter=self._chosen.diameter,
            region=box.slices,
            cancelled=cancelled,
            scale=self._scale,
        ):
            rows, columns = tile.slices
            values[
                rows.start - box.top : rows.stop - box.top,
                columns.start - box.left : columns.stop - box.left,
            ] = foreground(tile.probabilities)
            done = tile.done
        return essential(values, self._thresholds) if done == box.area else None

    def _prepare(self) -> None:
        """Open the folder of an unfinished job, or begin a new one when it is of another job."""
        check_replaceable(self._path)
        description = json.dumps(self._describe(), indent=2, sort_keys=True)
        note = self._folder / "job.json"
        if note.exists() and note.read_text(encoding="utf-8") == description:
            logger.info("Going on with the unfinished job in %s.", self._folder.name)
            return
        if self._folder.exists():
            logger.info("%s belongs to another job and is replaced.", self._folder.name)
            shutil.rmtree(self._folder)
        (self._folder / "predicted").mkdir(parents=True)
        note.write_text(description, encoding="utf-8")

    def _describe(self) -> dict[str, Any]:
        """Return what must be equal for finished blocks to be used again."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self._predictor.model.net.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return {
            "network": self._predictor.model.net.config(),
            "weights": digest.hexdigest(),
            "shape": list(self._plane.shape),
            "type": str(np.dtype(self._plane.array.dtype)),
            "intensities": [self._scale.offset.tolist(), self._scale.gain.tolist()],
            "factor": self._chosen.factor,
            "views": self._predictor.settings.views,
            "thresholds": asdict(self._thresholds),
            "block": self._block,
        }

    def _array(self, name: str, dtype: str) -> Any:
        """Open a work array, or create it."""
        import zarr

        folder = self._folder / f"{name}.zarr"
        if folder.exists():
            return zarr.open_array(folder, mode="r+")
        chunk = min(_CHUNK, self._block)
        return zarr.create_array(
            folder, shape=self._plane.shape, chunks=(chunk, chunk), dtype=dtype, fill_value=0
        )
