"""Images of every kind come with their axes, pixel size and unit; other files are refused."""

from __future__ import annotations

import struct

import imagecodecs
import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

import napari_unet.io.images as images
from napari_unet.core.errors import InputError
from napari_unet.io.grid import Grid
from napari_unet.io.images import file_name_stem, read_image, read_labels

GRAY = np.arange(20 * 30, dtype=np.uint16).reshape(20, 30)
RGB = np.random.default_rng(0).integers(0, 255, (20, 30, 3)).astype(np.uint8)


def test_plain_tiff(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, GRAY)
    image = read_image(path)
    assert (image.data == GRAY).all()
    assert (image.axes, image.channel_axis, image.rgb, image.name) == ("YX", None, False, "a")
    assert image.grid.pixel_size is None


def test_resolution_per_inch_is_a_printing_resolution(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GRAY, resolution=(72, 72), resolutionunit="INCH")
    assert read_image(tmp_path / "a.tif").grid.pixel_size is None


def test_resolution_per_centimetre_is_a_pixel_size(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GRAY, resolution=(20000, 40000), resolutionunit=3)
    grid = read_image(tmp_path / "a.tif").grid
    assert grid.pixel_size == pytest.approx((0.25, 0.5))
    assert grid.unit == "micrometer"


def test_imagej_hyperstack(tmp_path):
    stack = np.zeros((2, 3, 4, 20, 30), np.uint16)
    metadata = {"axes": "TZCYX", "unit": "micron", "spacing": 2.0, "finterval": 30.0}
    tifffile.imwrite(tmp_path / "a.tif", stack, imagej=True, resolution=(5, 4), metadata=metadata)
    image = read_image(tmp_path / "a.tif")
    assert image.data.shape == stack.shape
    assert image.channel_axis == 2
    assert image.grid.scale == pytest.approx((30, 2, 1, 0.25, 0.2))
    assert image.plane_grid.axes == "TZYX"
    assert image.plane_grid.units == ("second", "micrometer", "micrometer", "micrometer")


@pytest.mark.parametrize(
    ("words", "unit"),
    [("", "second"), ("tunit=sec\n", "second"), ("tunit=min\n", "minute"), ("tunit=?\n", "second")],
)
def test_the_time_step_of_imagej_in_its_own_unit(tmp_path, words, unit):
    """Complaint 19: ImageJ's dialog takes ``5 min`` for a frame interval."""
    text = f"ImageJ=1.53t\nimages=2\nframes=2\nunit=micron\nfinterval=5\n{words}"
    stack = np.stack([GRAY] * 2)
    tifffile.imwrite(
        tmp_path / "a.tif", stack, description=text, metadata=None, photometric="minisblack"
    )
    grid = read_image(tmp_path / "a.tif").grid
    assert (grid.axes, grid.scale[0], grid.units[0]) == ("TYX", 5, unit)


@pytest.mark.parametrize("entry", ["spacing=1,5", "zorigin=?", "xorigin=NaN", "finterval=-"])
def test_a_bad_calibration_is_no_reason_to_refuse_an_image(tmp_path, entry):
    text = f"ImageJ=1.53t\nimages=2\nslices=2\nunit=micron\n{entry}\n"
    stack = np.stack([GRAY] * 2)
    options = {"metadata": None, "photometric": "minisblack", "resolution": (4, 4)}
    tifffile.imwrite(tmp_path / "a.tif", stack, description=text, **options)
    image = read_image(tmp_path / "a.tif")
    assert (image.data == stack).all()
    assert image.grid.scale == (1, 0.25, 0.25)
    assert image.grid.translate == (0, 0, 0)


def test_ome_tiff(tmp_path):
    metadata = {
        "axes": "CYX",
        "PhysicalSizeX": 0.2,
        "PhysicalSizeY": 300,
        "PhysicalSizeYUnit": "nm",
    }
    tifffile.imwrite(tmp_path / "a.ome.tif", np.stack([GRAY] * 2), ome=True, metadata=metadata)
    image = read_image(tmp_path / "a.ome.tif")
    assert image.channel_axis == 0
    assert image.name == "a"
    assert image.grid.scale[1:] == (300, 0.2)
    assert image.grid.units[1:] == ("nanometer", "micrometer")


def test_the_stage_of_ome_tiff_in_another_unit_than_the_pixels(tmp_path):
    """Complaint 19: Leica's files say where the stage is in meters, and have micrometer pixels."""
    pixels = {f"PhysicalSize{axis}": 0.5 for axis in "XY"}
    place = {"PositionX": [0.0265], "PositionXUnit": ["m"], "PositionY": [-3.0]}
    metadata = {"axes": "YX", **pixels, "Plane": {**place, "PositionYUnit": ["mm"]}}
    tifffile.imwrite(tmp_path / "a.ome.tif", GRAY, metadata=metadata)
    grid = read_image(tmp_path / "a.ome.tif").grid
    assert grid.translate == pytest.approx((-3000, 26500))
    assert grid.unit == "micrometer"


def test_zeiss_lsm(tmp_path):
    """Its header holds lengths in meters, and every image is followed by a thumbnail."""
    sizes = struct.pack("<6d", 2e-7, 3e-7, 1e-6, 0.0, 1e-5, 0.0)
    header = struct.pack("<Ii8i", 0x400494C, 512, 30, 20, 2, 1, 1, 1, 0, 0) + sizes
    header = header.ljust(512, b"\0")
    stack = np.arange(2 * 20 * 30, dtype=np.uint16).reshape(2, 20, 30)
    common = {"metadata": None, "contiguous": False}
    with tifffile.TiffWriter(tmp_path / "a.lsm") as file:
        for number, plane in enumerate(stack):
            tags = [] if number else [(34412, "B", len(header), header, True)]
            file.write(plane, extratags=tags, **common)
            file.write(np.zeros((8, 8, 3), np.uint8), photometric="rgb", subfiletype=1, **common)
    image = read_image(tmp_path / "a.lsm")
    assert (image.data == stack).all()
    assert image.grid.axes == "ZYX"
    assert image.grid.scale == pytest.approx((1, 0.3, 0.2))
    assert image.grid.translate == pytest.approx((0, 10, 0))
    assert set(image.grid.units) == {"micrometer"}


def test_colours_in_tiff(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", RGB, photometric="rgb")
    image = read_image(tmp_path / "a.tif")
    assert (image.data == RGB).all()
    assert (image.axes, image.channel_axis, image.rgb) == ("YXS", 2, True)


def test_four_gray_channels_in_one_tiff_plane_are_not_colours(tmp_path):
    """The fourth was taken for alpha and left out."""
    four = np.concatenate([RGB, RGB[..., :1]], axis=-1)
    tifffile.imwrite(tmp_path / "a.tif", four, photometric="minisblack", planarconfig="contig")
    image = read_image(tmp_path / "a.tif")
    assert (image.channel_axis, image.rgb) == (2, False)


def test_gray_tiff_with_alpha_is_gray(tmp_path):
    """As PNG is: alpha is no second channel."""
    Image.fromarray(RGB[..., :2].copy(), mode="LA").save(tmp_path / "a.tif")
    image = read_image(tmp_path / "a.tif")
    assert (image.data == RGB[..., 0]).all()
    assert (image.axes, image.channel_axis, image.rgb) == ("YX", None, False)


def test_a_stack_of_unknown_axis_is_taken_as_depth(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.stack([GRAY] * 4), photometric="minisblack")
    assert read_image(tmp_path / "a.tif").axes == "ZYX"


def test_a_stack_of_unknown_axes_in_colour(tmp_path):
    """It was taken for a stack of two channels that is three pixels wide."""
    tifffile.imwrite(tmp_path / "a.tif", np.stack([np.stack([RGB] * 4)] * 2), photometric="rgb")
    image = read_image(tmp_path / "a.tif")
    assert (image.axes, image.channel_axis, image.rgb) == ("TZYXS", 4, True)


def test_axes_of_length_1_in_front_are_dropped(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", GRAY[None, None], photometric="minisblack")
    assert read_image(tmp_path / "a.tif").data.shape == GRAY.shape


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 1), (3, 1, 1)])
def test_axes_of_length_1_of_a_zarr_are_dropped_unread(tmp_path, shape):
    """Complaint 18: converters write all five axes; a large plane is still one plane."""
    array = zarr.create_group(tmp_path / "a.zarr").create_array("0", data=np.ones((*shape, 8, 9)))
    axes = [{"name": name} for name in "tczyx"]
    scale = {"type": "scale", "scale": [9, 1, 7, 0.5, 0.25]}
    zarr.open_group(tmp_path / "a.zarr").attrs["multiscales"] = [
        {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": [scale]}]}
    ]
    image = read_image(tmp_path / "a.zarr")
    assert not isinstance(image.data, np.ndarray)
    assert image.data.shape == tuple(n for n in array.shape if n > 1)
    assert image.grid.scale[-2:] == (0.5, 0.25)
    assert image.channel_axis == (0 if shape[1] > 1 else None)
    assert image.axes == {(1, 1, 1): "YX", (1, 2, 1): "CYX", (3, 1, 1): "TYX"}[shape]


def test_axes_of_length_1_of_labels_are_dropped(tmp_path):
    np.save(tmp_path / "a.npy", GRAY[None])
    assert read_labels(tmp_path / "a.npy").data.shape == GRAY.shape


def test_further_images_of_a_file_are_not_passed_over_in_silence(tmp_path, caplog):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(GRAY)
        file.write(GRAY[:5, :5])  # a thumbnail
    assert (read_image(tmp_path / "a.tif").data == GRAY).all()
    assert not caplog.records
    with tifffile.TiffWriter(tmp_path / "b.tif") as file:
        file.write(GRAY)
        file.write(GRAY[:, :28])
    assert (read_image(tmp_path / "b.tif").data == GRAY).all()
    assert "holds 2 images" in caplog.text and "only the first" in caplog.text


@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_large_tiff_is_not_read_as_a_whole(tmp_path, monkeypatch, tile):
    """Complaint 18: memory-mapped when contiguous, chunk by chunk when compressed."""
    path = tmp_path / "a.tif"
    compression = "zlib" if tile else None
    tifffile.imwrite(path, GRAY, tile=tile, compression=compression)
    monkeypatch.setattr(images, "LAZY_BYTES", 10)
    data = read_image(path).data
    assert not isinstance(data, np.ndarray) or isinstance(data, np.memmap)
    assert (np.asarray(data[3:9, 5:25]) == GRAY[3:9, 5:25]).all()


@pytest.mark.parametrize("ending", ["png", "bmp", "jpg"])
def test_pictures(tmp_path, ending):
    imageio.imwrite(tmp_path / f"a.{ending}", RGB)
    image = read_image(tmp_path / f"a.{ending}")
    assert image.rgb and image.data.shape == RGB.shape
    imageio.imwrite(tmp_path / f"b.{ending}", RGB[..., 0])
    image = read_image(tmp_path / f"b.{ending}")
    assert image.channel_axis is None
    if ending != "jpg":
        assert (image.data == RGB[..., 0]).all()


@pytest.mark.parametrize("mode", ["P", "LA", "CMYK", "1"])
def test_other_colour_modes(tmp_path, mode):
    ending = "tiff" if mode == "CMYK" else "png"
    picture = Image.fromarray(RGB).convert("L" if mode == "LA" else "RGB").convert(mode)
    picture.save(tmp_path / f"a.{ending}")
    image = read_image(tmp_path / f"a.{ending}")
    assert image.data.shape[:2] == (20, 30)
    assert image.rgb == (mode in ("P", "CMYK"))


def test_labels_with_a_palette_are_positions_in_it(tmp_path):
    """Annotation programs save label images with a colour for each number."""
    picture = Image.fromarray(np.array([[0, 1, 2], [0, 7, 1]], np.uint8), "P")
    picture.putpalette([0, 0, 0, 200, 10, 10, 10, 200, 10, *range(3, 40)])
    picture.save(tmp_path / "a.png")
    assert read_labels(tmp_path / "a.png").data.tolist() == [[0, 1, 2], [0, 7, 1]]
    assert read_image(tmp_path / "a.png").rgb


def test_a_palette_of_grays_is_a_gray_image(tmp_path):
    gray = Image.fromarray(np.array([[0, 90, 255], [17, 3, 4]], np.uint8))
    gray.convert("P").save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert not image.rgb
    assert (image.data == np.asarray(gray)).all()


def test_an_animation_is_no_image(tmp_path):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="animation"):
        read_image(tmp_path / "a.gif")


def test_png_keeps_16_bits(tmp_path):
    imageio.imwrite(tmp_path / "a.png", GRAY)
    assert (read_labels(tmp_path / "a.png").data == GRAY).all()


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_png_in_colour_keeps_16_bits(tmp_path, channels):
    """12-bit cameras would be left with 16 shades."""
    deep = np.random.default_rng(0).integers(0, 4096, (20, 30, channels)).astype(np.uint16)
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(deep))
    image = read_image(tmp_path / "a.png")
    assert image.rgb == (channels > 2)
    assert (image.data == (deep if image.rgb else deep[..., 0])).all()


def test_a_wrong_name_does_not_matter(tmp_path):
    tifffile.imwrite(tmp_path / "a.png", GRAY)
    assert (read_image(tmp_path / "a.png").data == GRAY).all()


def test_numpy_is_memory_mapped(tmp_path):
    np.save(tmp_path / "a.npy", GRAY)
    image = read_image(tmp_path / "a.npy")
    assert isinstance(image.data, np.memmap)
    np.save(tmp_path / "b.npy", RGB)
    assert read_image(tmp_path / "b.npy").channel_axis == 2


@pytest.mark.parametrize(("leading", "axes"), [((), "YXS"), ((5,), "ZYXS"), ((2, 5), "TZYXS")])
@pytest.mark.parametrize("ending", ["npy", "zarr"])
def test_colours_of_any_type_in_arrays_without_axis_names(tmp_path, ending, leading, axes):
    """Prediction takes a last axis of 3 or 4 for colours: so does what is written beside it."""
    path, array = tmp_path / f"a.{ending}", np.ones((*leading, 6, 7, 3), np.float32)
    if ending == "npy":
        np.save(path, array)
    else:
        zarr.create_array(path, data=array)
    image = read_image(path)
    assert (image.axes, image.channel_axis, image.rgb) == (axes, array.ndim - 1, True)
    assert image.plane_grid.axes == axes[:-1]


def test_numpy_pickle_is_never_run(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[{}, {}]], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="not an image"):
        read_image(tmp_path / "a.npy")


def test_zarr_array(tmp_path):
    array = zarr.create_array(str(tmp_path / "a.zarr"), shape=GRAY.shape, dtype=GRAY.dtype)
    array[:] = GRAY
    image = read_image(tmp_path / "a.zarr")
    assert isinstance(image.data, zarr.Array)
    assert (image.data[:] == GRAY).all()


def test_labels_from_floats_and_bools(tmp_path):
    """ImageJ saves labels beyond 65,535 as 32-bit float."""
    tifffile.imwrite(tmp_path / "a.tif", GRAY.astype(np.float32) * 100 - 1)
    assert (read_labels(tmp_path / "a.tif").data == GRAY.astype(int) * 100 - 1).all()
    np.save(tmp_path / "b.npy", GRAY > 5)
    assert read_labels(tmp_path / "b.npy").data.dtype == np.uint8


@pytest.mark.parametrize("values", [0.5, np.nan, np.inf, 1e20])
def test_other_floats_are_no_labels(tmp_path, values):
    np.save(tmp_path / "a.npy", np.full((3, 4), values))
    with pytest.raises(InputError, match="not a label image"):
        read_labels(tmp_path / "a.npy")


def test_colours_are_no_labels(tmp_path):
    imageio.imwrite(tmp_path / "a.png", RGB)
    with pytest.raises(InputError, match="colour image"):
        read_labels(tmp_path / "a.png")


def test_a_single_channel_of_labels_is_a_plane(tmp_path):
    np.save(tmp_path / "a.npy", GRAY)
    tifffile.imwrite(tmp_path / "a.tif", GRAY[None], metadata={"axes": "CYX"})
    assert read_labels(tmp_path / "a.tif").data.shape == GRAY.shape


@pytest.mark.parametrize(
    "content",
    [b"", b"hello", b"II*\0", b"II*\0" + bytes(100), b"\x89PNG\r\n\x1a\n1234", b"\x93NUMPY"],
)
@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.npy", "a.jpg", "a"])
def test_other_files_are_one_sentence(tmp_path, content, name):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"^'{name}' is not an image[^\n]+\.$"):
        read_image(tmp_path / name)


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path, monkeypatch):
    tifffile.imwrite(tmp_path / "a.tif", GRAY)

    def refuse(*_arguments):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(InputError, match="not allowed to read"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize("keep", [20, 100, 700])
def test_truncated_tiff(tmp_path, keep):
    tifffile.imwrite(tmp_path / "a.tif", GRAY, compression="zlib")
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[:keep])
    with pytest.raises(InputError, match=r"damaged"):
        read_image(tmp_path / "a.tif")


def test_missing_file_and_plain_folder(tmp_path):
    with pytest.raises(InputError, match=r"There is no file '.*none\.tif'; check the path\.$"):
        read_image(tmp_path / "none.tif")
    with pytest.raises(InputError, match=r"^[^\n]+\.$"):
        read_image(tmp_path)


@pytest.mark.parametrize("array", [np.zeros(5), np.zeros((0, 5)), np.zeros((2, 2), complex)])
def test_arrays_that_are_no_images(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=r"^'a\.npy' [^\n]+\.$"):
        read_image(tmp_path / "a.npy")


def test_stems():
    assert [file_name_stem(f"x/{name}") for name in ("a.tif", "a.ome.tif", "a.OME.zarr")] == [
        "a"
    ] * 3


def test_real_images(shared_data):
    """Every file of the annotated sets opens, and labels fit their image."""
    for folder in sorted(path for path in shared_data.iterdir() if path.is_dir()):
        for path in sorted((folder / "images").glob("*.tif"))[:4]:
            image, labels = read_image(path), read_labels(folder / "masks" / path.name)
            assert labels.data.shape == tuple(
                n for i, n in enumerate(image.data.shape) if i != image.channel_axis
            )
            assert isinstance(image.grid, Grid)
