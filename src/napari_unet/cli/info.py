"""`napari-unet info`: what is in a model file."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from typing import Any

from napari_unet.cli.console import OK, say


def run(options: argparse.Namespace) -> int:
    """Print a model's description. The weights are loaded too, so a damaged file is noticed."""
    from napari_unet.core.model_file import load_model, model_info

    model = load_model(options.model)
    info = model_info(options.model)
    info["parameters"] = sum(weights.numel() for weights in model.net.parameters())
    if options.json:
        say(json.dumps(info, indent=2))
        return OK
    for label, text in _lines(info):
        say(f"{label:<16}{text}")
    return OK


def _lines(info: dict[str, Any]) -> Iterator[tuple[str, str]]:
    network, instances = info["network"], info["instances"]
    yield "Name", info["name"]
    yield "File", f"{info['file']} ({info['bytes'] / 1e6:.1f} MB)"
    yield "Finds", _task(info)
    yield "Images", _channels(info)
    yield "Object size", _diameter(info)
    yield "Pixel size", _pixel_size(info)
    yield (
        "Network",
        f"U-Net, {network['base_channels']} channels, depth {network['depth']}, "
        f"{network['padding']} convolutions, {network['norm'] or 'no'} normalisation, "
        f"{info['parameters'] / 1e6:.2f} million weights",
    )
    yield (
        "Thresholds",
        f"seed {instances['seed_threshold']:g}, mask {instances['mask_threshold']:g}, "
        f"smallest object {instances['min_size']} px",
    )
    known = [(name, value) for name, value in info["training"].items() if name != "settings"]
    for number, (name, value) in enumerate(known):
        yield ("" if number else "Training", f"{name.replace('_', ' ')}: {_entry(value)}")


def _task(info: dict[str, Any]) -> str:
    if info["task"] == "objects":
        return "separate objects"
    return "classes: " + ", ".join(info["class_names"])


def _channels(info: dict[str, Any]) -> str:
    if info["channels"] == "gray_or_rgb":
        return "gray or RGB"
    return f"{info['network']['in_channels']} channel(s)"


def _diameter(info: dict[str, Any]) -> str:
    if info["diameter"] is None:
        return "not matched (images are used as they are)"
    return f"{info['diameter']:.1f} px across"


def _pixel_size(info: dict[str, Any]) -> str:
    if info["pixel_size"] is None:
        return "unknown"
    return f"{info['pixel_size']:g} {info['pixel_unit']}".strip()


def _entry(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_entry(entry)}" for name, entry in value.items())
    if isinstance(value, list):
        return ", ".join(map(_entry, value))
    return f"{value:.3g}" if isinstance(value, float) else str(value)
