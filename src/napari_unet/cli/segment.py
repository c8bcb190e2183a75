"""`napari-unet segment`: images and a model in, masks and measurements out."""

from __future__ import annotations

import argparse
import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_unet.cli.console import (
    BAD_INPUT,
    INTERRUPTED,
    OK,
    STEPS,
    TIMED,
    Interruptible,
    bar,
    move,
    note,
    say,
)
from napari_unet.cli.files import (
    find_images,
    keep_inputs,
    output_folder,
    result_stems,
    without_results,
)
from napari_unet.cli.images import read_channel
from napari_unet.cli.large import is_large, segment_large
from napari_unet.cli.options import given
from napari_unet.core.errors import InputError, UNetError
from napari_unet.core.settings import InstanceSettings, TileSettings
from napari_unet.io.registry import Export, Format, format_named

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    import numpy.typing as npt

    from napari_unet.core.model import Model
    from napari_unet.core.prediction import Predictor
    from napari_unet.io.images import ImageFile


def run(options: argparse.Namespace) -> int:
    """Segment every image; files that are finished stay, whatever happens to the others."""
    inputs = find_images(options.inputs)
    images = without_results(inputs)
    stems = result_stems(images)
    # Measurements come with the masks, whatever their format.
    formats = [format_named(name) for name in dict.fromkeys([*(options.format or ["tiff"]), "csv"])]

    from napari_unet.core.model_file import load_model
    from napari_unet.core.prediction import Predictor

    model = load_model(options.model)
    if options.link and model.task != "objects":
        raise InputError(
            f"The model {model.name!r} finds classes, so there are no objects to link."
        )
    if model.diameter is None and isinstance(options.diameter, float):
        note(f"--diameter has no effect: the model {model.name!r} does not match object sizes")
    with output_folder(options.output) as folder, Interruptible() as interrupted:
        keep_inputs(inputs, [each.path_for(folder, stem) for each in formats for stem in stems])
        _name_left_out([path.name for path in inputs if path not in images])
        model, instances = _thresholds(options, model)
        work = _Work(
            Predictor(model, given(options, TileSettings())),
            instances,
            options.diameter,
            options.channel,
            options.link,
            formats,
            folder,
        )
        return _segment_all(work, list(zip(images, stems, strict=True)), interrupted)


def _name_left_out(names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        note(f"masks and annotations of the other files are left out ({names[0]}{more})")


def _thresholds(options: argparse.Namespace, model: Model) -> tuple[Model, InstanceSettings | None]:
    """Return the model with the thresholds given, and settings that replace the model's.

    A model's smallest object counts at the scale that the network sees; one that is given counts
    in pixels of the image, and then nothing is scaled.
    """
    chosen = given(options, model.instances)
    if hasattr(options, "min_size"):
        return model, chosen
    return dataclasses.replace(model, instances=chosen), None


def _segment_all(
    work: _Work, images: Sequence[tuple[Path, str]], cancelled: Callable[[], bool]
) -> int:
    """Segment one image after the other; a bad one does not stop the rest."""
    status = OK
    for number, (image, stem) in enumerate(images, start=1):
        try:
            done = work.segment(image, stem, f"{number}/{len(images)}", cancelled)
        except UNetError as error:
            if len(images) == 1:
                raise
            note(str(error) if image.name in str(error) else f"{image.name}: {error}")
            status = BAD_INPUT
            continue
        except MemoryError:
            if len(images) == 1:
                raise
            note(f"{image.name}: There is not enough memory for this image.")
            status = BAD_INPUT
            continue
        if not done:
            return INTERRUPTED
    return status


@dataclass(frozen=True)
class _Work:
    """What is done to every image."""

    predictor: Predictor
    instances: InstanceSettings | None
    diameter: float | Literal["auto"] | None
    channel: int | None
    link: bool
    formats: Sequence[Format]
    folder: Path

    def segment(self, path: Path, stem: str, which: str, cancelled: Callable[[], bool]) -> bool:
        """Segment one file and write its results; return False when it was cancelled."""
        picture = read_channel(path, self.channel, self._for_gray_planes)
        description = f"{which} {path.name}"
        if is_large(picture):
            return segment_large(
                self.predictor,
                picture,
                format_named("ome-zarr").path_for(self.folder, stem),
                instances=self.instances,
                diameter=self.diameter,
                name=path.name,
                description=description,
                cancelled=cancelled,
            )
        labels = self._labels(picture, description, cancelled)
        if labels is None:
            return False
        if self.link:
            labels = _linked(labels, picture.plane_grid.axes)
        export = Export(
            labels,
            picture.plane_grid,
            picture.data,
            picture.channel_axis,
            path.name,
        )
        written = []
        for each in self.formats:
            target = each.path_for(self.folder, stem)
            each.write(target, export)
            written.append(target.name)
        say(f"{path.name}: {_summary(labels, self.predictor.model)} -> {', '.join(written)}")
        return True

    def _for_gray_planes(self, _picture: ImageFile) -> bool:
        model = self.predictor.model
        return model.channels != "gray_or_rgb" and model.net.in_channels == 1

    def _labels(
        self, picture: ImageFile, description: str, cancelled: Callable[[], bool]
    ) -> npt.NDArray[np.int32] | None:
        from napari_unet.core.events import DiameterChosen, PlaneDone, SegmentationDone, TileDone
        from napari_unet.core.segmentation import PlaneStack, iter_segmentation

        planes = math.prod(PlaneStack.of(picture.data, picture.channel_axis).stack_shape)
        finished = 0
        with bar(STEPS * planes, "", description, bar_format=TIMED) as line:
            for event in iter_segmentation(
                self.predictor,
                picture.data,
                channel_axis=picture.channel_axis,
                instances=self.instances,
                diameter=self.diameter,
                cancelled=cancelled,
            ):
                if isinstance(event, DiameterChosen) and event.source == "estimated":
                    line.set_postfix_str(f", objects about {event.diameter:.0f} px", refresh=False)
                elif isinstance(event, TileDone):
                    move(line, STEPS * (finished + event.done / event.total))
                elif isinstance(event, PlaneDone):
                    finished = event.done
                    move(line, STEPS * finished)
                elif isinstance(event, SegmentationDone) and event.complete:
                    return event.labels
        return None


def _linked(labels: npt.NDArray[np.int32], axes: str) -> npt.NDArray[np.int32]:
    """Keep numbers from plane to plane (of each time point, when there is time and depth)."""
    from napari_unet.core.linking import link_planes

    if labels.ndim < 3:
        return labels
    return link_planes(labels, axis=axes.index("Z") if "Z" in axes else labels.ndim - 3)


def _summary(labels: npt.NDArray[np.int32], model: Model) -> str:
    import numpy as np

    if model.task == "classes":
        from napari_unet.jobs.instance_job import ClassesFound

        pixels = np.bincount(labels.ravel(), minlength=len(model.class_names))
        return str(ClassesFound.counted(model.class_names, pixels))
    count = len(np.unique(labels[labels > 0]))
    return "1 object" if count == 1 else f"{count:,} objects"
