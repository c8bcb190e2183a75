"""Every setting of the program: frozen dataclasses that carry defaults, bounds, units and help.

A panel builds one from its fields, the command line from its options, a recipe file is one as
JSON; all three read the same field descriptions through :func:`describe`.
"""

from __future__ import annotations

import dataclasses
import json
import math
import numbers
import types
import typing
from dataclasses import dataclass
from typing import Any, Literal, Self

from napari_unet.core.errors import SettingsError

Task = Literal["objects", "classes"]
Area = Literal["painted", "around", "boxes", "all"]
Padding = Literal["valid", "same"]
Norm = Literal["batch"]

_KEY = "napari_unet"
_KINDS = {float: "a number", int: "a whole number", bool: "true or false", str: "a text"}


@dataclass(frozen=True)
class FieldInfo:
    """What a form or a command line needs to know about one setting."""

    name: str
    type: Any
    default: Any
    help: str
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None
    unit: str = ""
    choices: tuple[Any, ...] | None = None
    expert: bool = False
    optional: bool = False

    def check(self, value: Any) -> None:
        """Raise :class:`SettingsError` when ``value`` is not allowed for this field."""
        label = self.name.replace("_", " ")
        if value is None:
            if not self.optional:
                raise SettingsError(f"{label} needs a value.")
            return
        if self.choices is not None and value not in self.choices:
            allowed = ", ".join(str(c) for c in self.choices) + " or null" * self.optional
            raise SettingsError(f"{label} must be one of {allowed}, not {value!r}.")
        if not self._has_type(value):
            kind = _KINDS[self.type]
            raise SettingsError(f"{label} must be {kind}, not {value!r}.")
        if self.type in (int, float):
            if not _is_finite(value):
                raise SettingsError(
                    f"{label} must be a finite number, not infinite or beyond 1e308."
                )
            low, high = self.minimum, self.maximum
            if (low is not None and value < low) or (high is not None and value > high):
                bounds = f"between {low} and {high}" if high is not None else f"at least {low}"
                if low is None:
                    bounds = f"at most {high}"
                raise SettingsError(f"{label} must be {bounds}, not {value}.")

    def _has_type(self, value: Any) -> bool:
        if self.type is float:
            return isinstance(value, numbers.Real) and not isinstance(value, bool)
        if self.type is int:
            return isinstance(value, numbers.Integral) and not isinstance(value, bool)
        return isinstance(value, self.type)


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def setting(
    default: Any,
    help: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    step: float | None = None,
    unit: str = "",
    expert: bool = False,
) -> Any:
    """Declare one dataclass field with its description."""
    info = {
        "help": help,
        "minimum": minimum,
        "maximum": maximum,
        "step": step,
        "unit": unit,
        "expert": expert,
    }
    return dataclasses.field(default=default, metadata={_KEY: info})


def _unwrap(annotation: Any) -> tuple[Any, tuple[Any, ...] | None, bool]:
    """Split an annotation into (plain type, choices, optional)."""
    optional = False
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        arguments = [a for a in typing.get_args(annotation) if a is not types.NoneType]
        optional = len(arguments) < len(typing.get_args(annotation))
        annotation = arguments[0]
        origin = typing.get_origin(annotation)
    if origin is Literal:
        choices = typing.get_args(annotation)
        return type(choices[0]), choices, optional
    return annotation, None, optional


def describe(settings: type[Settings] | Settings) -> tuple[FieldInfo, ...]:
    """Describe the plain fields of a settings class (nested settings are left out)."""
    cls = settings if isinstance(settings, type) else type(settings)
    hints = typing.get_type_hints(cls)
    found = []
    for item in dataclasses.fields(cls):
        if _KEY not in item.metadata:
            continue
        plain, choices, optional = _unwrap(hints[item.name])
        found.append(
            FieldInfo(
                name=item.name,
                type=plain,
                default=item.default,
                choices=choices,
                optional=optional,
                **item.metadata[_KEY],
            )
        )
    return tuple(found)


@dataclass(frozen=True)
class Settings:
    """Base of all settings: checked on construction, to and from JSON."""

    def __post_init__(self) -> None:
        for info in describe(self):
            value = getattr(self, info.name)
            info.check(value)
            if value is not None and not isinstance(value, (int, float, str)):
                # JSON knows Python's own numbers only.
                object.__setattr__(self, info.name, info.type(value))

    def to_dict(self) -> dict[str, Any]:
        """Return plain nested dictionaries, ready for JSON."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """Return the settings as a recipe (indented JSON)."""
        return json.dumps(self.to_dict(), indent=2)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build settings from plain dictionaries.

        Raises
        ------
        SettingsError
            If a name is unknown or a value is out of bounds.
        """
        if not isinstance(values, dict):
            raise SettingsError(f"{cls.__name__} must be names with values, not {values!r}.")
        hints = typing.get_type_hints(cls)
        known = {f.name for f in dataclasses.fields(cls)}
        arguments: dict[str, Any] = {}
        for name, value in values.items():
            if name not in known:
                raise SettingsError(f"{name!r} is not a setting of {cls.__name__}.")
            hint = hints[name]
            if isinstance(hint, type) and issubclass(hint, Settings):
                value = hint.from_dict(value)
            elif isinstance(value, list):
                value = tuple(value)
            arguments[name] = value
        return cls(**arguments)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Build settings from a recipe written by :meth:`to_json`."""
        return cls.from_dict(recipe_values(text))


def recipe_values(text: str) -> Any:
    """Return the plain values of a recipe.

    Raises
    ------
    SettingsError
        If it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"The recipe is not valid JSON ({error}).") from error


@dataclass(frozen=True)
class WeightMapSettings(Settings):
    """Ronneberger et al. 2015, eq. 2. Lengths are in pixels at the scale the network sees."""

    w0: float = setting(
        10.0, "Extra weight of the gap between two neighbouring objects.", minimum=0, maximum=1000
    )
    sigma: float = setting(5.0, "Reach of that extra weight.", minimum=0.1, maximum=100, unit="px")
    class_balance: bool = setting(True, "Give rare and frequent classes the same total weight.")
    ridge: int = setting(
        2,
        "Width of the background line that separates touching objects.",
        minimum=0,
        maximum=9,
        unit="px",
    )


@dataclass(frozen=True)
class AnnotationSettings(Settings):
    """What the painted labels mean."""

    task: Task = setting("objects", "Separate objects, or paint classes of material.")
    area: Area = setting(
        "around",
        "What an unlabelled pixel means: ignored (painted), background near objects (around), "
        "background inside boxes (boxes), or background everywhere (all).",
    )
    margin: float = setting(
        10.0,
        "With area 'around': unlabelled pixels this close to an object count as background.",
        minimum=0,
        maximum=1000,
        unit="px",
    )


@dataclass(frozen=True)
class NetworkSettings(Settings):
    """The U-Net that is built when training starts from scratch."""

    base_channels: int = setting(
        16, "Feature channels of the first level; they double per level.", minimum=1, maximum=256
    )
    depth: int = setting(3, "Number of down-sampling steps.", minimum=1, maximum=6)
    padding: Padding = setting(
        "same", "'valid' as published (output smaller than input) or 'same'.", expert=True
    )
    norm: Norm | None = setting("batch", "Normalisation after each convolution.", expert=True)
    dropout: float = setting(
        0.0, "Dropout at the end of the contracting path.", minimum=0, maximum=0.9, expert=True
    )


@dataclass(frozen=True)
class AugmentationSettings(Settings):
    """Random changes of the training crops."""

    rotation: bool = setting(True, "Rotate by any angle.", expert=True)
    flips: bool = setting(True, "Mirror left-right and up-down.", expert=True)
    scale: float = setting(
        0.2, "Zoom in or out by up to this fraction.", minimum=0, maximum=0.9, expert=True
    )
    elastic: float = setting(
        10.0,
        "Standard deviation of the random displacements on a 3 x 3 grid (0: no deformation).",
        minimum=0,
        maximum=100,
        unit="px",
        expert=True,
    )
    gamma: float = setting(0.3, "Change of the intensity curve.", minimum=0, maximum=1, expert=True)
    contrast: float = setting(
        0.2, "Change of brightness and contrast.", minimum=0, maximum=1, expert=True
    )
    noise: float = setting(
        0.05, "Largest standard deviation of added noise.", minimum=0, maximum=1, expert=True
    )
    blur: float = setting(
        0.0,
        "Largest standard deviation of added blur.",
        minimum=0,
        maximum=5,
        unit="px",
        expert=True,
    )
    inversion: float = setting(
        0.0, "Probability of exchanging bright and dark.", minimum=0, maximum=1, expert=True
    )
    desaturation: float = setting(
        0.0,
        "Probability of turning a colour crop into gray, by a random mixture of its channels.",
        minimum=0,
        maximum=1,
        expert=True,
    )


@dataclass(frozen=True)
class TrainSettings(Settings):
    """How a network is trained."""

    seconds: float | None = setting(
        60.0, "Time budget; with steps given, whichever ends first.", minimum=0.1, unit="s"
    )
    steps: int | None = setting(None, "Number of optimiser steps.", minimum=1, expert=True)
    batch: int = setting(4, "Crops per step.", minimum=1, maximum=256, expert=True)
    crop: int = setting(
        128, "Side of a training crop.", minimum=16, maximum=2048, unit="px", expert=True
    )
    optimizer: Literal["adamw", "sgd"] = setting(
        "adamw", "AdamW, or the paper's SGD with momentum 0.99.", expert=True
    )
    learning_rate: float = setting(
        1e-3, "Largest learning rate.", minimum=1e-7, maximum=1.0, expert=True
    )
    weight_decay: float = setting(1e-4, "Weight decay.", minimum=0, maximum=1, expert=True)
    validation: float = setting(
        0.2,
        "Fraction of the painted objects held back to judge the network.",
        minimum=0,
        maximum=0.5,
        expert=True,
    )
    anchor: float = setting(
        1.0,
        "How strongly fine-tuning keeps the base model's answer where nothing was painted.",
        minimum=0,
        maximum=100,
        expert=True,
    )
    diameter: float | None = setting(
        None,
        "Typical object diameter in the image (default: measured on the painted objects).",
        minimum=1,
        maximum=5000,
        unit="px",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", "Where to compute.")
    seed: int = setting(0, "Seed of all random numbers.", minimum=0, maximum=2**31 - 1)
    annotation: AnnotationSettings = AnnotationSettings()
    weights: WeightMapSettings = WeightMapSettings()
    network: NetworkSettings = NetworkSettings()
    augmentation: AugmentationSettings = AugmentationSettings()


@dataclass(frozen=True)
class TileSettings(Settings):
    """How a prediction is computed. Tiles never change its result."""

    tile: int | None = setting(
        None, "Side of a tile (default: from free memory).", minimum=8, maximum=16384, unit="px"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", "Where to compute.")
    precision: Literal["float32", "half"] = setting(
        "float32", "'half' is faster on CUDA, within 1 % of the probabilities.", expert=True
    )
    views: Literal[1, 4, 8] = setting(
        1,
        "Mean over 4 mirrored, or 8 mirrored and turned views: a little better, as many times "
        "slower.",
    )


@dataclass(frozen=True)
class InstanceSettings(Settings):
    """How probabilities become objects."""

    seed_threshold: float = setting(
        0.5, "A pixel above this starts an object.", minimum=0.0, maximum=1.0, step=0.01
    )
    mask_threshold: float = setting(
        0.5, "Objects grow back to pixels above this.", minimum=0.0, maximum=1.0, step=0.01
    )
    min_size: int = setting(
        10, "Smaller objects are dropped.", minimum=0, maximum=10_000_000, unit="px"
    )
    fill_holes: bool = setting(True, "Fill holes inside objects.")
