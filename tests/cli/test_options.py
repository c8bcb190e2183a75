"""Options come from the settings: bounds, choices, defaults and help."""

from __future__ import annotations

import argparse
import dataclasses
import json

import pytest

from napari_unet.cli.options import OptionGroups, given
from napari_unet.cli.parser import MASK_FORMATS, SHIPPED_MODELS, build_parser
from napari_unet.cli.train import network_options, train_settings
from napari_unet.core.errors import InputError, ModelFileError
from napari_unet.core.model_file import list_models, model_header, save_model
from napari_unet.core.settings import (
    AugmentationSettings,
    InstanceSettings,
    NetworkSettings,
    TileSettings,
    TrainSettings,
    WeightMapSettings,
    describe,
)
from napari_unet.io.registry import formats


def parse_train(*words):
    return build_parser(words).parse_args(["train", "a.tif", "b.tif", "--model", "m", *words])


def test_nothing_given_is_the_default():
    assert train_settings(parse_train()) == TrainSettings()


def test_given_options_reach_nested_settings():
    settings = train_settings(
        parse_train(
            *("--seconds", "5", "--area", "all", "--w0", "3", "--no-class-balance", "--depth", "2"),
            *("--norm", "none", "--augment-scale", "0.5", "--no-augment-flips", "--seed", "7"),
        )
    )
    assert (settings.seconds, settings.seed, settings.annotation.area) == (5, 7, "all")
    assert (settings.weights.w0, settings.weights.class_balance) == (3, False)
    assert (settings.network.depth, settings.network.norm) == (2, None)
    assert (settings.augmentation.scale, settings.augmentation.flips) == (0.5, False)
    assert settings.augmentation.rotation == AugmentationSettings().rotation


def test_steps_alone_switch_the_clock_off():
    assert train_settings(parse_train("--steps", "10")).seconds is None
    assert train_settings(parse_train("--steps", "10", "--seconds", "4")).seconds == 4


def test_options_win_over_the_recipe(tmp_path):
    recipe = dataclasses.replace(
        TrainSettings(seconds=7, seed=3), network=NetworkSettings(depth=2, base_channels=8)
    )
    file = tmp_path / "recipe.json"
    file.write_text(recipe.to_json(), encoding="utf-8")
    settings = train_settings(parse_train("--recipe", str(file), "--seed", "9", "--depth", "1"))
    assert (settings.seconds, settings.seed) == (7, 9)
    assert (settings.network.depth, settings.network.base_channels) == (1, 8)


@pytest.mark.parametrize(
    "settings",
    [TrainSettings, WeightMapSettings, NetworkSettings, TileSettings, InstanceSettings],
)
def test_every_field_has_an_option_that_keeps_its_bounds(settings):
    parser = argparse.ArgumentParser(exit_on_error=False)
    OptionGroups(parser, show_experts=True).add(settings)
    for info in describe(settings):
        flag = "--" + info.name.replace("_", "-")
        assert flag in parser.format_help()
        if info.maximum is not None:
            with pytest.raises(argparse.ArgumentError, match="must be"):
                parser.parse_args([flag, str(info.type(info.maximum + 1))])
        if info.choices:
            with pytest.raises(argparse.ArgumentError, match="not one of"):
                parser.parse_args([flag, "nonsense"])
    assert given(parser.parse_args([]), settings()) == settings()


def test_experts_are_listed_on_request(capsys):
    for words, listed in ((["--help"], False), (["--help-all"], True)):
        with pytest.raises(SystemExit):
            build_parser(words).parse_args(["train", *words])
        text = capsys.readouterr().out
        assert ("--learning-rate" in text) is listed
        assert "--seconds" in text


def test_help_lists_the_formats_and_models_there_are():
    assert {*MASK_FORMATS, "csv"} == {each.name for each in formats()}
    assert list(SHIPPED_MODELS) == list_models()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seconds", "soon"], "'soon' is not a number"),
        (["--steps", "1.5"], "'1.5' is not a whole number"),
        (["--seconds", "-1"], "at least 0.1"),
        (["--area", "boxes"], "not one of painted, around, all"),
        (["--device", "tpu"], "not one of auto, cpu, cuda, mps"),
        (["--learning-rat", "1"], "nrecognized arguments"),
    ],
)
def test_a_bad_option_is_one_sentence(words, said, capsys):
    with pytest.raises(SystemExit) as end:
        parse_train(*words)
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


@pytest.mark.parametrize("kind", ["the model file", "what info prints"])
def test_a_trained_model_is_a_recipe(tmp_path, bright_model, kind):
    """Nobody copies a part of one JSON file into another to train again as the panel did."""
    recipe = dataclasses.replace(TrainSettings(seed=5), network=NetworkSettings(depth=2))
    model = dataclasses.replace(bright_model, training={"settings": recipe.to_dict()})
    file = tmp_path / ("m.safetensors" if kind == "the model file" else "m.json")
    if kind == "the model file":
        save_model(model, file)
    else:
        file.write_text(json.dumps(model_header(model)), encoding="utf-8")
    assert train_settings(parse_train("--recipe", str(file))) == recipe
    assert train_settings(parse_train("--recipe", str(file), "--seed", "9")).seed == 9


def test_a_model_that_does_not_say_how_it_was_trained_is_no_recipe(tmp_path, bright_model):
    save_model(bright_model, tmp_path / "m.safetensors")
    with pytest.raises(InputError, match=r"'m.safetensors' does not say how"):
        train_settings(parse_train("--recipe", str(tmp_path / "m.safetensors")))
    (tmp_path / "other.safetensors").write_bytes(b"no model")
    with pytest.raises(ModelFileError, match="is not a model file"):
        train_settings(parse_train("--recipe", str(tmp_path / "other.safetensors")))


def test_a_recipe_saved_on_windows(tmp_path):
    """Its editors put a byte order mark in front."""
    (tmp_path / "recipe.json").write_text('{"seed": 5}', encoding="utf-8-sig")
    assert train_settings(parse_train("--recipe", str(tmp_path / "recipe.json"))).seed == 5


@pytest.mark.parametrize(
    "command", ["", "train", "segment", "evaluate", "weight-map", "info", "demo"]
)
def test_help_fits_a_terminal_of_80_columns(command, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        build_parser(["--help-all"]).parse_args([*command.split(), "--help"])
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "tiff", "images/"], "'images/' is not one of tiff, ome-zarr"),
        (["images/", "--diameter", "30px"], "'30px' is not a number above 0, auto or none"),
    ],
)
def test_what_segment_cannot_read_is_named(words, said, capsys):
    with pytest.raises(SystemExit) as end:
        build_parser(words).parse_args(["segment", *words, "--model", "m", "--output", "o"])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_words_of_segment_may_be_written_large():
    words = ["segment", "a.tif", "--model", "m", "--output", "o"]
    options = build_parser([]).parse_args([*words, "--diameter", "None", "--format", "TIFF"])
    assert options.diameter is None
    assert options.format == ["tiff"]


def test_options_of_a_new_network_are_known():
    assert network_options(parse_train("--seconds", "5")) == []
    given = parse_train("--base-channels", "8", "--norm", "none", "--depth", "2")
    assert network_options(given) == ["--base-channels", "--depth", "--norm"]


def test_a_recipe_with_boxes_says_how_to_go_on(tmp_path):
    """Boxes are drawn in napari; a model that was trained there has them in its settings."""
    (tmp_path / "recipe.json").write_text('{"annotation": {"area": "boxes"}}')
    words = ["--recipe", str(tmp_path / "recipe.json")]
    with pytest.raises(InputError, match="another area with --area"):
        train_settings(parse_train(*words))
    assert train_settings(parse_train(*words, "--area", "all")).annotation.area == "all"
