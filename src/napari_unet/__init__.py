"""Fine-tune a U-Net on a few painted cells and get seam-free masks.

Importing the package costs next to nothing: each name below loads its module, and with it PyTorch,
when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_unet.core.annotation import TrainingTarget, read_convention, training_target
    from napari_unet.core.errors import UNetError
    from napari_unet.core.instances import label_instances
    from napari_unet.core.metrics import average_precision
    from napari_unet.core.model import Model
    from napari_unet.core.model_file import load_model, save_model
    from napari_unet.core.pairs import TrainingPair
    from napari_unet.core.prediction import iter_tiles, predict
    from napari_unet.core.segmentation import iter_segmentation, segment
    from napari_unet.core.settings import (
        AnnotationSettings,
        AugmentationSettings,
        InstanceSettings,
        NetworkSettings,
        TileSettings,
        TrainSettings,
        WeightMapSettings,
    )
    from napari_unet.core.simulation import simulate_nuclei
    from napari_unet.core.training import iter_training, train
    from napari_unet.core.unet import UNet
    from napari_unet.core.weight_map import weight_map

_MODULE_OF = {
    "AnnotationSettings": "core.settings",
    "AugmentationSettings": "core.settings",
    "InstanceSettings": "core.settings",
    "Model": "core.model",
    "NetworkSettings": "core.settings",
    "TileSettings": "core.settings",
    "TrainSettings": "core.settings",
    "TrainingPair": "core.pairs",
    "TrainingTarget": "core.annotation",
    "UNet": "core.unet",
    "UNetError": "core.errors",
    "WeightMapSettings": "core.settings",
    "average_precision": "core.metrics",
    "iter_segmentation": "core.segmentation",
    "iter_tiles": "core.prediction",
    "iter_training": "core.training",
    "label_instances": "core.instances",
    "load_model": "core.model_file",
    "predict": "core.prediction",
    "read_convention": "core.annotation",
    "save_model": "core.model_file",
    "segment": "core.segmentation",
    "simulate_nuclei": "core.simulation",
    "train": "core.training",
    "training_target": "core.annotation",
    "weight_map": "core.weight_map",
}

__all__ = [
    "AnnotationSettings",
    "AugmentationSettings",
    "InstanceSettings",
    "Model",
    "NetworkSettings",
    "TileSettings",
    "TrainSettings",
    "TrainingPair",
    "TrainingTarget",
    "UNet",
    "UNetError",
    "WeightMapSettings",
    "average_precision",
    "iter_segmentation",
    "iter_tiles",
    "iter_training",
    "label_instances",
    "load_model",
    "predict",
    "read_convention",
    "save_model",
    "segment",
    "simulate_nuclei",
    "train",
    "training_target",
    "weight_map",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("napari-unet-finetune")
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
