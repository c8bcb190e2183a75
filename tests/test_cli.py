"""Bad input on the command line: one sentence, status 2, and nothing is touched."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import tifffile
import torch

from napari_unet.cli import main
from napari_unet.core.model import Model
from napari_unet.core.model_file import save_model
from napari_unet.core.unet import UNet
from napari_unet.samples import paint_cells, simulated_sample


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """Good and bad inputs of every kind; nothing here may change."""
    folder = tmp_path_factory.mktemp("inputs")
    sample = simulated_sample((128, 160))
    painted = paint_cells(sample.labels, 4)
    tifffile.imwrite(folder / "image.tif", sample.image)
    tifffile.imwrite(folder / "painted.tif", painted.astype(np.int16))
    tifffile.imwrite(folder / "truth.tif", sample.labels.astype(np.uint16))
    tifffile.imwrite(folder / "smaller.tif", painted[:-1].astype(np.int16))
    tifffile.imwrite(folder / "empty.tif", np.zeros_like(painted, dtype=np.uint16))
    rgb = np.repeat((sample.image // 4).astype(np.uint8)[..., None], 3, axis=2)
    tifffile.imwrite(folder / "rgb.tif", rgb, photometric="rgb")
    for name, value in (("nan", np.nan), ("infinite", np.inf)):
        spoiled = sample.image.astype(np.float32)
        spoiled[5, 7] = value
        tifffile.imwrite(folder / f"{name}.tif", spoiled)
    tifffile.imwrite(folder / "fractions.tif", sample.labels + np.float32(0.5))
    tifffile.imwrite(folder / "image_masks.tif", sample.image)
    (folder / "text.tif").write_text("this is not an image")
    (folder / "nothing.tif").write_bytes(b"")
    torch.manual_seed(0)
    model = Model(UNet(1, 2, base_channels=2, depth=1, padding="same").eval(), name="tiny")
    good = folder / "model.safetensors"
    save_model(model, good)
    (folder / "truncated.safetensors").write_bytes(good.read_bytes()[:-100])
    (folder / "cut_header.safetensors").write_bytes(good.read_bytes()[:40])
    safetensors.numpy.save_file({"a": np.zeros(3)}, folder / "foreign.safetensors")
    torch.save({"a": torch.zeros(3)}, folder / "pickle.safetensors")
    (folder / "recipe.json").write_text('{"seconds": 1, "no such setting": 2}')
    (folder / "broken.json").write_text('{"seconds": ')
    return folder


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


TRAIN = ["train", "{in}/image.tif", "{in}/painted.tif", "--model", "{out}/m.safetensors"]
FROM_SCRATCH = ["--base", "none", "--steps", "1", "--base-channels", "2", "--depth", "1"]
SEGMENT = ["segment", "{in}/image.tif", "--model", "{in}/model.safetensors", "--output", "{out}"]


def train(image="image.tif", labels="painted.tif", *more):
    files = [f"{{in}}/{image}", f"{{in}}/{labels}"]
    return ["train", *files, "--model", "{out}/m.safetensors", *FROM_SCRATCH, *more]


def segment(image="image.tif", model="model.safetensors", *more):
    return ["segment", f"{{in}}/{image}", "--model", f"{{in}}/{model}", "--output", "{out}", *more]


BAD = {
    "no labels": (
        ["train", "{in}/image.tif", "--model", "{out}/m.safetensors"],
        "cannot be paired",
    ),
    "an image as its own labels": (train("image.tif", "image.tif"), "and as its labels"),
    "no model": (["train", "{in}/image.tif", "{in}/painted.tif"], "--model"),
    "no such command": (["trian"], "trian"),
    "missing image": (train("missing.tif"), "There is no file"),
    "missing labels": (train(labels="missing.tif"), "There is no file"),
    "not an image": (train("text.tif"), "text.tif"),
    "an empty file": (train("nothing.tif"), "nothing.tif"),
    "labels are text": (train(labels="text.tif"), "text.tif"),
    "shapes differ": (train(labels="smaller.tif"), "shape"),
    "nothing painted": (train(labels="empty.tif"), "painted"),
    "labels are fractions": (train(labels="fractions.tif"), "whole numbers"),
    "train on NaN": (train("nan.tif"), "NaN"),
    "train on infinity": (train("infinite.tif"), "infinite"),
    "unknown setting": (
        train("image.tif", "painted.tif", "--recipe", "{in}/recipe.json"),
        "setting",
    ),
    "broken recipe": (train("image.tif", "painted.tif", "--recipe", "{in}/broken.json"), "JSON"),
    "recipe is an image": (train("image.tif", "painted.tif", "--recipe", "{in}/image.tif"), "text"),
    "unknown base": ([*TRAIN, "--base", "no-such-model"], "no-such-model"),
    "truncated base": ([*TRAIN, "--base", "{in}/truncated.safetensors"], "truncated"),
    "RGB on a gray base": (
        [
            *("train", "{in}/rgb.tif", "{in}/painted.tif", "--model", "{out}/m.safetensors"),
            *("--base", "{in}/model.safetensors", "--steps", "1"),
        ],
        "RGB",
    ),
    "model over an input": (
        ["train", "{in}/image.tif", "{in}/painted.tif", "--model", "{in}/image.tif"],
        "is an input",
    ),
    "model in no folder": (
        ["train", "{in}/image.tif", "{in}/painted.tif", "--model", "{out}/no/m.safetensors"],
        "does not exist",
    ),
    "model over an image that is no input": (
        ["train", "{in}/image.tif", "{in}/painted.tif", "--model", "{in}/rgb.tif"],
        "ends in .safetensors",
    ),
    "the name of the image that is bad": (
        [
            *("train", "{in}/image.tif", "{in}/painted.tif", "{in}/nan.tif", "{in}/painted.tif"),
            *("--model", "{out}/m.safetensors", *FROM_SCRATCH),
        ],
        "'nan'",
    ),
    "model is a folder": (
        ["train", "{in}/image.tif", "{in}/painted.tif", "--model", "{out}"],
        "is a folder",
    ),
    "segment nothing": (segment("missing.tif"), "There is no file"),
    "segment a variable that is not set": (
        ["segment", "", "--model", "{in}/model.safetensors", "--output", "{out}"],
        "empty",
    ),
    "results into a variable that is not set": (
        ["segment", "{in}/image.tif", "--model", "{in}/model.safetensors", "--output", ""],
        "empty",
    ),
    "segment text": (segment("text.tif"), "text.tif"),
    "segment NaN": (segment("nan.tif"), "NaN"),
    "segment infinity": (segment("infinite.tif"), "infinite"),
    "RGB on a gray model": (segment("rgb.tif"), "RGB"),
    "truncated model": (segment(model="truncated.safetensors"), "truncated"),
    "cut header": (segment(model="cut_header.safetensors"), "truncated"),
    "foreign model": (segment(model="foreign.safetensors"), "another program"),
    "pickle": (segment(model="pickle.safetensors"), "pickle"),
    "an image as model": (segment(model="image.tif"), "not a model"),
    "missing model": (segment(model="missing.safetensors"), "missing.safetensors"),
    "unknown format": (segment("image.tif", "model.safetensors", "--format", "word"), "word"),
    "diameter of nothing": (
        segment("image.tif", "model.safetensors", "--diameter", "0"),
        "above 0",
    ),
    "tile of nothing": (segment("image.tif", "model.safetensors", "--tile", "0"), "between 8"),
    "output is a file": (
        [
            "segment",
            "{in}/image.tif",
            "--model",
            "{in}/model.safetensors",
            "--output",
            "{in}/truth.tif",
        ],
        "not a folder",
    ),
    "evaluate nothing": (["evaluate", "{in}/missing.tif", "{in}/truth.tif"], "There is no file"),
    "evaluate shapes": (["evaluate", "{in}/smaller.tif", "{in}/truth.tif"], "shape"),
    "evaluate file and folder": (["evaluate", "{in}", "{in}/truth.tif"], "two folders"),
    "evaluate an empty folder": (["evaluate", "{in}", "{out}"], "no label image"),
    "weight map of text": (["weight-map", "{in}/text.tif", "--output", "{out}/w.tif"], "text.tif"),
    "weight map of nothing": (
        ["weight-map", "{in}/empty.tif", "--output", "{out}/w.tif"],
        "painted",
    ),
    "weight map over its labels": (
        ["weight-map", "{in}/painted.tif", "--output", "{in}/painted.tif"],
        "is an input",
    ),
    "weight map in another format": (
        ["weight-map", "{in}/painted.tif", "--output", "{out}/w.png"],
        "ends in .tif",
    ),
    "masks over an input": (
        [
            *("segment", "{in}/image.tif", "{in}/image_masks.tif", "--output", "{in}"),
            *("--model", "{in}/model.safetensors"),
        ],
        "replace an input",
    ),
    "demo among other files": (["demo", "--output", "{in}", "--seconds", "1"], "not from a demo"),
    "info on a pickle": (["info", "{in}/pickle.safetensors"], "pickle"),
    "info on nothing": (["info", "{in}/missing.safetensors"], "missing.safetensors"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence_and_touches_nothing(case, inputs, tmp_path, capsys):
    words, said = BAD[case]
    (tmp_path / "m.safetensors").write_bytes(b"an older model")
    if "{out}" in words and words[0] == "evaluate":
        (tmp_path / "m.safetensors").unlink()
    before = snapshot(inputs), snapshot(tmp_path)
    status = main([word.format(**{"in": inputs, "out": tmp_path}) for word in words])
    printed = capsys.readouterr()
    assert status == 2
    assert printed.out == ""
    sentences = [line for line in printed.err.splitlines() if line.startswith("napari-unet: ")]
    assert len(sentences) == 1, printed.err
    assert said in sentences[0]
    assert sentences[0].endswith(".")
    assert "Traceback" not in printed.err
    assert (snapshot(inputs), snapshot(tmp_path)) == before


@pytest.mark.parametrize("encoding", ["ascii", "utf-8:strict"])
def test_any_file_name_can_be_printed(encoding, inputs, tmp_path):
    """Also where the output knows a few letters only, or the name is in no encoding at all."""
    name = "\u65e5\u672c.tif" if encoding == "ascii" else os.fsdecode(b"bad\xff.tif")
    try:
        shutil.copy(inputs / "image.tif", tmp_path / name)
    except (OSError, UnicodeError):
        pytest.skip("this system has no such file names")
    done = _program(
        *("segment", tmp_path / name, "--model", inputs / "model.safetensors"),
        *("--output", tmp_path / "out"),
        environment={"PYTHONIOENCODING": encoding},
    )
    assert done.returncode == 0, done.stderr
    assert b"objects ->" in done.stdout or b"object ->" in done.stdout
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.skipif(os.name == "nt", reason="the shell of POSIX closes an output")
@pytest.mark.parametrize("stream", [1, 2])
def test_a_closed_output_ends_nothing(stream, inputs, tmp_path):
    words = ["segment", inputs / "image.tif", "--model", inputs / "model.safetensors"]
    command = [sys.executable, "-m", "napari_unet.cli", *words, "--output", tmp_path / "out"]
    text = shlex.join(map(str, command)) + f" {stream}>&-"
    done = subprocess.run(["/bin/sh", "-c", text], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 2


@pytest.mark.skipif(os.name == "nt", reason="pipes of POSIX")
def test_a_reader_that_leaves_ends_nothing(inputs, tmp_path):
    """``napari-unet segment ... | head -1`` writes the files of all images."""
    for name in "abc":
        shutil.copy(inputs / "image.tif", tmp_path / f"{name}.tif")
    reader, writer = os.pipe()
    os.close(reader)
    words = ["segment", tmp_path, "--model", inputs / "model.safetensors"]
    command = [sys.executable, "-m", "napari_unet.cli", *words, "--output", tmp_path / "out"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert done.returncode == 0, done.stderr
    assert b"Error" not in done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 6


def _program(*words, environment):
    return subprocess.run(
        [sys.executable, "-m", "napari_unet.cli", *map(str, words)],
        capture_output=True,
        env={**os.environ, **environment},
        check=False,
    )
