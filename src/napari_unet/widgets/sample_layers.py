"""The samples of File > Open Sample, as layers."""

from __future__ import annotations

from typing import Any

from napari_unet.widgets.session import METADATA_KEY

LayerData = tuple[Any, dict[str, Any], str]


def _about(source: str) -> dict[str, Any]:
    """Return the metadata of a sample image: an image of the user's own is preferred to it."""
    return {"source": source, METADATA_KEY: {"sample": True}}


def nuclei_layers() -> list[LayerData]:
    """Return simulated nuclei and, hidden, their exact labels.

    The labels are marked as the truth, so that no panel takes them for an annotation by itself.
    """
    from napari_unet.samples import simulated_sample

    sample = simulated_sample()
    return [
        (sample.image, {"name": sample.name, "metadata": _about(sample.source)}, "image"),
        (
            sample.labels,
            {
                "name": f"{sample.name} (truth)",
                "visible": False,
                "metadata": {METADATA_KEY: {"role": "truth"}},
            },
            "labels",
        ),
    ]


def histology_layers() -> list[LayerData]:
    """Return a real stained tissue section."""
    from napari_unet.samples import histology_sample

    sample = histology_sample()
    options = {"name": sample.name, "rgb": True, "metadata": _about(sample.source)}
    return [(sample.image, options, "image")]
