"""What the plugin tells napari about itself."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from npe2 import PluginManifest

import napari_unet

MANIFEST = Path(napari_unet.__file__).parent / "napari.yaml"


@pytest.fixture(scope="module")
def manifest() -> PluginManifest:
    return PluginManifest.from_file(MANIFEST)


def test_the_name_is_that_of_the_distribution(manifest: PluginManifest) -> None:
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert f'name = "{manifest.name}"' in project
    assert f'{manifest.name} = "napari_unet:napari.yaml"' in project


def test_every_command_imports(manifest: PluginManifest) -> None:
    for command in manifest.contributions.commands or []:
        module, _, name = str(command.python_name).partition(":")
        assert callable(getattr(import_module(module), name)), command.id


def test_every_menu_is_open_to_plugins_and_every_command_is_declared(
    manifest: PluginManifest,
) -> None:
    """A wrong menu or an undeclared command would pass validation and be dropped silently."""
    from napari._app_model.constants import MenuId

    contributions = manifest.contributions
    declared = {command.id for command in contributions.commands or []}
    open_menus = {str(menu) for menu in MenuId.contributables()}
    used = {item.command for items in contributions.menus.values() for item in items}
    assert set(contributions.menus) <= open_menus
    assert len(contributions.menus) == 4
    for part in (contributions.widgets, contributions.writers, contributions.sample_data):
        used |= {item.command for item in part or []}
    assert used == declared


def test_preferences_have_the_names_that_are_read(manifest: PluginManifest) -> None:
    from napari_unet.widgets import _preferences

    section = manifest.contributions.configurations[_preferences.SECTION]
    assert set(section.properties) == {"train_seconds", "models_folder", "welcome"}
    assert _preferences.PLUGIN == manifest.name


@pytest.mark.parametrize("sample", ["nuclei_layers", "histology_layers"])
def test_samples_are_layers(sample: str) -> None:
    from napari.layers import Layer

    from napari_unet.widgets import sample_layers

    made = [Layer.create(*data) for data in getattr(sample_layers, sample)()]
    assert made[0].data.size > 0
    assert all(one.data.shape[:2] == made[0].data.shape[:2] for one in made)


MENUS_WITHOUT_TORCH = """
import sys
from npe2 import PluginManager, PluginManifest
from napari._app_model import get_app_model
from napari.plugins import _npe2
manager = PluginManager.instance()
manifest = PluginManifest.from_file(sys.argv[1])
manager.register(manifest, warn_disabled=False)
app = get_app_model()
_npe2._register_manifest_actions(manifest)
_npe2._safe_register_qt_actions(manifest)
shown = [
    item.command.id
    for menu in ("napari/layers/segment", "napari/layers/annotate", "napari/layers/data",
                 "napari/file/io_utilities")
    for item in app.menus.get_menu(menu)
    if hasattr(item, "command")
]
assert sum(name.startswith("napari-unet-finetune") for name in shown) == 6, shown
loaded = [name for name in ("torch", "napari_unet.widgets.train") if name in sys.modules]
assert not loaded, loaded
"""


def test_menus_appear_without_importing_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MENUS_WITHOUT_TORCH, str(MANIFEST)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
