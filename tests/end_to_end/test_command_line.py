"""Paint-file in, fine-tuned model, masks out: the whole job on the command line."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr

import napari_unet as nu
from napari_unet.cli import main
from napari_unet.cli.train import training_pair
from napari_unet.core.model_file import list_models
from napari_unet.core.pairs import annotated_planes
from napari_unet.core.simulation import simulate_nuclei
from napari_unet.io.images import read_labels
from napari_unet.io.registry import formats
from napari_unet.samples import paint_cells

#: A network that trains in no time; for tests in which its quality does not matter.
TINY = ["--base", "none", "--base-channels", "4", "--depth", "2", "--crop", "48", "--batch", "2"]


def text(path: Path, image: np.ndarray, **options) -> str:
    """Write an image and return its path as a command line has it."""
    tifffile.imwrite(path, image, **options)
    return str(path)


def run(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Images, annotation and truth as files, and a tiny model."""
    here = tmp_path_factory.mktemp("job")
    for name, seed in (("image", 1), ("new", 2)):
        image, labels = simulate_nuclei((160, 192), 14, diameter=22, seed=seed)
        micrometers = {"resolution": (4, 4), "metadata": {"unit": "um"}}
        tifffile.imwrite(here / f"{name}.tif", image, imagej=True, **micrometers)
        tifffile.imwrite(here / f"{name}_truth.tif", labels.astype(np.uint16))
        if name == "image":
            tifffile.imwrite(here / "painted.tif", paint_cells(labels, 6).astype(np.int16))
    model = here / "tiny.safetensors"
    arguments = [here / "image.tif", here / "painted.tif", "--model", model, "--steps", 3]
    assert run("train", *arguments, *TINY) == 0
    return here


def test_classes_are_spoken_of_as_pixels(folder, tmp_path, capsys):
    """No cells are counted, and the score is not called F1."""
    files = [folder / "image.tif", folder / "painted.tif", "--model", tmp_path / "m.safetensors"]
    options = ["--task", "classes", "--area", "all", "--steps", 3]
    assert run("train", *files, *options, *TINY) == 0
    said = capsys.readouterr()
    assert "training on 30,720 pixels\n" in said.err
    assert "Scores: mean IoU 0." in said.out
    assert "AP50" not in said.err and "F1" not in said.out


@pytest.mark.skipif("nuclei" not in list_models(), reason="no base model is shipped")
def test_train_segment_evaluate(folder, tmp_path, capsys):
    """Complaints 5 and 18: six painted cells, no viewer, and a score at the end."""
    model, out = tmp_path / "my.safetensors", tmp_path / "masks"
    images = [folder / "image.tif", folder / "painted.tif"]
    assert run("train", *images, "--model", model, "--steps", 3, "--base", "nuclei") == 0
    said = capsys.readouterr().out
    assert "Scores: AP50" in said
    assert "held-back" in said
    assert f"Saved {model}" in said
    assert run("segment", folder / "new.tif", "--model", model, "--output", out) == 0
    assert "objects -> new_masks.tif, new_measurements.csv" in capsys.readouterr().out
    assert run("evaluate", out / "new_masks.tif", folder / "new_truth.tif", "--json") == 0
    scores = json.loads(capsys.readouterr().out)
    assert scores["thresholds"][0] == 0.5
    assert scores["average_precision"][0] > 0.7
    assert scores["objects"] == 14


def test_the_settings_of_a_model_are_a_recipe(folder, tmp_path, capsys):
    """As the help says: train again as the panel or an earlier command did."""
    assert run("info", folder / "tiny.safetensors", "--json") == 0
    settings = json.loads(capsys.readouterr().out)["training"]["settings"]
    (tmp_path / "recipe.json").write_text(json.dumps(settings))
    files = [folder / "image.tif", folder / "painted.tif", "--model", tmp_path / "m.safetensors"]
    assert run("train", *files, "--base", "none", "--recipe", tmp_path / "recipe.json") == 0
    assert nu.load_model(tmp_path / "m.safetensors").net.base_channels == 4


def test_options_that_a_base_makes_void_are_named(folder, tmp_path, capsys):
    files = [folder / "image.tif", folder / "painted.tif", "--model", tmp_path / "m.safetensors"]
    words = [*files, "--steps", 1, "--depth", 4]
    assert run("train", *words, "--base", folder / "tiny.safetensors") == 0
    assert "--depth changes nothing" in capsys.readouterr().err
    assert run("train", *words, "--base", "none", "--base-channels", 4) == 0
    assert "changes nothing" not in capsys.readouterr().err


def test_masks_and_measurements_agree_with_python(folder, tmp_path):
    """Complaint 19: the files carry the calibration, and the numbers are those of the API."""
    model = folder / "tiny.safetensors"
    assert run("segment", folder / "new.tif", "--model", model, "--output", tmp_path) == 0
    image = tifffile.imread(folder / "new.tif")
    expected = nu.segment(nu.load_model(model), image)
    with tifffile.TiffFile(tmp_path / "new_masks.tif") as masks:
        np.testing.assert_array_equal(masks.asarray(), expected)
        assert masks.pages[0].dtype == np.uint16
        assert masks.pages[0].resolution[0] == pytest.approx(4)
        assert masks.is_imagej
    with (tmp_path / "new_measurements.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["label"]) for row in rows] == list(range(1, expected.max() + 1))
    for row in rows[:5]:
        inside = expected == float(row["label"])
        assert float(row["area_px"]) == inside.sum()


def test_every_format_in_one_run(folder, tmp_path):
    names = [each.name for each in formats()]
    words = ["segment", folder / "new.tif", "--model", folder / "tiny.safetensors"]
    assert run(*words, "--output", tmp_path, "--format", *names) == 0
    for each in formats():
        assert each.path_for(tmp_path, "new").exists()


def test_tile_size_does_not_matter(folder, tmp_path):
    """Complaint 17."""
    words = ["segment", folder / "new.tif", "--model", folder / "tiny.safetensors"]
    for tile in ("16", "64", "512"):
        assert run(*words, "--output", tmp_path / tile, "--tile", tile) == 0
    first, *others = (tifffile.imread(tmp_path / t / "new_masks.tif") for t in ("16", "64", "512"))
    for other in others:
        np.testing.assert_array_equal(first, other)


def test_a_stack_plane_by_plane_and_linked(folder, tmp_path):
    plane = tifffile.imread(folder / "new.tif")
    stack = text(
        tmp_path / "stack.tif", np.stack([plane] * 3), imagej=True, metadata={"axes": "ZYX"}
    )
    words = ["segment", stack, "--model", folder / "tiny.safetensors", "--output"]
    assert run(*words, tmp_path / "plain") == 0
    assert run(*words, tmp_path / "linked", "--link") == 0
    plain = tifffile.imread(tmp_path / "plain" / "stack_masks.tif")
    linked = tifffile.imread(tmp_path / "linked" / "stack_masks.tif")
    assert plain.shape == linked.shape == (3, *plane.shape)
    assert plain.max() == 3 * plain[0].max()
    np.testing.assert_array_equal(linked[0], linked[2])
    np.testing.assert_array_equal(plain[0] > 0, linked[0] > 0)


def test_depth_is_linked_also_where_it_comes_before_time(folder, tmp_path):
    plane = tifffile.imread(folder / "new.tif")
    film = np.stack([plane, plane.T if plane.shape[0] == plane.shape[1] else plane[::-1]])
    stack = tmp_path / "film.ome.tif"
    tifffile.imwrite(stack, np.stack([film] * 3), ome=True, metadata={"axes": "ZTYX"})
    words = ["segment", stack, "--model", folder / "tiny.safetensors", "--output", tmp_path]
    assert run(*words, "--link", "--format", "tiff", "ome-zarr") == 0
    linked = tifffile.imread(tmp_path / "film_masks.tif")
    assert linked.shape == (2, 3, *plane.shape)
    np.testing.assert_array_equal(linked[:, 0], linked[:, 2])
    assert not np.intersect1d(linked[0][linked[0] > 0], linked[1][linked[1] > 0]).size
    np.testing.assert_array_equal(read_labels(tmp_path / "film_masks.zarr").data, linked)


def test_a_stack_of_three_planes_that_its_file_calls_colours(folder, tmp_path):
    """What ``tifffile.imwrite(path, stack)`` makes of it."""
    plane, painted = (tifffile.imread(folder / name) for name in ("image.tif", "painted.tif"))
    options = {"photometric": "rgb", "planarconfig": "separate"}
    tifffile.imwrite(tmp_path / "a.tif", np.stack([plane] * 3), **options)
    words = ["segment", tmp_path / "a.tif", "--model", folder / "tiny.safetensors"]
    assert run(*words, "--output", tmp_path) == 0
    masks = tifffile.imread(tmp_path / "a_masks.tif")
    assert masks.shape == (3, *plane.shape)
    tifffile.imwrite(tmp_path / "painted.tif", np.stack([painted] * 3), **options)
    words = ["train", tmp_path / "a.tif", tmp_path / "painted.tif", "--steps", 1, *TINY]
    assert run(*words, "--model", tmp_path / "m.safetensors") == 0


def test_masks_of_a_film_with_depth_before_time_can_be_learned(tmp_path):
    film = np.random.default_rng(0).integers(0, 255, (4, 2, 2, 96, 96), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.ome.tif", film, ome=True, metadata={"axes": "ZTCYX"})
    masks = np.zeros((2, 4, 96, 96), np.uint16)
    masks[1, 3, 20:40, 30:50] = 7
    tifffile.imwrite(tmp_path / "a_masks.tif", masks, imagej=True, metadata={"axes": "TZYX"})
    _picture, pair = training_pair(tmp_path / "a.ome.tif", tmp_path / "a_masks.tif", None)
    (plane,) = annotated_planes([pair])
    np.testing.assert_array_equal(plane.plane.read(0, 96, 0, 96), film[3, 1])
    np.testing.assert_array_equal(plane.labels, masks[1, 3])


def test_a_large_image_goes_block_by_block_with_the_same_result(
    folder, tmp_path, monkeypatch, capfd
):
    """Complaint 18."""
    words = ["segment", folder / "new.tif", "--model", folder / "tiny.safetensors"]
    assert run(*words, "--output", tmp_path / "small") == 0
    monkeypatch.setattr("napari_unet.cli.large.LARGE_PIXELS", 1000)
    capfd.readouterr()
    assert run(*words, "--output", tmp_path / "large") == 0
    printed = capfd.readouterr()
    assert re.fullmatch(r"new.tif: [\d,]+ objects? -> new_masks.zarr\n", printed.out)
    assert "new.tif is large" in printed.err
    assert "/1000" not in printed.err  # steps of the bar mean nothing to the reader
    assert [path.name for path in (tmp_path / "large").iterdir()] == ["new_masks.zarr"]
    expected = tifffile.imread(tmp_path / "small" / "new_masks.tif")
    found = read_labels(tmp_path / "large" / "new_masks.zarr")
    np.testing.assert_array_equal(np.asarray(found.data), expected)
    assert found.grid.pixel_size == pytest.approx((0.25, 0.25))


def test_given_thresholds_replace_those_of_the_model(folder, tmp_path):
    model = nu.load_model(folder / "tiny.safetensors")
    image = tifffile.imread(folder / "new.tif")
    words = ["segment", folder / "new.tif", "--model", folder / "tiny.safetensors", "--output"]
    for name, given in (("a", {"min_size": 40}), ("b", {"seed_threshold": 0.55})):
        options = [w for k, v in given.items() for w in ("--" + k.replace("_", "-"), v)]
        assert run(*words, tmp_path / name, *options) == 0
        settings = dataclasses.replace(model.instances, **given)
        if "min_size" in given:
            expected = nu.segment(model, image, instances=settings)
        else:
            expected = nu.segment(dataclasses.replace(model, instances=settings), image)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / name / "new_masks.tif"), expected)


def test_channels_of_an_image(folder, tmp_path, capsys):
    plane = tifffile.imread(folder / "new.tif")
    two = np.stack([np.zeros_like(plane), plane])
    image = text(tmp_path / "two.tif", two, imagej=True, metadata={"axes": "CYX"})
    words = ["segment", image, "--model", folder / "tiny.safetensors", "--output", tmp_path]
    assert run(*words) == 2
    assert "channel" in capsys.readouterr().err
    assert run(*words, "--channel", 3) == 2
    assert "there is no channel 3" in capsys.readouterr().err
    assert not (tmp_path / "two_masks.tif").exists()
    assert run(*words, "--channel", 2) == 0
    expected = nu.segment(nu.load_model(folder / "tiny.safetensors"), plane)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "two_masks.tif"), expected)


def test_one_bad_image_does_not_stop_the_others(folder, tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    plane = tifffile.imread(folder / "new.tif")
    for name in ("a", "c"):
        tifffile.imwrite(images / f"{name}.tif", plane)
    (images / "b.tif").write_text("not an image")
    zarr.create_array(images / "b2.zarr", data=plane, chunks=(64, 64))
    chunk = images / "b2.zarr" / "c" / "1" / "1"
    chunk.write_bytes(chunk.read_bytes()[:50])  # copied in part: noticed only when it is read
    out = tmp_path / "out"
    assert run("segment", images, "--model", folder / "tiny.safetensors", "--output", out) == 2
    said = capsys.readouterr().err
    assert said.count("b.tif") >= 1
    assert "b2.zarr: The image could not be read" in said
    masks = sorted(path.name for path in out.glob("*_masks.tif"))
    assert masks == ["a_masks.tif", "c_masks.tif"]


def test_an_image_too_large_for_memory_does_not_stop_the_others(
    folder, tmp_path, capsys, monkeypatch
):
    from napari_unet.cli import segment

    plane = tifffile.imread(folder / "new.tif")
    for name in ("a", "b", "c"):
        tifffile.imwrite(tmp_path / f"{name}.tif", plane)
    read = segment.read_channel

    def read_channel(path, *arguments):
        if path.name == "b.tif":
            raise MemoryError
        return read(path, *arguments)

    monkeypatch.setattr(segment, "read_channel", read_channel)
    out = tmp_path / "out"
    assert run("segment", tmp_path, "--model", folder / "tiny.safetensors", "--output", out) == 2
    assert "b.tif: There is not enough memory" in capsys.readouterr().err
    masks = sorted(path.name for path in out.glob("*_masks.tif"))
    assert masks == ["a_masks.tif", "c_masks.tif"]


def test_weight_map_file_equals_python(folder, tmp_path, capsys):
    output = tmp_path / "w.tif"
    words = ["weight-map", folder / "painted.tif", "--output", output, "--w0", 7, "--sigma", 3]
    assert run(*words) == 0
    expected = nu.training_target(
        tifffile.imread(folder / "painted.tif"), weights=nu.WeightMapSettings(w0=7, sigma=3)
    )
    written = tifffile.imread(output)
    assert written.dtype == np.float32
    np.testing.assert_array_equal(written, expected.weight)
    assert f"{expected.counts.ignored:,} px" in capsys.readouterr().out


def test_info_says_what_is_in_the_file(folder, capsys):
    assert run("info", folder / "tiny.safetensors") == 0
    text_out = capsys.readouterr().out
    assert "4 channels, depth 2" in text_out
    assert run("info", folder / "tiny.safetensors", "--json") == 0
    info = json.loads(capsys.readouterr().out)
    assert info["network"]["base_channels"] == 4
    assert info["name"] == "tiny"
    assert info["pixel_size"] == pytest.approx(0.25)
    assert info["pixel_unit"] == "micrometer"


def test_folders_are_evaluated_by_name(folder, tmp_path, capsys):
    found, truth = tmp_path / "found", tmp_path / "truth"
    found.mkdir()
    truth.mkdir()
    labels = tifffile.imread(folder / "new_truth.tif")
    for name in ("a", "b", "c"):
        tifffile.imwrite(truth / f"{name}.tif", labels)
    tifffile.imwrite(found / "a_masks.tif", labels)
    tifffile.imwrite(found / "b.tif", np.where(labels == 1, 0, labels))
    assert run("evaluate", found, truth, "--json") == 0
    printed = capsys.readouterr()
    assert "1 of 3 images" in printed.err
    scores = json.loads(printed.out)
    assert scores["average_precision"][0] == pytest.approx(27 / 28)
    assert set(scores["per_image"]) == {"a.tif", "b.tif"}
    assert run("evaluate", found, truth) == 0
    assert "average precision" in capsys.readouterr().out


def test_the_whole_job_without_network(folder, tmp_path, monkeypatch):
    """Complaint 23."""

    def refuse(*_):
        raise AssertionError("the program asked for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    model = tmp_path / "m.safetensors"
    files = [folder / "image.tif", folder / "painted.tif"]
    assert run("train", *files, "--model", model, "--steps", 2, *TINY) == 0
    assert run("segment", folder / "new.tif", "--model", model, "--output", tmp_path) == 0


def start(*words: object, **options) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "napari_unet.cli", *map(str, words)]
    return subprocess.Popen(
        command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


@pytest.mark.skipif(os.name == "nt", reason="signals are different on Windows")
def test_interrupted_training_saves_the_best_model(folder, tmp_path):
    """Complaint 11."""
    model = tmp_path / "m.safetensors"
    files = [folder / "image.tif", folder / "painted.tif"]
    process = start("train", *files, "--model", model, "--seconds", 500, *TINY)
    while "training on" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert "Stopped after" in out
    assert nu.load_model(model).net.n_classes == 2
    assert "Traceback" not in error


@pytest.mark.skipif(os.name == "nt", reason="signals are different on Windows")
def test_an_interrupted_demo_promises_nothing(tmp_path):
    process = start("demo", "--output", tmp_path / "out", "--seconds", 500)
    while "training on" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert "nothing will be written" in error
    assert "is kept" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name == "nt", reason="signals are different on Windows")
def test_interrupted_segmentation_keeps_finished_files(folder, tmp_path):
    plane = tifffile.imread(folder / "new.tif")
    images = tmp_path / "images"
    images.mkdir()
    tifffile.imwrite(images / "a.tif", plane)
    tifffile.imwrite(images / "b.tif", np.tile(plane, (150, 1, 1)))
    out = tmp_path / "out"
    process = start(
        "segment", images, "--model", folder / "tiny.safetensors", "--output", out, "--tile", 32
    )
    deadline = time.monotonic() + 120
    while not (out / "a_measurements.csv").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert sorted(path.name for path in out.iterdir()) == ["a_masks.tif", "a_measurements.csv"]


@pytest.mark.skipif(os.name == "nt", reason="there are no resource limits on Windows")
def test_a_full_disk_is_one_sentence_and_keeps_the_old_model(folder, tmp_path):
    import resource

    model = tmp_path / "m.safetensors"
    model.write_bytes(b"older")
    process = start(
        *("train", folder / "image.tif", folder / "painted.tif", "--model", model, "--steps", 1),
        *TINY,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000)),
    )
    _, error = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "there is no room left for it" in error.splitlines()[-1]
    assert model.read_bytes() == b"older"
    assert [path.name for path in tmp_path.iterdir()] == ["m.safetensors"]


@pytest.mark.slow
def test_demo(tmp_path, capsys):
    """Under three minutes on two idle cores; here only that it works and is honest."""
    assert run("demo", "--output", tmp_path / "out", "--seconds", 60) == 0
    said = capsys.readouterr().out
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "demo.png",
        "image.tif",
        "model.safetensors",
        "new.tif",
        "new_masks.tif",
        "new_measurements.csv",
        "new_truth.tif",
        "painted.tif",
    }
    (row,) = (line for line in said.splitlines() if line.startswith("after training"))
    words = ["evaluate", tmp_path / "out/new_masks.tif", tmp_path / "out/new_truth.tif", "--json"]
    assert run(*words) == 0
    scores = json.loads(capsys.readouterr().out)
    assert f"{scores['average_precision'][0]:.2f}" in row
    assert scores["average_precision"][0] > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["fluo_small", "fluo_large"])
def test_real_images(shared_data, tmp_path, capsys, kind):
    """Train on 20 painted cells of one real image, segment three others, evaluate."""
    source = shared_data / "nuclei_dsb2018"
    with (source / "index.csv").open(newline="") as index:
        rows = [
            row
            for row in csv.DictReader(index)
            if row["split"] == "val" and row["type"] == kind and int(row["n_objects"]) >= 20
        ]
    first, *others = rows[:4]
    labels = tifffile.imread(source / "masks" / f"{first['id']}.tif").astype(np.int32)
    painted = text(tmp_path / "painted.tif", paint_cells(labels, 20).astype(np.int16))
    model = tmp_path / "m.safetensors"
    image = source / "images" / f"{first['id']}.tif"
    assert run("train", image, painted, "--model", model, "--seconds", 60) == 0
    images = [source / "images" / f"{row['id']}.tif" for row in others]
    assert run("segment", *images, "--model", model, "--output", tmp_path / "out") == 0
    capsys.readouterr()
    truth = tmp_path / "truth"
    truth.mkdir()
    for row in others:
        (truth / f"{row['id']}.tif").symlink_to(source / "masks" / f"{row['id']}.tif")
    assert run("evaluate", tmp_path / "out", truth, "--json") == 0
    assert json.loads(capsys.readouterr().out)["average_precision"][0] > 0.6
