"""The list of models: shipped ones, the ones trained here or earlier, and any model file."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QWidget

from napari_unet.widgets import _places
from napari_unet.widgets._connections import Connections
from napari_unet.widgets._elided_combo import ElidedComboBox
from napari_unet.widgets.session import Session

if TYPE_CHECKING:
    from napari_unet.core.model import Model

_OPEN = "Open a model file…"
#: So many of the models that were trained before are listed, the newest first.
_MOST_SAVED = 8
#: So many trained models are kept in memory; older ones are read from their files again.
_MOST_IN_MEMORY = 3
SCRATCH = "nothing (train from scratch)"
_TRAINED = "trained:"
BEST = "what fits the cells best"
MODEL_FILES = "Model files (*.safetensors);;All files (*)"


@dataclass(frozen=True)
class ModelChoice:
    """One entry of the list.

    ``source`` is what :func:`~napari_unet.core.model_file.load_model` takes, the model itself, or
    None for training from scratch.
    """

    text: str
    source: str | Model | None = field(compare=False, repr=False)
    key: str = ""


class ModelChooser(ElidedComboBox):
    """A drop-down list of models; the first shipped one is chosen until a model is trained.

    Loading is left to the job that needs the model: choosing costs nothing.

    Parameters
    ----------
    session
        The viewer's session; a model set there appears in the list.
    scratch
        Offer "train from scratch".
    take_new
        Choose a newly trained model by itself.
    """

    model_chosen = Signal(object)

    def __init__(
        self,
        session: Session,
        *,
        scratch: bool = False,
        take_new: bool = False,
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._session = session
        self._take_new = take_new
        self._own: list[ModelChoice] = []
        self._shipped = [ModelChoice(_title(name), name, name) for name in shipped_names()]
        self._saved: list[ModelChoice] = []
        self._scratch = [ModelChoice(SCRATCH, None, "scratch")] if scratch else []
        if scratch and len(self._shipped) > 1:
            self._shipped.insert(0, ModelChoice(BEST, "auto", "auto"))
        self._shown: list[ModelChoice] = []
        self._chosen: str | None = None
        self._connections = connections = Connections()
        connections.connect(session.model_changed, self._on_model)
        session.closing.connect(connections.clear)
        # Never a lambda here: a widget that is collected in a cycle would call it half cleared.
        self.destroyed.connect(connections.clear)
        if session.model is not None:
            self._own.insert(0, _trained(session.model))
        self._fill(self._own[0].key if self._own and take_new else None)
        self.activated.connect(self._on_activated)

    @property
    def choice(self) -> ModelChoice | None:
        """The chosen entry; None where there is nothing to choose from."""
        index = self.currentIndex()
        return self._shown[index] if 0 <= index < len(self._shown) else None

    def choose_file(self, path: str | Path) -> None:
        """Add a model file to the list and choose it."""
        choice = _in_file(Path(path))
        self._keep(choice)
        self._fill(choice.key)
        self.model_chosen.emit(choice)

    def choose(self, key: str) -> None:
        """Choose an entry by its key (a shipped name, a path, ``"scratch"``)."""
        self._fill(key)
        self.model_chosen.emit(self.choice)

    def _on_model(self, model: Model | None) -> None:
        if model is None:
            return
        choice = _trained(model)
        # Training again under the same name replaces the entry, its older weights are let go.
        self._keep(choice)
        self._let_go()
        take = self._take_new or self._chosen == choice.key
        self._fill(choice.key if take else self._chosen or choice.key)
        if take:
            self.model_chosen.emit(choice)

    def showPopup(self) -> None:  # noqa: N802 (Qt's name)
        """Open the list, with the files that are there now."""
        self._fill(self._chosen)
        super().showPopup()

    def _keep(self, choice: ModelChoice) -> None:
        """Put an entry first in the list, once."""
        self._own = [choice, *(known for known in self._own if known.key != choice.key)]

    def _let_go(self) -> None:
        """Forget the weights of older models that can be had from their files."""
        trained = [choice for choice in self._own if choice.key.startswith(_TRAINED)]
        for old in trained[_MOST_IN_MEMORY:]:
            name = old.key.removeprefix(_TRAINED)
            path = _places.models_folder() / f"{name}.safetensors"
            if old.key != self._chosen and _places.is_there(path):
                self._own.remove(old)

    def _fill(self, key: str | None) -> None:
        listed = {choice.key for choice in self._own}
        saved = (_in_file(path) for path in saved_models())
        other = (one for one in saved if not {one.key, f"{_TRAINED}{one.text}"} & listed)
        self._saved = list(islice(other, _MOST_SAVED))
        self._shown = [*self._own, *self._shipped, *self._saved, *self._scratch]
        blocked = self.blockSignals(True)
        self.clear()
        for choice in self._shown:
            self.addItem(choice.text)
        self.insertSeparator(self.count())
        self.addItem(_OPEN)
        keys = [choice.key for choice in self._shown]
        if key in keys:
            self.setCurrentIndex(keys.index(key))
        elif self._shown:
            self.setCurrentIndex(0)
        else:
            self.setCurrentIndex(self.count() - 1)
        self.blockSignals(blocked)
        self._note_choice()

    def _note_choice(self) -> None:
        """Remember the choice, to come back to it: texts may be the same for two files."""
        self._chosen = self.choice.key if self.choice is not None else None
        self.show_tip()

    def _on_activated(self, index: int) -> None:
        if index < len(self._shown):
            if self._shown[index] in self._saved:
                self._keep(self._shown[index])  # whatever becomes of the file
                self._fill(self._shown[index].key)
                index = self.currentIndex()
            self._note_choice()
            self.model_chosen.emit(self._shown[index])
            return
        folder = _places.models_folder()
        start = str(folder) if _places.is_there(folder) else ""
        path, _ = QFileDialog.getOpenFileName(self, "Open a model", start, MODEL_FILES)
        if path:
            self.choose_file(path)
        else:
            self._fill(self._chosen)


def shipped_names() -> list[str]:
    """Return the names of the shipped models without importing torch, ``"nuclei"`` first."""
    import importlib.resources

    folder = Path(str(importlib.resources.files("napari_unet"))) / "models"
    names = [path.stem for path in folder.glob("*.safetensors")]
    return sorted(names, key=lambda name: (name != "nuclei", name))


def saved_models() -> list[Path]:
    """Return the files of the models that were trained before, the newest first."""
    found: list[tuple[float, Path]] = []
    with contextlib.suppress(OSError):  # the folder
        for path in _places.models_folder().glob("[!.]*.safetensors"):
            with contextlib.suppress(OSError):  # it has just gone
                found.append((path.stat().st_mtime, path))
    return [path for _time, path in sorted(found, reverse=True)]


def _in_file(path: Path) -> ModelChoice:
    return ModelChoice(path.stem, str(path), str(path))


def _title(name: str) -> str:
    return f"{name} (comes with the plugin)"


def _trained(model: Model) -> ModelChoice:
    return ModelChoice(f"{model.name} (yours)", model, f"{_TRAINED}{model.name}")
