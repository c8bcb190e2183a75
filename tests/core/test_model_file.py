"""One file per model: everything comes back, nothing foreign is opened."""

from __future__ import annotations

import json
import pickle
import time

import numpy as np
import pytest
import safetensors.torch
import torch

import napari_unet.core.model_file as model_file
from napari_unet.core.errors import ModelFileError, OutputError
from napari_unet.core.model import Model
from napari_unet.core.model_file import (
    HEADER_KEY,
    list_models,
    load_model,
    load_tensors,
    model_info,
    save_model,
    save_tensors,
)
from napari_unet.core.normalization import Normalization
from napari_unet.core.settings import InstanceSettings
from napari_unet.core.unet import UNet


def small_model(**changes):
    torch.manual_seed(0)
    net = UNet(2, 3, base_channels=4, depth=2, padding="same", norm="batch", dropout=0.25)
    with torch.no_grad():
        net(torch.randn(2, 2, 8, 8))
    values = {
        "net": net,
        "name": "my cells",
        "task": "classes",
        "class_names": ("background", "axon", "myelin"),
        "normalization": Normalization(2.0, 99.0),
        "diameter": 31.5,
        "pixel_size": 0.65,
        "pixel_unit": "µm",
        "instances": InstanceSettings(seed_threshold=0.7, min_size=3),
        "training": {"steps": 7, "loss": [1.0, float("nan")], "ap50": np.float32(0.5)},
    }
    values |= changes
    values["net"].eval()
    return Model(**values)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "cells.safetensors"
    save_model(small_model(), path)
    return path


def rewrite(path, change):
    """Change the JSON header of a model file."""
    tensors, header = safetensors.torch.load_file(path), model_info(path)
    entry = change(header)
    safetensors.torch.save_file(tensors, path, {HEADER_KEY: json.dumps(entry)})


def test_everything_comes_back(saved):
    before, after = small_model(), load_model(saved)
    assert after.net.config() == before.net.config()
    for name in ("name", "task", "class_names", "channels", "normalization", "diameter"):
        assert getattr(after, name) == getattr(before, name)
    for name in ("pixel_size", "pixel_unit", "instances"):
        assert getattr(after, name) == getattr(before, name)
    assert after.training == {"steps": 7, "loss": [1.0, None], "ap50": 0.5}
    assert not after.net.training
    image = torch.randn(1, 2, 8, 8)
    assert torch.equal(after.net(image), before.net(image))
    assert all(parameter.requires_grad for parameter in after.net.parameters())


def test_the_file_may_be_replaced_while_the_model_is_in_use(saved):
    model = load_model(saved)
    weights = {name: tensor.clone() for name, tensor in model.net.state_dict().items()}
    saved.write_bytes(bytes(saved.stat().st_size))
    assert all(torch.equal(model.net.state_dict()[name], weights[name]) for name in weights)


def test_half_precision_halves_the_file_and_is_float32_in_memory(tmp_path):
    model = small_model(net=UNet(1, 3, base_channels=16, depth=2, norm="batch").eval())
    save_model(model, tmp_path / "full.safetensors")
    save_model(model, tmp_path / "half.safetensors", half=True)
    full = (tmp_path / "full.safetensors").stat().st_size
    assert (tmp_path / "half.safetensors").stat().st_size < 0.55 * full
    after = load_model(tmp_path / "half.safetensors").net.state_dict()
    for name, tensor in model.net.state_dict().items():
        assert after[name].dtype == tensor.dtype
        torch.testing.assert_close(after[name], tensor, rtol=5e-4, atol=1e-7)


def test_half_precision_keeps_weights_beyond_its_range(tmp_path):
    model = small_model()
    with torch.no_grad():
        model.net.classifier.weight.fill_(1e6)
    save_model(model, tmp_path / "a.safetensors", half=True)
    assert (load_model(tmp_path / "a.safetensors").net.classifier.weight == 1e6).all()


def test_the_same_model_gives_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        save_model(small_model(), tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_loading_leaves_the_random_numbers_alone(saved):
    state = torch.get_rng_state()
    load_model(saved)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.timed
def test_loading_a_model_of_the_shipped_size_takes_under_a_third_of_a_second(tmp_path):
    net = UNet(3, 2, base_channels=32, depth=3, norm="batch").eval()
    save_model(Model(net), tmp_path / "a.safetensors", half=True)
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        load_model(tmp_path / "a.safetensors")
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.3


def test_info_reads_no_weights(saved):
    info = model_info(saved)
    assert info["network"]["depth"] == 2
    assert info["class_names"] == ["background", "axon", "myelin"]
    assert info["bytes"] == saved.stat().st_size
    saved.write_bytes(saved.read_bytes()[:-100])
    assert model_info(saved)["diameter"] == 31.5


def test_shipped_models_are_found_by_name(tmp_path, monkeypatch):
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("cells", "nuclei", "axons"):
        save_model(small_model(name=name), folder / f"{name}.safetensors")
    monkeypatch.setattr(model_file.importlib.resources, "files", lambda _: tmp_path)
    assert list_models() == ["nuclei", "axons", "cells"]
    assert load_model("axons").name == "axons"
    with pytest.raises(ModelFileError, match=r"no model 'nucleus'.*nuclei, axons, cells"):
        load_model("nucleus")


def one_sentence(path):
    with pytest.raises(ModelFileError) as caught:
        load_model(path)
    message = str(caught.value)
    assert message.endswith(".") and "\n" not in message
    return message


@pytest.mark.parametrize("keep", [0, 1, 7, 8, 9, 200, 0.5, -1])
def test_truncated(saved, keep):
    data = saved.read_bytes()
    saved.write_bytes(data[: int(keep * len(data))] if keep == 0.5 else data[:keep])
    message = one_sentence(saved)
    assert "truncated" in message or "not a model file" in message


def test_foreign_safetensors(tmp_path):
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file({"a": torch.zeros(2)}, path, {"format": "pt"})
    assert "another program" in one_sentence(path)
    safetensors.torch.save_file({"a": torch.zeros(2)}, path)
    assert "another program" in one_sentence(path)


def test_newer(saved):
    rewrite(saved, lambda header: {**header, "format_version": 99})
    assert "newer version" in one_sentence(saved)


class Bomb:
    """Loading its pickle would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_renamed_pickle_is_never_run(tmp_path, protocol):
    path, victim = tmp_path / "a.safetensors", tmp_path / "victim"
    path.write_bytes(pickle.dumps(Bomb(victim), protocol=protocol))
    one_sentence(path)
    assert not victim.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_renamed_pytorch_file(tmp_path, zipped):
    path = tmp_path / "a.safetensors"
    torch.save({"a": torch.zeros(2)}, path, _use_new_zipfile_serialization=zipped)
    assert "pickle or PyTorch" in one_sentence(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"II*\0" * 100, b"\x89PNG\r\n\x1a\n" * 9])
def test_other_files(tmp_path, content):
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    assert "not a model file" in one_sentence(path)


def test_missing_file_and_folder(tmp_path):
    assert "no model file" in one_sentence(tmp_path / "none.safetensors")
    assert "is a folder" in one_sentence(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        lambda header: {**header, "network": {**header["network"], "base_channels": 8}},
        lambda header: {**header, "network": {**header["network"], "depth": 1}},
        lambda header: {**header, "network": {**header["network"], "base_channels": 10**9}},
        lambda header: {**header, "network": {"surprise": 1}},
        lambda header: {**header, "network": None},
        lambda header: {**header, "class_names": ["one"]},
        lambda header: {**header, "instances": {"seed_threshold": 7}},
        lambda header: {key: value for key, value in header.items() if key != "diameter"},
        lambda header: {**header, "task": "objekte"},
        lambda header: {**header, "channels": "cmyk"},
        lambda header: {**header, "diameter": 0},
        lambda header: {**header, "diameter": "30"},
        lambda header: {**header, "pixel_size": float("inf")},
        lambda header: {**header, "normalization": {"low": 1, "high": 998}},
        lambda header: {**header, "normalization": {"low": 99, "high": 1}},
        lambda header: {**header, "normalization": {"low": None, "high": 99}},
        lambda header: "no mapping",
        lambda header: {**header, "format_version": float("inf")},
        lambda header: {**header, "format_version": "x"},
    ],
)
def test_a_header_that_does_not_fit(saved, change):
    rewrite(saved, change)
    one_sentence(saved)


def test_a_header_without_end(saved):
    saved.write_bytes((200_005).to_bytes(8, "little") + b'{"a":' + b"[" * 200_000)
    assert "damaged" in one_sentence(saved)


def test_wrong_tensors(saved):
    header = model_info(saved)
    tensors = safetensors.torch.load_file(saved)
    tensors["surprise"] = torch.zeros(1)
    safetensors.torch.save_file(tensors, saved, {HEADER_KEY: json.dumps(header)})
    assert "complete model" in one_sentence(saved)


def test_weights_that_are_not_finite(tmp_path):
    model = small_model()
    with torch.no_grad():
        model.net.classifier.bias[0] = float("nan")
    save_model(model, tmp_path / "a.safetensors")
    assert "not finite" in one_sentence(tmp_path / "a.safetensors")


def test_other_kinds_are_told_apart(saved, tmp_path):
    tensors = {"a": torch.arange(5), "b": torch.zeros(0, 3, dtype=torch.float16)}
    tensors["c"] = tensors["a"][1:]  # shares memory
    path = tmp_path / "run.safetensors"
    save_tensors(path, tensors, {"step": 3}, "training state")
    back, header = load_tensors(path, "training state")
    assert header["step"] == 3
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    assert "holds a training state, not a model" in one_sentence(path)
    with pytest.raises(ModelFileError, match="holds a model, not a training state"):
        load_tensors(saved, "training state")


def test_a_failed_save_keeps_the_old_file(saved, tmp_path, small_disk):
    before = saved.read_bytes()
    with pytest.raises(OutputError, match="no room left"):
        save_model(small_model(name="new"), saved)
    assert saved.read_bytes() == before
    assert list(tmp_path.iterdir()) == [saved]


@pytest.mark.timed
@pytest.mark.parametrize("name", list_models())
def test_the_models_that_come_with_the_package(name):
    """At most 8 MB each, loaded by name in under 0.3 s, everything prediction needs is there."""
    load_model(name)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        model = load_model(name)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.3
    assert model_info(name)["bytes"] <= 8_000_000
    assert model.channels == "gray_or_rgb"
    assert model.diameter is not None
    assert all(tensor.dtype != torch.float16 for tensor in model.net.state_dict().values())
