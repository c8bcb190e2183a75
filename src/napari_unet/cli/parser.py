"""The options of every command. Nothing here imports numpy or PyTorch: ``--help`` is instant."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn, TypeAlias

from napari_unet.cli.console import BAD_INPUT, fail
from napari_unet.cli.options import OptionGroups
from napari_unet.core.settings import (
    AnnotationSettings,
    AugmentationSettings,
    InstanceSettings,
    NetworkSettings,
    TileSettings,
    TrainSettings,
    WeightMapSettings,
)

#: Word that leaves a choice to the program.
AUTO = "auto"

_EXAMPLES = """\
examples:
  napari-unet                         open napari with the panels
  napari-unet train cells.tif painted.tif --model my.safetensors
  napari-unet segment images/ --model my.safetensors --output masks/
  napari-unet evaluate masks/ truth/

napari-unet COMMAND --help tells more about a command.
"""

_TRAIN = """\
Train a U-Net on painted cells. Give each image together with its painted labels, an image of the
same size: 0 = not painted, 1, 2, 3 ... = one number per cell, -1 = painted background (optional).
A few cells are enough. Ctrl+C ends it early and saves the best model so far.
"""

_TRAIN_EXAMPLES = """\
examples:
  napari-unet train cells.tif painted.tif --model my.safetensors
  napari-unet train a.tif a_cells.tif b.tif b_cells.tif --model my.safetensors
  napari-unet train slide.png painted.tif --model my.safetensors --seconds 120
  napari-unet train cells.tif painted.tif --model my.safetensors --base none
"""

_SEGMENT = """\
Find the objects in images. Writes <name>_masks.tif (opens in ImageJ, one number per object) and
<name>_measurements.csv for each image; results of an earlier run are replaced. Stacks and time
series are segmented plane by plane. The network's tiles are joined without seams, whatever their
size. An image that cannot be used is named and left out.
"""

_SEGMENT_EXAMPLES = """\
examples:
  napari-unet segment cells.tif --model nuclei --output masks/
  napari-unet segment images/ --model my.safetensors --output masks/
  napari-unet segment "*.tif" --model cells --output rois/ --format imagej-roi
"""

#: Formats of masks; ``csv`` is always written. The list is here so that --help needs no NumPy.
MASK_FORMATS = ("tiff", "ome-zarr", "annotation", "imagej-roi", "geojson", "coco")
#: Models that come with the program.
SHIPPED_MODELS = ("nuclei", "cells")

_EVALUATE = """\
Compare segmentations with the truth: two label images, or two folders in which the file names
match (with or without _masks at the end). Prints the average precision TP / (TP + FP + FN) and
F1 at several overlaps (intersection over union), and pixel-wise errors.
"""

_WEIGHT_MAP = """\
Compute what the network would be trained on: the weight of every pixel (float32 TIFF). Pixels that
are ignored have weight 0; gaps between neighbouring objects have high weights.
"""

_AREA = (
    "What a pixel means that is not painted: nothing, it is ignored (painted), background near "
    "objects and ignored elsewhere (around), or background everywhere (all) (default: around)."
)

_DEMO = """\
The whole job on simulated nuclei, in under three minutes on two processor cores: paint a few
cells, train, segment another image, compare with the exact truth, and write masks, measurements,
the model and a picture that shows it all. Needs no display and no network.
"""


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence instead of a page of usage."""

    def error(self, message: str) -> NoReturn:
        """Write one sentence to standard error and exit with status 2."""
        sentence = f"{message[:1].upper()}{message[1:].rstrip('.')}"
        fail(f"{sentence} (see: {self.prog} --help).")
        raise SystemExit(BAD_INPUT)


class _Formatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32)

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        """Fit paragraphs to the terminal; examples stay lines of their own."""
        if "\n  " in text:
            return super()._fill_text(text, width, indent)
        return argparse.HelpFormatter._fill_text(self, text, width, indent)

    def add_argument(self, action: argparse.Action) -> None:
        """Leave room for the names of the commands, which are indented."""
        super().add_argument(action)
        names = [choice.dest for choice in self._iter_indented_subactions(action)]
        if names and action.help is not argparse.SUPPRESS:
            longest = max(map(len, names)) + 2 * self._indent_increment
            self._action_max_length = max(self._action_max_length, longest)


def build_parser(arguments: Sequence[str]) -> Parser:
    """Return the parser; ``arguments`` decide whether expert settings are listed."""
    show = "--help-all" in arguments
    parser = Parser(
        prog="napari-unet",
        description="Fine-tune a U-Net on a few painted cells and get seam-free masks.\n"
        "Without a command it opens napari with the panels.",
        epilog=_EXAMPLES,
        formatter_class=_Formatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    _add_train(commands, show)
    _add_segment(commands, show)
    _add_evaluate(commands)
    _add_weight_map(commands, show)
    _add_info(commands)
    _add_demo(commands)
    return parser


_Commands: TypeAlias = "argparse._SubParsersAction[Parser]"


def _command(
    commands: _Commands,
    name: str,
    summary: str,
    description: str,
    arguments: str,
    examples: str | None = None,
) -> Parser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        epilog=examples,
        usage=" ".join(filter(None, ("napari-unet", name, arguments, "[options]"))),
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-v", "--verbose", action="store_true", help="say more about what is being done"
    )
    return parser


def _settings(parser: Parser, show_experts: bool) -> OptionGroups:
    parser.add_argument(
        "--help-all", action="help", help="show this help with the expert settings and exit"
    )
    return OptionGroups(parser, show_experts=show_experts)


def _add_channel(parser: Parser) -> None:
    parser.add_argument(
        "--channel",
        type=_count,
        metavar="N",
        help="use only this channel of a multi-channel image; the first is 1 (default: all)",
    )


def _either(names: Sequence[str]) -> str:
    return " or ".join(names)


def _add_train(commands: _Commands, show_experts: bool) -> None:
    arguments = "IMAGE LABELS [IMAGE LABELS ...] --model OUT"
    parser = _command(
        commands, "train", "train on painted cells", _TRAIN, arguments, _TRAIN_EXAMPLES
    )
    parser.add_argument(
        "files", nargs="+", metavar="IMAGE LABELS", help="images and their painted labels, in turn"
    )
    parser.add_argument(
        "--model", required=True, metavar="OUT", help="model file to write, ending in .safetensors"
    )
    parser.add_argument(
        "--base",
        default=AUTO,
        metavar="NAME|PATH|none",
        help=f"model to start from: {_either(SHIPPED_MODELS)} (they come with the program), a "
        "file of yours, or none = from scratch (default: the one that fits the painted cells best)",
    )
    parser.add_argument(
        "--recipe",
        metavar="FILE",
        help="settings as in a JSON file: any of those that info --json prints for a trained "
        "model; or the model file itself; options given here win",
    )
    _add_channel(parser)
    options = _settings(parser, show_experts)
    options.add(
        AnnotationSettings, experts=("margin",), drop_choices=("boxes",), texts={"area": _AREA}
    )
    options.add(TrainSettings, everyday=("steps",))
    options.add(WeightMapSettings, experts=("class_balance", "ridge", "w0", "sigma"))
    options.add(NetworkSettings, experts=("base_channels", "depth"))
    options.add(AugmentationSettings, prefix="augment-")


def _add_segment(commands: _Commands, show_experts: bool) -> None:
    arguments = "INPUT [INPUT ...] --model NAME --output DIR"
    parser = _command(
        commands, "segment", "find objects in images", _SEGMENT, arguments, _SEGMENT_EXAMPLES
    )
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="images, folders of images, or patterns (*.tif)"
    )
    parser.add_argument(
        "--model",
        required=True,
        metavar="NAME|PATH",
        help=f"model to use: {_either(SHIPPED_MODELS)} (they come with the program), or a file "
        "of yours",
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder for the results")
    parser.add_argument(
        "--format",
        nargs="+",
        action="extend",
        type=_mask_format,
        metavar="NAME",
        help=f"formats of the masks, one or more of {', '.join(MASK_FORMATS)} (default: tiff); "
        "csv measurements are always written",
    )
    parser.add_argument(
        "--diameter",
        type=_diameter,
        default=AUTO,
        metavar="PX",
        help="typical object diameter in the images; auto = estimated for each image, "
        "none = no resizing (default: auto)",
    )
    parser.add_argument(
        "--link",
        action="store_true",
        help="in stacks and time series, keep an object's number from plane to plane",
    )
    _add_channel(parser)
    options = _settings(parser, show_experts)
    options.add(TileSettings)
    options.add(InstanceSettings, default="the model's own")


def _add_evaluate(commands: _Commands) -> None:
    parser = _command(
        commands, "evaluate", "compare masks with the truth", _EVALUATE, "PREDICTIONS TRUTH"
    )
    parser.add_argument("predictions", metavar="PREDICTIONS", help="label image or folder")
    parser.add_argument("truth", metavar="TRUTH", help="label image or folder")
    parser.add_argument("--json", action="store_true", help="print the scores as JSON")


def _add_weight_map(commands: _Commands, show_experts: bool) -> None:
    parser = _command(
        commands,
        "weight-map",
        "see what will be trained on",
        _WEIGHT_MAP,
        "LABELS --output FILE",
    )
    parser.add_argument("labels", metavar="LABELS", help="painted labels")
    parser.add_argument(
        "--output", required=True, metavar="FILE", help="TIFF file to write, ending in .tif"
    )
    options = _settings(parser, show_experts)
    options.add(WeightMapSettings)
    options.add(AnnotationSettings, drop_choices=("boxes",), texts={"area": _AREA})


def _add_info(commands: _Commands) -> None:
    parser = _command(
        commands, "info", "show what is in a model file", "Describe a model.", "MODEL"
    )
    parser.add_argument("model", metavar="MODEL", help=f"model file, or {_either(SHIPPED_MODELS)}")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def _add_demo(commands: _Commands) -> None:
    parser = _command(commands, "demo", "the whole job on simulated nuclei", _DEMO, "")
    parser.add_argument(
        "--output", default="demo-output", metavar="DIR", help="folder (default: demo-output)"
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=60.0, metavar="S", help="training time (default: 60)"
    )


class _Version(argparse.Action):
    """Look the version up only when it is asked for."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> NoReturn:
        from importlib.metadata import version

        sys.stdout.write(f"{parser.prog} {version('napari-unet-finetune')}\n")
        parser.exit()


def _diameter(text: str) -> float | str | None:
    word = text.lower()
    if word in (AUTO, "none"):
        return AUTO if word == AUTO else None
    try:
        return _positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, auto or none") from None


def _mask_format(text: str) -> str:
    """Refuse at once what is no format: an image behind ``--format tiff`` is taken for one."""
    known = (*MASK_FORMATS, "csv")
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(known)}")
    return text.lower()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _seconds(text: str) -> float:
    return _positive(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value
