"""`napari-unet train`: painted cells in, model file out."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_unet.cli.console import INTERRUPTED, OK, STEPS, Interruptible, bar, move, note, say
from napari_unet.cli.files import existing_file, writable_file
from napari_unet.cli.images import read_channel
from napari_unet.cli.options import given
from napari_unet.cli.parser import AUTO
from napari_unet.core.errors import InputError
from napari_unet.core.settings import NetworkSettings, TrainSettings, describe, recipe_values
from napari_unet.io.grid import common_pixel_size
from napari_unet.io.images import ImageFile, file_name_stem, lazily, read_labels

#: How the name of a model file ends.
MODEL_SUFFIXES = (".safetensors",)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from napari_unet.core.events import Scores, TrainingFinished, TrainingStarted
    from napari_unet.core.model import Model
    from napari_unet.core.pairs import TrainingPair


def run(options: argparse.Namespace) -> int:
    """Train and save the model; on Ctrl+C the best model so far."""
    files = _files(options.files)
    settings = train_settings(options)
    inputs = [path for pair in files for path in pair]
    output = writable_file(options.model, inputs, suffixes=MODEL_SUFFIXES)

    from napari_unet.core.model_file import save_model

    base = base_model(options.base)
    ignored = [] if base is None else network_options(options)
    if ignored:
        note(
            f"{', '.join(ignored)} changes nothing: the network of the model to start from is "
            "kept; --base none builds a new one"
        )
    pictures, pairs = [], []
    for image, labels in files:
        picture, pair = training_pair(image, labels, options.channel)
        pictures.append(picture)
        pairs.append(pair)
    with Interruptible() as interrupted:
        finished = follow_training(pairs, settings, base, interrupted)
        model = dataclasses.replace(
            finished.model, name=file_name_stem(output), **_calibration(pictures)
        )
        save_model(model, output)
    for line in report(finished):
        say(line)
    say(f"Saved {output}")
    return INTERRUPTED if finished.reason == "stopped" else OK


def _files(names: Sequence[str]) -> list[tuple[Path, Path]]:
    if len(names) % 2:
        raise InputError(
            "Give each image together with its labels (IMAGE LABELS IMAGE LABELS ...); "
            f"{_count(len(names), 'file')} cannot be paired."
        )
    paths = [existing_file(name) for name in names]
    pairs = list(zip(paths[::2], paths[1::2], strict=True))
    for image, labels in pairs:
        if image.samefile(labels):
            raise InputError(
                f"{str(image)!r} is given as an image and as its labels; give the file of the "
                "painted labels second."
            )
    return pairs


def train_settings(options: argparse.Namespace) -> TrainSettings:
    """Return the settings of the recipe, changed by the options that were given."""
    settings = TrainSettings()
    if options.recipe is not None:
        settings = read_recipe(existing_file(options.recipe))
    if hasattr(options, "steps") and not hasattr(options, "seconds"):
        settings = dataclasses.replace(settings, seconds=None)
    settings = given(options, settings)
    annotation = given(options, settings.annotation)
    if annotation.area == "boxes":
        raise InputError(
            "The recipe asks for boxes, which only napari can draw; choose another area with "
            "--area."
        )
    return dataclasses.replace(
        settings,
        annotation=annotation,
        weights=given(options, settings.weights),
        network=given(options, settings.network),
        augmentation=given(options, settings.augmentation, prefix="augment-"),
    )


def read_recipe(path: Path) -> TrainSettings:
    """Read settings from a JSON file, or those with which a model was trained.

    Raises
    ------
    UNetError
        If the file cannot be read, or holds no settings.
    """
    if path.suffix.lower() in MODEL_SUFFIXES:
        from napari_unet.core.model_file import read_header

        values = read_header(path)
    else:
        try:
            text = path.read_text(encoding="utf-8-sig")  # editors on Windows put a mark in front
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"The recipe {str(path)!r} cannot be read as text.") from error
        values = recipe_values(text)
    if isinstance(values, dict) and isinstance(values.get("training"), dict):  # info --json
        values = values["training"].get("settings")
        if values is None:
            raise InputError(f"{path.name!r} does not say how its model was trained.")
    return TrainSettings.from_dict(values)


def network_options(options: argparse.Namespace) -> list[str]:
    """Return the options given that describe a network from scratch, as they are written."""
    names = [info.name for info in describe(NetworkSettings) if hasattr(options, info.name)]
    return [f"--{name}".replace("_", "-") for name in names]


def base_model(name: str) -> Model | str | None:
    """Return the model to start from; ``auto`` is left to training, which compares them."""
    from napari_unet.core.model_file import load_model

    if name == "none":
        return None
    return name if name == AUTO else load_model(name)


def training_pair(image: Path, labels: Path, channel: int | None) -> tuple[ImageFile, TrainingPair]:
    """Read an image, or one of its channels, and its labels, and put the two together."""
    from napari_unet.core.pairs import TrainingPair

    painted = read_labels(labels)
    picture = read_channel(image, channel, lambda picture: picture.data.shape == painted.data.shape)
    pair = TrainingPair(
        picture.data,
        _in_order_of(picture, painted),
        channel_axis=picture.channel_axis,
        spacing=_proportions(picture),
        name=picture.name,
    )
    return picture, pair


def _in_order_of(picture: ImageFile, painted: ImageFile) -> Any:
    """Bring time and depth of labels into the order of their image.

    Files of masks have time first; microscopes also write depth first.
    """
    axes = picture.plane_grid.axes
    shape = [n for axis, n in enumerate(picture.data.shape) if axis != picture.channel_axis]
    if list(painted.data.shape) == shape or sorted(painted.axes) != sorted(axes):
        return painted.data
    return lazily(painted.data).transpose([painted.axes.index(letter) for letter in axes])


def _calibration(pictures: Sequence[ImageFile]) -> dict[str, Any]:
    """Return the pixel size for the model when all images have the same."""
    known = common_pixel_size(picture.plane_grid for picture in pictures)
    return {} if known is None else {"pixel_size": known[0], "pixel_unit": known[1]}


def _proportions(picture: ImageFile) -> tuple[float, float] | None:
    """Return height and width of a pixel that is not square, relative to their mean."""
    height, width = picture.plane_grid.scale[-2:]
    mean = math.sqrt(height * width)
    if math.isclose(height, width, rel_tol=0.01):
        return None
    return height / mean, width / mean


def follow_training(
    pairs: Sequence[TrainingPair],
    settings: TrainSettings,
    base: Model | str | None,
    cancelled: Callable[[], bool],
    record: Callable[[object], None] = lambda event: None,
) -> TrainingFinished:
    """Train with a progress bar; ``record`` sees every event."""
    from napari_unet.core.device import choose_device
    from napari_unet.core.events import TrainingFinished, TrainingStarted, TrainingStep, Validation
    from napari_unet.core.training import iter_training

    shown: dict[str, str] = {}
    with bar(
        STEPS, "", "Training", bar_format="{desc}: {percentage:3.0f}%|{bar}|{postfix}"
    ) as line:
        for event in iter_training(pairs, settings, base, cancelled=cancelled):
            record(event)
            if isinstance(event, TrainingStarted):
                note(_started(event, settings.annotation.task))
                note(choose_device(settings.device).reason)
            elif isinstance(event, TrainingStep):
                shown["loss"] = f"{event.loss:.3f}"
                move(line, STEPS * event.fraction)
            elif isinstance(event, Validation):
                shown |= {name: f"{value:.2f}" for name, value in _figures(event.scores)[:1]}
            elif isinstance(event, TrainingFinished):
                if event.reason == "finished":
                    move(line, STEPS)
                return event
            line.set_postfix(shown, refresh=False)
    raise AssertionError("training ended without a result")


def _started(event: TrainingStarted, task: str) -> str:
    if task == "classes":
        held_back = ", some of them held back" if event.validation_objects else ""
        return f"training on {_count(event.trained_pixels, 'pixel')}{held_back}"
    held_back = (
        f", {event.validation_objects} of them held back" if event.validation_objects else ""
    )
    size = f", about {event.diameter:.0f} px across" if event.diameter else ""
    return f"training on {_count(event.objects, 'object')}{held_back}{size}"


def _count(number: int, thing: str) -> str:
    return f"1 {thing}" if number == 1 else f"{number:,} {thing}s"


def report(finished: TrainingFinished) -> Iterator[str]:
    """Yield the lines that tell how it went."""
    how = "Stopped after" if finished.reason == "stopped" else "Trained"
    yield f"{how} {_count(finished.steps, 'step')} in {finished.seconds:.0f} s."
    scores = list(_scores(finished.before, finished.after))
    if scores:
        yield f"Scores: {', '.join(scores)}."
    yield finished.decision


def _figures(scores: Scores) -> list[tuple[str, float]]:
    """Return what is known of the scores by name; in task ``classes`` only the mean IoU is."""
    if math.isnan(scores.ap50):
        return [] if math.isnan(scores.f1) else [("mean IoU", scores.f1)]
    found = (("AP50", scores.ap50), ("AP75", scores.ap75), ("F1", scores.f1))
    return [(name, value) for name, value in found if math.isfinite(value)]


def _scores(before: Scores | None, after: Scores) -> Iterator[str]:
    old = dict(_figures(before)) if before else {}
    for name, new in _figures(after):
        yield f"{name} {new:.2f}" + (f" (before {old[name]:.2f})" if name in old else "")
