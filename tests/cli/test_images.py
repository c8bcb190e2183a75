"""Images as commands read them."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from napari_unet.cli.images import read_channel
from napari_unet.io import images

RGBA = np.random.default_rng(0).integers(0, 255, (48, 64, 4), dtype=np.uint8)


@pytest.mark.parametrize("channels", [3, 4])
def test_a_large_slide_in_colour_is_not_read_as_a_whole(tmp_path, monkeypatch, channels):
    """Complaint 18: a compressed slide of several gigabytes stays in its file."""
    colours = RGBA[..., :channels]
    tifffile.imwrite(
        tmp_path / "a.tif", colours, tile=(16, 16), compression="zlib", photometric="rgb"
    )
    monkeypatch.setattr(images, "LAZY_BYTES", 10)
    picture = read_channel(tmp_path / "a.tif", None)
    assert not isinstance(picture.data, np.ndarray)
    assert picture.data.shape == (48, 64, 3)
    assert (np.asarray(picture.data[5:20, 5:20]) == RGBA[5:20, 5:20, :3]).all()


def test_alpha_is_left_out_wherever_the_colours_are(tmp_path):
    """Colours in planes of their own, as some programs store them."""
    planes = np.moveaxis(RGBA, -1, 0)
    options = {"photometric": "rgb", "planarconfig": "separate", "extrasamples": ["unassalpha"]}
    tifffile.imwrite(tmp_path / "a.tif", planes, **options)
    picture = read_channel(tmp_path / "a.tif", None)
    assert picture.channel_axis == 0
    assert (picture.data == planes[:3]).all()


@pytest.mark.parametrize("shape", [(3, 48, 64), (4, 48, 64), (2, 3, 48, 64)])
def test_planes_that_a_file_calls_colours_may_be_a_stack(tmp_path, shape):
    """tifffile calls 3 or 4 planes colours when nobody says otherwise."""
    planes = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate")
    assert (images.read_labels(tmp_path / "a.tif").data == planes).all()
    colours = read_channel(tmp_path / "a.tif", None)
    assert colours.rgb and colours.channel_axis == len(shape) - 3
    stack = read_channel(tmp_path / "a.tif", None, lambda picture: picture.data.shape == shape)
    assert stack.channel_axis is None and not stack.rgb
    assert (stack.data == planes).all()
    assert len(set(stack.axes)) == len(shape) and set(stack.axes) <= set("TZCYX")
