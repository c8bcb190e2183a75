"""What all panels of one viewer share: chosen layers, model, settings and running jobs."""

from __future__ import annotations

import atexit
import weakref
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QObject, Qt, QTimer, Signal

from napari_unet.core.settings import AnnotationSettings, WeightMapSettings
from napari_unet.jobs.runner import JobRunner
from napari_unet.widgets._connections import Connections
from napari_unet.widgets._frames import Frames

if TYPE_CHECKING:
    from napari import Viewer
    from napari.layers import Image, Labels, Layer, Shapes

    from napari_unet.core.model import Model
    from napari_unet.core.size_match import SizeMatch
    from napari_unet.widgets._backup import Backup
    from napari_unet.widgets.live_annotation import LiveAnnotation

_NAME = "napari_unet.session"
#: Key of ``layer.metadata`` under which this plugin keeps what a layer is for.
METADATA_KEY = "napari_unet"


def session_of(viewer: Viewer) -> Session:
    """Return the session of a viewer; it is made on the first call.

    The session is a child of the viewer's main window, found there by name: two viewers have two
    sessions, and closing a window takes its session along. Nothing is kept per process.
    """
    window = viewer.window.main_menu.window()
    found = window.findChild(Session, _NAME, Qt.FindChildOption.FindDirectChildrenOnly)
    return found if found is not None else Session(viewer, window)


def kind_of(layer: Layer) -> str:
    """Return ``"image"``, ``"labels"``, ``"shapes"``, ...: also right through napari's proxies."""
    from napari.layers import Image, Labels, Shapes

    if isinstance(layer, Labels):
        return "labels"
    if isinstance(layer, Image):
        return "image"
    return "shapes" if isinstance(layer, Shapes) else "other"


class Session(QObject):
    """Shared state of one viewer; get it from :func:`session_of`.

    Signals
    -------
    image_changed, annotation_changed, boxes_changed
        Another layer was chosen (or None), or the image got other data: the layer.
    annotation_edited
        Pixels of the annotation were changed by painting, undo or a panel: the layer.
    model_changed
        The current :class:`~napari_unet.core.model.Model`, or None.
    settings_changed
        Annotation or weight map settings were changed.
    job_started, job_finished
        A :class:`~napari_unet.jobs.runner.Job`.
    closing
        The viewer closes; jobs are already being stopped. Disconnect, unbind, write files.
    """

    image_changed = Signal(object)
    annotation_changed = Signal(object)
    annotation_edited = Signal(object)
    boxes_changed = Signal(object)
    model_changed = Signal(object)
    settings_changed = Signal()
    job_started = Signal(object)
    job_finished = Signal(object)
    closing = Signal()

    def __init__(self, viewer: Viewer, window: QObject) -> None:
        super().__init__(window)
        self.setObjectName(_NAME)
        self.viewer: Viewer = viewer
        self.jobs = JobRunner(self)
        #: Draws what jobs change.
        self.frames = Frames(self)
        self.closed = False
        self._image: Image | None = None
        self._annotation: Labels | None = None
        self._boxes: Shapes | None = None
        self._model: Model | None = None
        self._annotation_settings = AnnotationSettings()
        self._weight_settings = WeightMapSettings()
        self._size_match: SizeMatch | None = None
        self._live: LiveAnnotation | None = None
        self._backup: Backup | None = None
        self._asked_to_close = False
        self._connections = Connections()
        self._image_connections = Connections()
        self.jobs.job_started.connect(self.job_started)
        self.jobs.job_ended.connect(self.job_finished)
        layers = viewer.layers.events
        self._connections.connect(layers.inserted, self._on_inserted)
        self._connections.connect(layers.removed, self._on_removed)
        window.installEventFilter(self)
        # Python may end without the window being closed; Qt then takes widgets apart in any order.
        self._at_exit = _Closing(self)
        atexit.register(self._at_exit)
        for layer in viewer.layers:
            self._consider(layer)

    @property
    def image(self) -> Image | None:
        """The image layer that is worked on."""
        return self._image

    @image.setter
    def image(self, layer: Image | None) -> None:
        if not same_layer(layer, self._image):
            self._image = layer
            self._image_connections.clear()
            if layer is not None:
                self._image_connections.connect(layer.events.data, self._on_image_data)
            self.image_changed.emit(layer)

    @property
    def annotation(self) -> Labels | None:
        """The Labels layer that holds the user's annotation."""
        return self._annotation

    @annotation.setter
    def annotation(self, layer: Labels | None) -> None:
        if same_layer(layer, self._annotation):
            return
        self._annotation = layer
        if layer is not None:
            self.boxes = self._boxes_for(layer)
        self.annotation_changed.emit(layer)

    @property
    def boxes(self) -> Shapes | None:
        """The Shapes layer whose rectangles are the annotated areas."""
        return self._boxes

    @boxes.setter
    def boxes(self, layer: Shapes | None) -> None:
        if not same_layer(layer, self._boxes):
            self._boxes = layer
            self.boxes_changed.emit(layer)

    @property
    def model(self) -> Model | None:
        """The model that Segment uses and Train can start from."""
        return self._model

    @model.setter
    def model(self, model: Model | None) -> None:
        if model is not self._model:
            self._model = model
            self.model_changed.emit(model)

    @property
    def annotation_settings(self) -> AnnotationSettings:
        """What the painted labels mean."""
        return self._annotation_settings

    @annotation_settings.setter
    def annotation_settings(self, settings: AnnotationSettings) -> None:
        if settings != self._annotation_settings:
            self._annotation_settings = settings
            self.settings_changed.emit()

    @property
    def weight_settings(self) -> WeightMapSettings:
        """The weight map the network is trained with."""
        return self._weight_settings

    @weight_settings.setter
    def weight_settings(self, settings: WeightMapSettings) -> None:
        if settings != self._weight_settings:
            self._weight_settings = settings
            self.settings_changed.emit()

    @property
    def size_match(self) -> SizeMatch | None:
        """How images are resampled before training.

        Lengths of the weight map are pixels of the resampled image, and the preview shows them as
        they will be. None: no resampling.
        """
        return self._size_match

    @size_match.setter
    def size_match(self, match: SizeMatch | None) -> None:
        if match != self._size_match:
            self._size_match = match
            self.settings_changed.emit()

    @property
    def live(self) -> LiveAnnotation:
        """The training target that follows the annotation; made on first use."""
        if self._live is None:
            from napari_unet.widgets.live_annotation import LiveAnnotation

            self._live = LiveAnnotation(self)
        return self._live

    @property
    def backup(self) -> Backup:
        """The journal of what is painted; made on first use."""
        if self._backup is None:
            from napari_unet.widgets._backup import Backup

            self._backup = Backup(self)
        return self._backup

    def close(self) -> None:
        """Stop all jobs (at most about two seconds) and let go of the viewer."""
        if self.closed:
            return
        self.closed = True
        atexit.unregister(self._at_exit)
        self.jobs.shutdown()
        self.frames.stop()
        self.closing.emit()
        self._connections.clear()
        self._image_connections.clear()
        self._image = self._annotation = self._boxes = self._model = None

    def eventFilter(self, watched: QObject | None, event: QEvent | None) -> bool:  # noqa: N802
        """Notice that the window really closes; the event itself is never touched.

        ``viewer.close()`` sends a close event that nobody refuses. One that comes from the window
        system may still be refused in napari's dialog: then no hide event follows it.
        """
        if event is not None and event.type() == QEvent.Type.Close:
            if event.spontaneous():
                self._asked_to_close = True
                QTimer.singleShot(0, self._forget_request)
            else:
                self.close()
        elif event is not None and event.type() == QEvent.Type.Hide and self._asked_to_close:
            self.close()
        return False

    def _boxes_for(self, labels: Labels) -> Shapes | None:
        """Return the boxes that were drawn for the image of an annotation.

        Those that are chosen stay, unless they are known to be another image's.
        """
        image = image_name(labels)
        chosen = "" if self._boxes is None else image_name(self._boxes)
        if not image or chosen == image:
            return self._boxes
        drawn = [
            layer
            for layer in self.viewer.layers
            if kind_of(layer) == "shapes" and image_name(layer) == image
        ]
        if drawn:
            return drawn[-1]
        return None if chosen else self._boxes

    def _forget_request(self) -> None:
        self._asked_to_close = False

    def _on_image_data(self, _event: Any = None) -> None:
        """Let panels look again: other pixels may have other axes."""
        self.image_changed.emit(self._image)

    def _on_inserted(self, event: Any) -> None:
        self._consider(event.value)

    def _consider(self, layer: Layer) -> None:
        """Choose a layer by itself only where nothing is chosen and its purpose is plain.

        Who opens an image beside a sample on which nothing is painted wants to work on that image.
        """
        if _made_here(layer):
            return
        kind = kind_of(layer)
        untouched = self._annotation is None and _is_sample(self._image)
        if kind == "image" and (self._image is None or untouched):
            self.image = layer
        elif kind == "labels" and self._annotation is None and not layer.multiscale:
            self.annotation = layer

    def _on_removed(self, event: Any) -> None:
        removed = event.value
        rest = [layer for layer in self.viewer.layers if not _made_here(layer)]
        if same_layer(removed, self._image):
            images = [layer for layer in rest if kind_of(layer) == "image"]
            self.image = images[-1] if images else None
        if same_layer(removed, self._annotation):
            self.annotation = None
        if same_layer(removed, self._boxes):
            self.boxes = None


class _Closing:
    """Closes a session that is still there, and does not keep it alive."""

    def __init__(self, session: Session) -> None:
        self._session = weakref.ref(session)

    def __call__(self) -> None:
        session = self._session()
        if session is not None:
            session.close()


def _made_here(layer: Layer) -> bool:
    """Whether this plugin made a layer: then its role is known. Other layers may have notes too."""
    entry = layer.metadata.get(METADATA_KEY)
    return isinstance(entry, dict) and "role" in entry


def _is_sample(layer: Layer | None) -> bool:
    entry = None if layer is None else layer.metadata.get(METADATA_KEY)
    return isinstance(entry, dict) and bool(entry.get("sample"))


def image_name(layer: Layer) -> str:
    """Return the name that the image of an annotation or of boxes had when they were made."""
    entry = layer.metadata.get(METADATA_KEY)
    return str(entry.get("image") or "") if isinstance(entry, dict) else ""


def same_layer(one: Layer | None, other: Layer | None) -> bool:
    """Whether two names stand for one layer, with or without napari's proxy around it."""
    if one is None or other is None:
        return one is None and other is None
    return bool(one == other)
