"""Images larger than memory: block by block into OME-Zarr, going on after an interruption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_unet.cli.console import STEPS, TIMED, bar, move, note, say

if TYPE_CHECKING:
    from napari_unet.core.prediction import Predictor
    from napari_unet.core.settings import InstanceSettings
    from napari_unet.io.images import ImageFile

#: Planes of more pixels are segmented block by block; their labels alone take half a gigabyte.
LARGE_PIXELS = 2**27
#: Share of the whole that the prediction takes; the other stages are quick.
_PREDICTION = 0.9
_STAGES = 4


def is_large(picture: ImageFile) -> bool:
    """Tell whether an image is one plane too large for memory."""
    sizes = [n for axis, n in enumerate(picture.data.shape) if axis != picture.channel_axis]
    return len(sizes) == 2 and sizes[0] * sizes[1] > LARGE_PIXELS


def segment_large(
    predictor: Predictor,
    picture: ImageFile,
    path: Path,
    *,
    instances: InstanceSettings | None,
    diameter: float | Literal["auto"] | None,
    name: str,
    description: str,
    cancelled: Callable[[], bool],
) -> bool:
    """Segment one large plane into an OME-Zarr folder; return False when it was cancelled.

    What is done when the program is stopped or killed lies beside the result, and the same
    command goes on from there.

    Raises
    ------
    UNetError
        If the model or the image cannot be used, or the folder cannot be written.
    """
    from napari_unet.core.events import BlocksDone, LargeSegmentationDone
    from napari_unet.io.large import iter_large_segmentation

    note(f"{name} is large: its masks are written as OME-Zarr, without measurements")
    stages: list[str] = []
    finished: LargeSegmentationDone | None = None
    with bar(STEPS, "", description, bar_format=TIMED) as line:
        for event in iter_large_segmentation(
            predictor,
            picture.data,
            path,
            channel_axis=picture.channel_axis,
            instances=instances,
            diameter=diameter,
            grid=picture.plane_grid,
            cancelled=cancelled,
        ):
            if isinstance(event, BlocksDone):
                if event.stage not in stages:
                    stages.append(event.stage)
                move(line, STEPS * _share(stages, event.done / event.total))
            elif isinstance(event, LargeSegmentationDone):
                finished = event
                if event.complete:
                    move(line, STEPS)
    if finished is None or not finished.complete:
        note("give the same command again to go on with what is done")
        return False
    say(f"{name}: {finished.objects:,} objects -> {path.name}")
    return True


def _share(stages: list[str], fraction: float) -> float:
    """Return the share of all work that is done."""
    if len(stages) == 1:
        return _PREDICTION * fraction
    later = (len(stages) - 2 + fraction) / _STAGES
    return _PREDICTION + (1 - _PREDICTION) * min(1.0, later)
