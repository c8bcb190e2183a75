"""Put a trained base model and its card into the package.

``python -m training.export_base nuclei``

The card records the recipe, the seed, the images by id, the loss curve and the scores on
held-out images.
"""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import asdict, replace
from pathlib import Path

from training.base_data import read_collection
from training.evaluate_base import KINDS, Tally, evaluate, model_from_checkpoint
from training.train_base import AUGMENTATION, DIAMETERS, SHARES, WEIGHTS, Recipe

from napari_unet.core.model_file import load_tensors, save_model
from napari_unet.core.settings import InstanceSettings

PURPOSE = {
    "nuclei": "Cell nuclei in fluorescence, stained tissue (gray or RGB) and bright field, dark or "
    "bright. Trained on the images of the 2018 Data Science Bowl (BBBC038, CC0 1.0).",
    "cells": "A starting point for cells in phase contrast and for structures in electron "
    "microscopy. Trained on phase-contrast fibroblasts (Usiigaci, MIT), axons in SEM "
    "(AxonDeepSeg, MIT) and the images of `nuclei`.",
}
FURTHER_LOOKS = (
    "`simulated`: images rendered from the label maps of training images in random looks, and "
    "fluorescence images with single objects dimmed; `off scale`: training images shown as if "
    "their objects had another size (see `training/base_simulation.py`). Crops are shown with "
    "other stains, uneven light or coarser pixels now and then (`training/base_looks.py`)."
)
ROWS_OF_CURVE = 40


def command(name: str, recipe: Recipe) -> str:
    """Return the command line that trains with a recipe."""
    usual = asdict(Recipe())
    options = [
        f"--{option.replace('_', '-')} {value:g}"
        if isinstance(value, float)
        else f"--{option.replace('_', '-')} {value}"
        for option, value in asdict(recipe).items()
        if value != usual[option]
    ]
    return " ".join([f"python -m training.train_base {name}", *options])


def card(
    name: str, folder: Path, scores: dict[str, Tally], recipe: Recipe, earlier_steps: int
) -> str:
    """Return the model card as Markdown."""
    with (folder / "curve.csv").open(newline="") as file:
        curve = list(csv.reader(file))[1:]
    identifiers = json.loads((folder / "data.json").read_text())
    step, seconds, _ = curve[-1]
    before = f", after {earlier_steps:,} steps of earlier runs" if earlier_steps else ""
    shares = ", ".join(f"{kind} {share:.0%}" for kind, share in SHARES[name].items())
    lines = [
        f"# Model card: {name}",
        "",
        PURPOSE[name],
        "",
        f"Objects are brought to a diameter of {DIAMETERS[name]:.0f} px before the network sees "
        "them.",
        "",
        "## Scores on held-out images",
        "",
        "Average precision TP / (TP + FP + FN), pooled over the images of a kind. No image of the",
        "same field or animal was trained on, except for phase contrast, where both sets come from",
        "one recording. *True size*: the median diameter of the annotation is given; *estimated*:",
        "the program finds it by itself.",
        "",
        "| kind / diameter | AP 0.5 | AP 0.75 |",
        "|---|---|---|",
        *(
            f"| {key} | {tally.average_precision(0.5):.3f} | {tally.average_precision(0.75):.3f} |"
            for key, tally in scores.items()
        ),
        "",
        "## Recipe",
        "",
        f"`{command(name, recipe)}`, seed {recipe.seed}, {int(float(seconds))} s on "
        f"{recipe.device.upper()}, {int(step):,} steps{before},",
        f"of {recipe.batch} crops of {recipe.crop} px; AdamW, rate {recipe.learning_rate} falling "
        f"along a cosine, weight decay {recipe.weight_decay};",
        f"moving average of the weights with decay {recipe.ema_decay}; bfloat16. Kinds drawn: "
        f"{shares}.",
        "",
        FURTHER_LOOKS,
        "",
        f"Weight map: `{WEIGHTS}`.",
        "",
        f"Augmentation: `{AUGMENTATION}`.",
        "",
        "## Loss",
        "",
        "| step | seconds | training loss |",
        "|---|---|---|",
        *(f"| {a} | {b} | {c} |" for a, b, c in curve[:: max(1, len(curve) // ROWS_OF_CURVE)]),
        "",
        f"## The {len(identifiers)} training images, by id",
        "",
        ", ".join(identifiers),
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Read the options, score, write the model and its card."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(SHARES))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--training", type=Path, default=Path(".scratch"))
    parser.add_argument("--output", type=Path, default=Path("src/napari_unet/models"))
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), help="kinds to score")
    parser.add_argument("--seed-threshold", type=float, default=0.4)
    parser.add_argument("--mask-threshold", type=float, default=0.4)
    parser.add_argument("--min-size", type=int, default=60)
    options = parser.parse_args()
    folder = options.training / options.name
    thresholds = InstanceSettings(
        seed_threshold=options.seed_threshold,
        mask_threshold=options.mask_threshold,
        min_size=options.min_size,
    )
    model = replace(model_from_checkpoint(folder, options.name), instances=thresholds)
    save_model(model, options.output / f"{options.name}.safetensors", half=True)
    held = [i for i in read_collection(options.data, tuple(options.kinds)) if i.held_out]
    scores = evaluate(model, held, ("true size", "estimated"))
    earlier_steps = int(model.training["steps"]) - int(model.training["steps_of_this_run"])
    _, header = load_tensors(folder / "checkpoint.safetensors", "base training")
    text = card(options.name, folder, scores, Recipe(**header["recipe"]), earlier_steps)
    (options.output / f"{options.name}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
