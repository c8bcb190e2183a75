"""Settings: bounds, types, choices, recipes, and their description for forms and options."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.errors import SettingsError
from napari_unet.core.settings import (
    AnnotationSettings,
    AugmentationSettings,
    FieldInfo,
    InstanceSettings,
    NetworkSettings,
    Settings,
    TileSettings,
    TrainSettings,
    WeightMapSettings,
    describe,
)

EVERY_CLASS: list[type[Settings]] = [
    AnnotationSettings,
    AugmentationSettings,
    InstanceSettings,
    NetworkSettings,
    TileSettings,
    TrainSettings,
    WeightMapSettings,
]
EVERY_FIELD = [
    pytest.param(cls, info, id=f"{cls.__name__}.{info.name}")
    for cls in EVERY_CLASS
    for info in describe(cls)
]
BOUNDED = [p for p in EVERY_FIELD if p.values[1].minimum is not None]  # type: ignore[union-attr]


def values_of(info: FieldInfo) -> st.SearchStrategy[Any]:
    """Every value a field allows."""
    found: st.SearchStrategy[Any]
    if info.choices is not None:
        found = st.sampled_from(info.choices)
    elif info.type is bool:
        found = st.booleans()
    elif info.type is int:
        low, high = (None if b is None else int(b) for b in (info.minimum, info.maximum))
        found = st.integers(low, high)
    else:
        found = st.floats(info.minimum, info.maximum, allow_nan=False, allow_infinity=False)
    return st.none() | found if info.optional else found


def some_settings(cls: type[Settings]) -> st.SearchStrategy[Settings]:
    fields = {info.name: values_of(info) for info in describe(cls)}
    for field in dataclasses.fields(cls):
        if isinstance(field.default, Settings):
            fields[field.name] = some_settings(type(field.default))
    return st.builds(cls, **fields)


@pytest.mark.parametrize("cls", EVERY_CLASS)
def test_defaults_are_within_their_own_bounds(cls: type[Settings]) -> None:
    assert cls() == cls.from_dict({})


@given(st.data(), st.sampled_from(EVERY_CLASS))
def test_a_recipe_gives_back_what_was_written(data: st.DataObject, cls: type[Settings]) -> None:
    written = data.draw(some_settings(cls))
    assert cls.from_json(written.to_json()) == written
    assert cls.from_dict(json.loads(json.dumps(written.to_dict()))) == written


@pytest.mark.parametrize(("cls", "info"), BOUNDED)
def test_bounds_are_allowed_and_what_lies_beyond_is_refused(
    cls: type[Settings], info: FieldInfo
) -> None:
    assert info.minimum is not None
    step = 1 if info.type is int else 1e-9 + abs(info.minimum) * 1e-9
    cls(**{info.name: info.type(info.minimum)})
    with pytest.raises(SettingsError, match=info.name.replace("_", " ")) as caught:
        cls(**{info.name: info.type(info.minimum) - step})
    assert str(info.minimum) in str(caught.value)
    if info.maximum is not None:
        cls(**{info.name: info.type(info.maximum)})
        with pytest.raises(SettingsError, match="between"):
            cls(**{info.name: info.type(info.maximum) + 1})


@pytest.mark.parametrize(("cls", "info"), EVERY_FIELD)
def test_values_of_another_kind_are_refused_in_one_sentence(
    cls: type[Settings], info: FieldInfo
) -> None:
    wrong: list[Any] = [[1], {"a": 1}]
    wrong += [] if info.type is str and info.choices is None else ["seven"]
    wrong += [0.5, "1"] if info.type is int else []
    wrong += [True, math.nan, math.inf] if info.type in (int, float) else [1, 0.5]
    wrong += [] if info.optional else [None]
    for value in wrong:
        with pytest.raises(SettingsError) as caught:
            cls(**{info.name: value})
        message = str(caught.value)
        assert info.name.replace("_", " ") in message
        assert message.endswith(".") and "\n" not in message


@pytest.mark.parametrize(("cls", "info"), EVERY_FIELD)
def test_every_field_has_what_a_form_needs(cls: type[Settings], info: FieldInfo) -> None:
    assert info.help.endswith(".")
    assert info.type in (int, float, bool, str)
    assert info.default == getattr(cls(), info.name)
    assert info.choices is None or all(type(choice) is info.type for choice in info.choices)
    assert info.choices is not None or info.type is not str
    if info.type in (int, float) and info.choices is None:
        assert info.minimum is not None, "a number without a lower bound"


def test_description_leaves_nested_settings_out() -> None:
    names = [info.name for info in describe(TrainSettings())]
    assert names == [info.name for info in describe(TrainSettings)]
    assert "learning_rate" in names and "network" not in names
    by_name = {info.name: info for info in describe(TrainSettings)}
    assert by_name["optimizer"].choices == ("adamw", "sgd")
    assert by_name["seconds"].optional and by_name["seconds"].unit == "s"
    assert by_name["steps"].expert and not by_name["seconds"].expert
    norm = {info.name: info for info in describe(NetworkSettings)}["norm"]
    assert norm.choices == ("batch",) and norm.optional


def test_numpy_numbers_become_plain_ones() -> None:
    settings = TrainSettings(batch=np.int64(3), learning_rate=np.float32(0.5))  # type: ignore[arg-type]
    assert type(settings.batch) is int and type(settings.learning_rate) is float
    assert TrainSettings.from_json(settings.to_json()) == settings
    with pytest.raises(SettingsError, match="batch"):
        TrainSettings(batch=np.int64(0))  # type: ignore[arg-type]


def test_settings_cannot_be_changed_unchecked() -> None:
    settings = TileSettings()
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.tile = -1  # type: ignore[misc]
    with pytest.raises(SettingsError, match="tile"):
        dataclasses.replace(settings, tile=-1)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"stepz": 3}', "'stepz' is not a setting of TrainSettings"),
        ('{"weights": {"w1": 3}}', "'w1' is not a setting of WeightMapSettings"),
        ('{"weights": {"w0": -3}}', "w0 must be between"),
        ('{"weights": 3}', "WeightMapSettings must be names with values"),
        ('{"optimizer": "adam"}', "optimizer must be one of adamw, sgd"),
        ('{"network": {"norm": "none"}}', "norm must be one of batch or null"),
        ('{"batch": "four"}', "batch must be a whole number, not 'four'"),
        (f'{{"seed": 1{"0" * 400}}}', "seed must be a finite number"),
        ('{"seconds": Infinity}', "seconds must be a finite number"),
        ("[1, 2]", "names with values"),
        ('{"batch": 3', "not valid JSON"),
    ],
)
def test_a_faulty_recipe_says_what_is_wrong(text: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words.replace("(", r"\(")):
        TrainSettings.from_json(text)


def test_a_recipe_sets_only_what_it_names() -> None:
    recipe = TrainSettings.from_json('{"steps": 7, "augmentation": {"elastic": 0}}')
    assert recipe == TrainSettings(steps=7, augmentation=AugmentationSettings(elastic=0))
