"""Forms made from settings: every default survives, every bound holds."""

from __future__ import annotations

import re
from typing import Any

import pytest

from napari_unet.core.settings import (
    AnnotationSettings,
    AugmentationSettings,
    InstanceSettings,
    NetworkSettings,
    Settings,
    TileSettings,
    TrainSettings,
    WeightMapSettings,
    describe,
)
from napari_unet.widgets._object_form import ObjectForm
from napari_unet.widgets.annotate import annotation_form
from napari_unet.widgets.settings_form import SettingsForm

ALL = (
    AnnotationSettings,
    AugmentationSettings,
    InstanceSettings,
    NetworkSettings,
    TileSettings,
    TrainSettings,
    WeightMapSettings,
)


@pytest.mark.parametrize("cls", ALL)
def test_defaults_survive_the_form(cls: type[Settings], qtbot: Any) -> None:
    form: SettingsForm[Settings] = SettingsForm(cls())
    qtbot.addWidget(form)
    assert form.settings() == cls()
    assert set(form.fields) == {info.name for info in describe(cls)}


@pytest.mark.parametrize("cls", ALL)
def test_every_field_explains_itself(cls: type[Settings], qtbot: Any) -> None:
    form: SettingsForm[Settings] = SettingsForm(cls())
    qtbot.addWidget(form)
    for info in describe(cls):
        field = form.fields[info.name]
        for tip in (field.toolTip(), field.editor.toolTip()):
            assert tip.replace("\n", " ") == info.help
            assert max(map(len, tip.splitlines())) < 60  # no line across the picture


def test_other_values_and_hidden_ones_are_kept(qtbot: Any) -> None:
    settings = TrainSettings(
        seconds=None,
        steps=7,
        device="cpu",
        diameter=33.5,
        learning_rate=3e-5,
        weights=WeightMapSettings(w0=4),
    )
    form = SettingsForm(settings, without=("seed",))
    qtbot.addWidget(form)
    assert form.settings() == settings
    other = TrainSettings(seed=5, crop=64)
    form.set_settings(other)
    assert form.settings() == other


def test_changes_are_announced_and_setting_is_silent(qtbot: Any) -> None:
    form = SettingsForm(WeightMapSettings(), sliders={"w0": (0, 50), "ridge": (0, 9)})
    qtbot.addWidget(form)
    changes: list[int] = []
    form.changed.connect(lambda: changes.append(1))
    form.set_settings(WeightMapSettings(w0=20, ridge=3, class_balance=False))
    assert changes == []
    assert form.settings() == WeightMapSettings(w0=20, ridge=3, class_balance=False)
    form.fields["w0"].editor.setValue(12.5)
    form.fields["class_balance"].editor.setChecked(True)
    assert len(changes) == 2
    assert form.settings() == WeightMapSettings(w0=12.5, ridge=3)


def test_optional_number_is_off_until_ticked(qtbot: Any) -> None:
    form = SettingsForm(TileSettings())
    qtbot.addWidget(form)
    field = form.fields["tile"]
    assert field.value() is None and not field.editor.isEnabled()
    field._own_value.setChecked(True)
    field.editor.setValue(256)
    assert form.settings() == TileSettings(tile=256)


def test_a_number_that_is_decided_for_the_user_is_not_shown(qtbot: Any) -> None:
    form = SettingsForm(
        TrainSettings(), words={"steps": {None: "no limit"}}, starts={"diameter": 20}, fold=False
    )
    qtbot.addWidget(form)
    steps, diameter = form.fields["steps"], form.fields["diameter"]
    assert steps.editor.text() == "no limit"
    assert diameter.editor.text() == "automatic"
    diameter._own_value.setChecked(True)
    assert diameter.value() == 20
    diameter.editor.setValue(31)
    diameter._own_value.setChecked(False)
    assert diameter.editor.text() == "automatic" and diameter.value() is None
    diameter._own_value.setChecked(True)
    assert diameter.value() == 31
    form.set_settings(TrainSettings(diameter=1))
    assert diameter.editor.text() == "1.0 px"


def test_small_numbers_are_shown_without_needless_zeros(qtbot: Any) -> None:
    form = SettingsForm(TrainSettings(learning_rate=1e-3), fold=False)
    qtbot.addWidget(form)
    field = form.fields["learning_rate"]
    assert field.editor.text() == "0.001"
    field.editor.setValue(2.5e-6)
    assert form.settings().learning_rate == 2.5e-6


def test_bounds_cannot_be_left(qtbot: Any) -> None:
    form = SettingsForm(NetworkSettings())
    qtbot.addWidget(form)
    form.fields["depth"].editor.setValue(99)
    form.fields["dropout"].editor.setValue(-1)
    assert form.settings() == NetworkSettings(depth=6, dropout=0.0)


def test_choices_are_in_plain_words(qtbot: Any) -> None:
    form = SettingsForm(NetworkSettings(), words={"norm": {"batch": "yes", None: "no"}})
    qtbot.addWidget(form)
    combo = form.fields["norm"].editor
    assert [combo.itemText(i) for i in range(combo.count())] == ["yes", "no"]
    combo.setCurrentIndex(1)
    assert form.settings().norm is None


def test_a_value_beyond_a_slider_is_not_cut(qtbot: Any) -> None:
    """A recipe may say w0 = 200 though the slider ends at 50."""
    form = SettingsForm(WeightMapSettings(w0=200), sliders={"w0": (0, 50)})
    qtbot.addWidget(form)
    assert form.settings().w0 == 200


def test_expert_settings_are_folded_away(qtbot: Any) -> None:
    form = SettingsForm(AugmentationSettings())
    qtbot.addWidget(form)
    form.show()
    field = form.fields["noise"]
    assert not field.isVisible()
    form._expert_button.setChecked(True)
    assert field.isVisible()


def test_a_row_can_be_hidden_with_its_label(qtbot: Any) -> None:
    form = SettingsForm(AnnotationSettings())
    qtbot.addWidget(form)
    form.show()
    form.set_row_visible("margin", False)
    assert not form.fields["margin"].isVisible() and form.fields["area"].isVisible()


def test_what_unpainted_pixels_are_is_explained_in_the_words_of_the_panel(qtbot: Any) -> None:
    form = annotation_form(AnnotationSettings())
    qtbot.addWidget(form)
    for name in ("area", "margin"):
        row = form.fields[name]
        shown = {row.toolTip(), row.editor.toolTip(), label_of(row).toolTip()}
        assert len(shown) == 1
        assert not re.search(r"\((painted|around|boxes|all)\)|'around'", shown.pop())


def test_a_threshold_is_explained_alike_on_its_name_and_its_slider(qtbot: Any) -> None:
    form = ObjectForm()
    qtbot.addWidget(form)
    row = form.form.fields["seed_threshold"]
    assert label_of(row).toolTip() == row.editor.toolTip()


def label_of(row: Any) -> Any:
    """The name in front of a field."""
    return row.parentWidget().layout().itemAt(0).layout().labelForField(row)
