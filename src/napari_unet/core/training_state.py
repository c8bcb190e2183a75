"""What a stopped training needs to go on exactly where it was."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from napari_unet.core.errors import SettingsError
from napari_unet.core.model_file import load_tensors, save_tensors
from napari_unet.core.settings import TrainSettings

_KIND = "training state"


@dataclass(frozen=True)
class TrainingState:
    """Weights, averages, optimiser and random state after ``step`` steps.

    Attributes
    ----------
    net, average, best
        State dictionaries: the current weights, their moving average, and the average that was
        judged best so far.
    optimizer
        ``parameter name / quantity`` to tensor.
    generator
        State of the random number generator before the batches at hand were drawn.
    step, seconds, validations
        How far the run is.
    best_quality
        Quality of ``best`` on the validation cells; None before the first validation.
    frozen_norm
        Whether batch-norm statistics are fixed already.
    settings
        Settings of the run.
    used_batches
        How many of the batches drawn together from ``generator`` are used.
    """

    net: dict[str, Tensor] = field(repr=False)
    average: dict[str, Tensor] = field(repr=False)
    best: dict[str, Tensor] = field(repr=False)
    optimizer: dict[str, Tensor] = field(repr=False)
    generator: Tensor = field(repr=False)
    step: int
    seconds: float
    validations: int
    best_quality: float | None
    frozen_norm: bool
    settings: TrainSettings
    used_batches: int = 0

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to one safetensors file.

        Raises
        ------
        OutputError
            If the file cannot be written.
        """
        tensors = {"generator": self.generator}
        for part in ("net", "average", "best", "optimizer"):
            tensors |= {f"{part}|{name}": value for name, value in getattr(self, part).items()}
        header: dict[str, Any] = {
            "step": self.step,
            "seconds": self.seconds,
            "validations": self.validations,
            "best_quality": self.best_quality,
            "frozen_norm": self.frozen_norm,
            "used_batches": self.used_batches,
            "settings": self.settings.to_json(),
        }
        save_tensors(path, tensors, header, _KIND)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a state written by :meth:`save`.

        Raises
        ------
        ModelFileError
            If the file is missing, truncated or something else.
        """
        tensors, header = load_tensors(path, _KIND)
        parts: dict[str, dict[str, Tensor]] = {
            "net": {},
            "average": {},
            "best": {},
            "optimizer": {},
        }
        for key, value in tensors.items():
            part, _, name = key.partition("|")
            if name:
                parts[part][name] = value
        return cls(
            **parts,
            generator=tensors["generator"],
            step=int(header["step"]),
            seconds=float(header["seconds"]),
            validations=int(header["validations"]),
            best_quality=header["best_quality"],
            frozen_norm=bool(header["frozen_norm"]),
            settings=TrainSettings.from_dict(json.loads(header["settings"])),
            used_batches=int(header.get("used_batches", 0)),
        )

    def check_resumable(self, settings: TrainSettings, net: torch.nn.Module) -> None:
        """Raise :class:`SettingsError` when the state belongs to another network."""
        expected = {name: value.shape for name, value in net.state_dict().items()}
        if expected != {name: value.shape for name, value in self.net.items()}:
            raise SettingsError(
                "The saved training belongs to another network; start a new training instead."
            )
        if self.settings.optimizer != settings.optimizer:
            raise SettingsError(
                f"The saved training used the optimiser {self.settings.optimizer}; use the same "
                "one to resume."
            )
        if self.settings.seed != settings.seed:
            raise SettingsError(
                f"The saved training used seed {self.settings.seed}; use the same seed to resume."
            )
