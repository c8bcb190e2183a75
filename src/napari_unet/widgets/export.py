"""Export: masks, outlines and measurements of a layer, in files other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from qtpy.QtWidgets import QCheckBox, QFileDialog

from napari_unet.core.errors import InputError
from napari_unet.io.registry import Export, Format, format_named, formats
from napari_unet.jobs.export_job import Written, export_job
from napari_unet.widgets._elided_combo import ElidedComboBox
from napari_unet.widgets._exported import export_of
from napari_unet.widgets._parts import RunButton
from napari_unet.widgets._places import safe_name
from napari_unet.widgets._save_dialog import may_replace
from napari_unet.widgets._streaming_layer import allocate
from napari_unet.widgets.layer_chooser import LayerChooser
from napari_unet.widgets.panel import Panel, note
from napari_unet.widgets.session import METADATA_KEY

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image, Labels

    from napari_unet.jobs.events import JobFailed, JobFinished
    from napari_unet.jobs.runner import Job

KEY = "export"
TITLE = "Saving"
TABLE = "csv"


class ExportPanel(Panel):
    """Writes a Labels layer, and with it a table of measurements."""

    title: ClassVar[str] = "Export"

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__(napari_viewer)
        self._folder = Path.home()
        self._written: list[Path] = []
        #: What the table will lack, in words.
        self._missing = ""
        #: Whether the objects were offered by the panel and not chosen by the user.
        self._offered = True
        self._build()
        connect = self.connections.connect
        connect(self.session.job_finished, self._on_any_job_finished)
        self.labels.layer_chosen.connect(self._on_chosen)
        connect(self.viewer.layers.events.inserted, self._on_inserted)
        connect(self.viewer.layers.events.removed, self._say_what_is_missing)
        self._take_newest()
        self._say_what_is_missing()

    def _build(self) -> None:
        self.labels = LayerChooser(self.session, ("labels",), none_text="(choose the objects)")
        self.image = LayerChooser(self.session, ("image",), follows="image")
        self.format = ElidedComboBox()
        for one in formats():
            self.format.addItem(one.title, one.name)
        self.format.currentIndexChanged.connect(self._on_format)
        self.help = note("")
        self.table = QCheckBox("Also save a table of measurements")
        self.table.setToolTip("Area, position, diameter, shape and intensity of each object")
        self.table.setChecked(True)
        form = self.add_group("What")
        form.addRow("Objects", self.labels)
        form.addRow("Intensities of", self.image)
        form = self.add_group("How")
        form.addRow("Format", self.format)
        form.addRow(self.help)
        form.addRow(self.table)
        self.button = RunButton("Save…", "Stop")
        self.button.start_requested.connect(self.ask_where)
        self.button.stop_requested.connect(self.stop)
        self.body.addWidget(self.button)
        self.body.addWidget(
            note(
                "napari's own File > Save Selected Layers offers these formats as file types, too."
            )
        )
        self._on_format()

    @property
    def running(self) -> bool:
        """Whether files are being written."""
        return self.session.jobs.running(KEY) is not None

    def chosen_format(self) -> Format:
        """Return the chosen format."""
        return format_named(self.format.currentData())

    def choose_format(self, name: str) -> None:
        """Choose as the user would."""
        self.format.setCurrentIndex(self.format.findData(name))

    def ask_where(self) -> None:
        """Let the user choose a file, then write it."""
        with self.errors_shown():
            layer = self._layer()
            chosen = self.chosen_format()
            start = chosen.path_for(self._folder, safe_name(layer.name))
            endings = " ".join(f"*{suffix}" for suffix in chosen.suffixes)
            path, _ = QFileDialog.getSaveFileName(
                self, f"Save {layer.name}", str(start), f"{chosen.title} ({endings})"
            )
            if not path:
                return
            files = [target for _, target in self._targets(Path(path))]
            if may_replace(self, self.title, files, Path(path)):
                self.save(path)

    def save(self, path: str | Path) -> None:
        """Write the chosen layer, and the table of measurements beside it."""
        with self.errors_shown():
            self.check_free(KEY)
            layer = self._layer()
            targets = self._targets(Path(path))
            target = targets[0][1]
            self._folder, self._written = target.parent, []
            self.button.set_running(True)
            self.show_status(f"Writing {target.name} …")
            self.session.jobs.start(
                KEY,
                TITLE,
                export_job,
                self._export(layer),
                targets,
                uses_torch=False,
                completes=True,
                on_event=self._on_event,
                on_finished=self._on_finished,
                on_failed=self._on_failed,
            )

    def stop(self) -> None:
        """End soon; a file that was not finished is left as it was before."""
        self.session.jobs.cancel(KEY)
        self.show_status("Stopping; files that are complete stay …")

    def _targets(self, path: Path) -> list[tuple[str, Path]]:
        """Return the formats and files to write: the chosen one, and the table beside it."""
        chosen = self.chosen_format()
        target = chosen.with_ending(path)
        if not self.table.isChecked() or chosen.name == TABLE:
            return [(chosen.name, target)]
        ending = next(e for e in chosen.suffixes if target.name.lower().endswith(e))
        stem = target.name[: -len(ending)].removesuffix(Path(chosen.ending).stem)
        table = format_named(TABLE).path_for(target.parent, stem)
        return [(chosen.name, target), (TABLE, table)]

    def _layer(self) -> Labels:
        layer: Labels | None = self.labels.layer
        if layer is None:
            raise InputError("Choose the layer with the objects to save.")
        return layer

    def _export(self, layer: Labels) -> Export:
        array = layer.data[0] if layer.multiscale else layer.data
        if isinstance(array, np.ndarray):
            # Painting may go on while the file is written. A large result lies in a file.
            copy = allocate(array.shape, array.dtype)
            copy[...] = array
            array = copy
        image: Image | None = self.image.layer
        export = export_of(layer, array, image)
        self._missing = ""
        if image is not None and export.image is None:  # another image: shapes without intensities
            self._missing = f" Without intensities: {image.name!r} is not as large as the objects."
        return export

    def _on_event(self, event: Written) -> None:
        self._written.append(event.path)
        self.show_status(f"Wrote {event.path.name} …")

    def _on_finished(self, _outcome: JobFinished) -> None:
        self.show_status(self._saved() or "Nothing was saved.")

    def _on_failed(self, outcome: JobFailed) -> None:
        self.show_status(self._saved())
        self.show_error(outcome.message)

    def _saved(self) -> str:
        """Say what is complete, also when another file could not be written."""
        names = " and ".join(path.name for path in self._written)
        table = any(path.suffix.lower() == ".csv" for path in self._written)
        missing = self._missing if table else ""
        return f"Saved {names} in {self._folder}.{missing}" if names else ""

    def _on_any_job_finished(self, job: Job) -> None:
        if job.title == TITLE:
            self.button.set_running(False)

    def _on_format(self, _index: int = 0) -> None:
        chosen = self.chosen_format()
        self.help.setText(chosen.help)
        self.table.setVisible(chosen.name != TABLE)

    def _on_chosen(self, layer: Labels | None) -> None:
        self._offered = layer is None

    def _on_inserted(self, _event: Any = None) -> None:
        if self._offered:
            self._take_newest()
        self._say_what_is_missing()

    def _say_what_is_missing(self, _event: Any = None) -> None:
        missing = self.labels.layer is None
        self.show_hint("Segment or paint something first, then save it here." if missing else "")

    def _take_newest(self) -> None:
        """Offer the newest result, else the annotation."""
        results = [
            layer
            for layer in self.viewer.layers
            if isinstance(entry := layer.metadata.get(METADATA_KEY), dict)
            and entry.get("role") == "result"
        ]
        if results:
            self.labels.set_layer(results[-1])
        elif self.session.annotation is not None:
            self.labels.set_layer(self.session.annotation)
        self._offered = True
