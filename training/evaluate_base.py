"""Score a base model on held-out images: ``python -m training.evaluate_base MODEL --data DIR``.

AP at IoU 0.5 and 0.75, pooled per kind of image, with the diameter the annotation has, with the
estimated diameter, and without size matching. MODEL is a model file, a shipped name, or the
folder of a running training (its checkpoint is used).
"""

from __future__ import annotations

import argparse
import logging
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from training.base_data import AnnotatedImage, read_collection

from napari_unet.core.diameter import estimate_diameter
from napari_unet.core.instances import at_scale, label_instances
from napari_unet.core.metrics import match
from napari_unet.core.model import Model
from napari_unet.core.model_file import load_model, load_tensors
from napari_unet.core.planes import as_plane
from napari_unet.core.prediction import Predictor, predict
from napari_unet.core.settings import InstanceSettings, TileSettings
from napari_unet.core.unet import UNet

logger = logging.getLogger("evaluate_base")

KINDS = ("fluo_small", "fluo_large", "histology_purple", "brightfield", "phase", "SEM")
BASE_THRESHOLDS = InstanceSettings(seed_threshold=0.4, mask_threshold=0.4, min_size=60)


def model_from_checkpoint(folder: Path, name: str | None = None) -> Model:
    """Return the moving average of a training run as a model."""
    tensors, header = load_tensors(folder / "checkpoint.safetensors", "base training")
    net = UNet(**header["network"])
    prefix = "average."
    net.load_state_dict({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
    return Model(
        net.eval(),
        name=name or folder.name,
        channels="gray_or_rgb",
        diameter=header.get("diameter", 24.0),
        instances=BASE_THRESHOLDS,
        training={
            "steps": header["earlier_steps"] + header["step"],
            "steps_of_this_run": header["step"],
            "seconds": header["seconds"],
        },
    )


def any_model(source: str) -> Model:
    """Load a model file, a shipped model, or the checkpoint of a training folder."""
    return model_from_checkpoint(Path(source)) if Path(source).is_dir() else load_model(source)


@dataclass
class Tally:
    """Pooled matches at two thresholds."""

    counts: dict[float, list[int]] = field(
        default_factory=lambda: {0.5: [0, 0, 0], 0.75: [0, 0, 0]}
    )

    def add(self, truth: np.ndarray, predicted: np.ndarray) -> None:
        """Add one image."""
        for threshold, count in self.counts.items():
            found = match(truth, predicted, threshold)
            count[0] += found.tp
            count[1] += found.fp
            count[2] += found.fn

    def average_precision(self, threshold: float) -> float:
        """TP / (TP + FP + FN) of all images together."""
        return self.counts[threshold][0] / max(1, sum(self.counts[threshold]))


def evaluate(
    model: Model,
    items: list[AnnotatedImage],
    ways: tuple[str, ...],
    tiles: TileSettings | None = None,
) -> dict[str, Tally]:
    """Segment each image in each way and pool the matches per ``kind / way``."""
    predictor = Predictor(model, tiles)
    tallies: dict[str, Tally] = defaultdict(Tally)
    for item in items:
        plane = as_plane(item.image)
        for way in ways:
            diameter = {"true size": item.diameter, "as it is": None}.get(way)
            if way == "estimated":
                diameter = estimate_diameter(model, plane)
                logger.info(
                    "%s %s: %.1f px, estimated %s",
                    item.kind,
                    item.identifier,
                    item.diameter,
                    diameter,
                )
            factor = model.diameter / diameter if model.diameter and diameter else 1.0
            probabilities = predict(predictor, plane, diameter=diameter)
            labels = label_instances(probabilities, at_scale(model.instances, factor))
            tallies[f"{item.kind} / {way}"].add(item.labels, labels)
    return tallies


def main() -> None:
    """Read the options, score, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS))
    parser.add_argument("--ways", nargs="+", default=["true size", "estimated"])
    parser.add_argument("--most", type=int, default=1000, help="images per kind")
    parser.add_argument("--views", type=int, default=1, help="mean over so many views: 1, 4 or 8")
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO if options.verbose else logging.WARNING)
    model = any_model(options.model)
    held = [i for i in read_collection(options.data, tuple(options.kinds)) if i.held_out]
    items = []
    for kind in options.kinds:
        of_kind = [item for item in held if item.kind == kind]
        items += of_kind[:: max(1, len(of_kind) // options.most)]
    tiles = TileSettings(views=options.views)
    print(f"{'kind / diameter':34} AP50  AP75")
    for name, tally in evaluate(model, items, tuple(options.ways), tiles).items():
        print(f"{name:34} {tally.average_precision(0.5):.3f} {tally.average_precision(0.75):.3f}")


if __name__ == "__main__":
    main()
