"""What is packed, and that the two files of metadata do not repeat each other."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest
from npe2 import PluginManifest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory) -> zipfile.Path:
    """Build the wheel without asking any registry."""
    # From a copy, as left-overs of an earlier build in the checkout would be packed too.
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.cfg", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", source / "src", ignore=ignored)
    built = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    return zipfile.Path(path)


def names_in(wheel):
    return set(wheel.root.namelist())


def test_wheel_holds_the_package_and_its_data(wheel):
    names = names_in(wheel)
    for file in (ROOT / "src" / "napari_unet").rglob("*"):
        if "__pycache__" in file.parts or not file.is_file():
            continue
        if file.suffix in {".py", ".yaml", ".typed", ".safetensors", ".md"}:
            assert file.relative_to(ROOT / "src").as_posix() in names
    assert "napari_unet/py.typed" in names
    assert "napari_unet/napari.yaml" in names


def test_wheel_holds_nothing_else(wheel):
    info = {name for name in names_in(wheel) if ".dist-info/" in name}
    others = names_in(wheel) - info
    assert all(name.startswith("napari_unet/") for name in others)
    assert any(name.endswith("licenses/LICENSE") for name in info)


def test_wheel_is_small_enough(wheel):
    assert sum(entry.compress_size for entry in wheel.root.infolist()) < 20e6


def printed_by(python, code, folder, environment=None):
    """Run code away from the checkout; it must end well."""
    ran = subprocess.run(
        [python, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env=environment,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


_IN_THE_INSTALLED_COPY = """
import sys
import napari_unet
from npe2 import PluginManager
from npe2.manifest.utils import import_python_name

manager = PluginManager.instance()
manager.discover()
manifest = manager.get_manifest("napari-unet-finetune")
assert manifest.contributions.menus and manifest.contributions.widgets
assert "torch" not in sys.modules and "napari.viewer" not in sys.modules
for command in manifest.contributions.commands:
    assert callable(import_python_name(command.python_name))
from napari_unet.core.model_file import list_models
print(napari_unet.__file__, *list_models())
"""


def test_the_installed_wheel_is_a_complete_plugin(wheel, tmp_path):
    """The plugin is found without PyTorch, and all that the manifest names is in the wheel."""
    target = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", target, str(wheel.root.filename)], check=True, timeout=120)
    environment = {**os.environ, "PYTHONPATH": str(target), "QT_QPA_PLATFORM": "offscreen"}
    printed = printed_by(sys.executable, _IN_THE_INSTALLED_COPY, tmp_path, environment)
    where, *models = printed.split()
    assert Path(where).is_relative_to(target)
    shipped = (ROOT / "src/napari_unet/models").glob("*.safetensors")
    assert sorted(models) == sorted(path.stem for path in shipped)


_IN_A_FRESH_ENVIRONMENT = """
import sys
import napari
from napari._app_model import get_app_model
viewer = napari.Viewer(show=False)
shown = {
    item.command.id
    for menu in ("napari/layers/segment", "napari/layers/annotate", "napari/layers/data",
                 "napari/file/io_utilities")
    for item in get_app_model().menus.get_menu(menu)
    if hasattr(item, "command")
}
assert sum(name.startswith("napari-unet-finetune") for name in shown) == 6, shown
assert "torch" not in sys.modules
_, dock = viewer.window.add_plugin_dock_widget("napari-unet-finetune", "U-Net")
assert [dock.panel(name).title for name in ("Annotate", "Train", "Segment")]
viewer.close()
"""


@pytest.mark.slow
def test_the_wheel_in_a_fresh_environment(wheel, tmp_path):
    """One pip line; then the menus are there without PyTorch, and the dock opens."""
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True, timeout=120)
    pip = [python, "-m", "pip", "install", "--quiet", "-c", ROOT / "constraints.txt"]
    subprocess.run([*pip, f"{wheel.root.filename}[gui]"], check=True, timeout=1200)
    printed_by(python, _IN_A_FRESH_ENVIRONMENT, tmp_path)
    helped = subprocess.run([python.with_name("napari-unet"), "--help"], check=False, timeout=60)
    assert helped.returncode == 0


def test_manifest_is_valid_and_found():
    manifest = PluginManifest.from_distribution("napari-unet-finetune")
    assert manifest.name == "napari-unet-finetune"
    link = ROOT / "napari.yaml"
    assert link.resolve() == ROOT / "src" / "napari_unet" / "napari.yaml"


def test_every_command_of_the_manifest_imports():
    manifest = PluginManifest.from_distribution("napari-unet-finetune")
    for command in manifest.contributions.commands or []:
        module, _, name = (command.python_name or "").partition(":")
        assert find_spec(module) is not None
        assert name


def test_setup_cfg_and_pyproject_do_not_repeat_each_other(project):
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    assert set(config.sections()) == {"options", "options.packages.find", "options.package_data"}
    assert set(config["options"]) == {"package_dir", "packages"}
    assert "setuptools" not in project["tool"]


def test_base_dependencies_leave_the_choice_of_qt_and_of_newer_versions(project):
    """Complaint 21: one pip line, no upper pins, no Qt binding."""
    base = project["project"]["dependencies"]
    assert not [line for line in base if "<" in line or "==" in line or "[all]" in line]
    assert not [line for line in base if line.lower().startswith(("pyqt5", "pyqt6", "pyside"))]
    assert any(line.startswith("napari>=") for line in base)


def test_constraints_name_the_tested_versions(project):
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.lower().split("==") for line in lines if not line.startswith("#"))
    assert pins["torch"] == "2.13.0"
    for line in project["project"]["dependencies"]:
        assert line.split(">=")[0].split("[")[0].lower() in pins


def test_nobody_elses_top_level_names():
    """PyPI's napari-unet has the same import name; at least say so in the README."""
    assert "TensorFlow" in (ROOT / "README.md").read_text(encoding="utf-8")
