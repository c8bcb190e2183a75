"""Where files go unless the user says otherwise."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import platformdirs

from napari_unet.widgets._preferences import preference

_UNSAFE = re.compile(r"[^\w.-]+")


def models_folder() -> Path:
    """Return the folder of trained models: the one in the preferences, or the user's own."""
    chosen = str(preference("models_folder", ""))
    if chosen.strip():
        return Path(chosen).expanduser()
    return Path(platformdirs.user_data_dir("napari-unet-finetune", appauthor=False)) / "models"


def journal_folder() -> Path:
    """Return the folder in which painted labels are backed up while the viewer is open."""
    return Path(platformdirs.user_state_dir("napari-unet-finetune", appauthor=False)) / "journal"


def new_model_file(image_name: str, folder: Path, now: datetime | None = None) -> Path:
    """Return a file that does not exist yet, named after the image and the time."""
    stem = safe_name(image_name)
    stamp = (now or datetime.now()).strftime("%Y-%m-%d_%H-%M-%S")
    path = folder / f"{stem}_{stamp}.safetensors"
    number = 2
    while is_there(path):
        path = folder / f"{stem}_{stamp}_{number}.safetensors"
        number += 1
    return path


def is_there(path: Path) -> bool:
    """Whether there is such a file; what stands in the way is said when it is written."""
    try:
        return path.exists()
    except OSError:  # the folder may not be read, or the name is too long
        return False


def safe_name(text: str) -> str:
    """Return a text as part of a file name on any system."""
    return _UNSAFE.sub("_", text).strip("._")[:60] or "image"
