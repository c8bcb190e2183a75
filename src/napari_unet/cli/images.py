"""Reading images for a command: one channel of several, when asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from napari_unet.cli.console import note
from napari_unet.core.errors import InputError
from napari_unet.io.images import ImageFile, as_stack, lazily, read_image


def read_channel(
    path: Path,
    channel: int | None,
    is_stack: Callable[[ImageFile], bool] = lambda picture: False,
) -> ImageFile:
    """Read an image, or one of its channels.

    Parameters
    ----------
    path
        Image file.
    channel
        Which channel is used, counted from 1 as in ImageJ; None uses all of them.
    is_stack
        Asked about an image whose colours are planes of their own: whether they are a stack.

    Raises
    ------
    InputError
        If the file is not an image or has no such channel.
    """
    picture = read_image(path)
    if picture.colours_apart:
        if is_stack(picture):
            picture = as_stack(picture)
        elif channel is None:
            note(
                f"{path.name}: its {picture.data.shape[picture.channel_axis]} planes are taken for "
                "colours, as the file says; save a stack with photometric='minisblack' in tifffile"
            )
    axis = picture.channel_axis
    # Alpha is no information about the sample.
    if picture.rgb and axis is not None and picture.data.shape[axis] > 3:
        colours = (*(slice(None),) * axis, slice(3))
        picture = replace(picture, data=lazily(picture.data)[colours])
    if channel is None:
        return picture
    count = 1 if axis is None else int(picture.data.shape[axis])
    if channel > count:
        raise InputError(f"{path.name!r} has {count} channel(s); there is no channel {channel}.")
    if axis is None:
        return picture
    index = (slice(None),) * axis + (channel - 1,)
    return replace(
        picture,
        data=lazily(picture.data)[index],
        grid=picture.plane_grid,
        channel_axis=None,
        rgb=False,
    )
