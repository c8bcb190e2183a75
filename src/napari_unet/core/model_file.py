"""Model files: safetensors with one JSON entry in the header. No pickle is ever loaded."""

from __future__ import annotations

import importlib.resources
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from napari_unet.core.atomic import write_bytes
from napari_unet.core.errors import InputError, ModelFileError
from napari_unet.core.model import Model
from napari_unet.core.normalization import Normalization
from napari_unet.core.settings import InstanceSettings
from napari_unet.core.unet import UNet

#: Name of the entry in the safetensors header that holds our JSON.
HEADER_KEY = "napari_unet"
#: Raised whenever an older program could not read a new file any more.
FORMAT_VERSION = 1
SUFFIX = ".safetensors"

_MODEL_KIND = "model"
#: safetensors refuses longer headers too; a length beyond this means that it is another format.
_LONGEST_HEADER = 100_000_000
_HALF_MAXIMUM = 65504.0


def save_tensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Tensor],
    header: Mapping[str, Any],
    kind: str,
) -> None:
    """Write named tensors and a JSON header into one safetensors file, completely or not at all.

    Parameters
    ----------
    path
        File to write; an existing one is replaced.
    tensors
        Tensors of any shape, dtype and device.
    header
        JSON values (numpy scalars are converted, numbers that are not finite become null).
    kind
        What the file is, checked by :func:`load_tensors`.

    Raises
    ------
    OutputError
        If the file cannot be written; an existing file is left as it was.
    """
    entry = {**_plain(header), "kind": kind, "format_version": FORMAT_VERSION}
    # Cloned, because tensors that share memory are refused by safetensors.
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    metadata = {HEADER_KEY: json.dumps(entry, allow_nan=False)}
    write_bytes(path, safetensors.torch.save(copies, metadata=metadata))


def load_tensors(
    path: str | os.PathLike[str], kind: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file written by :func:`save_tensors`.

    Returns
    -------
    tensors, header
        Tensors on the CPU that own their memory (the file may be replaced or deleted), and the
        JSON header.

    Raises
    ------
    ModelFileError
        If the file is missing, truncated, not ours, of another kind or from a newer version.
    """
    header = read_header(path, kind)
    try:
        return safetensors.torch.load(Path(path).read_bytes()), header
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise _damaged(path) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def read_header(path: str | os.PathLike[str], kind: str = _MODEL_KIND) -> dict[str, Any]:
    """Read the JSON header without touching the tensors.

    Raises
    ------
    ModelFileError
        As :func:`load_tensors`.
    """
    name = Path(path).name
    entry = _metadata_entry(path)
    if entry is None:
        raise ModelFileError(
            f"{name!r} is a safetensors file of another program; choose a model that was saved by "
            "napari-unet."
        )
    try:
        header = json.loads(entry)
        version, found = int(header["format_version"]), header["kind"]
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise _damaged(path) from error
    if version > FORMAT_VERSION:
        raise ModelFileError(
            f"{name!r} was saved by a newer version of napari-unet; update the program to open it."
        )
    if found != kind:
        raise ModelFileError(f"{name!r} holds a {found}, not a {kind}; choose another file.")
    return dict(header)


def save_model(model: Model, path: str | os.PathLike[str], *, half: bool = False) -> None:
    """Save a model as one file.

    Parameters
    ----------
    model
        What to save. Its network may be on any device.
    path
        File to write, usually ending in ``.safetensors``; an existing one is replaced.
    half
        Store the convolution weights as 16-bit floats: half the size, at most 0.05 % relative
        change per weight. Batch-norm statistics and weights beyond the 16-bit range stay 32-bit.

    Raises
    ------
    OutputError
        If the file cannot be written; an existing file is left as it was.
    """
    tensors = dict(model.net.state_dict())
    if half:
        tensors = {name: _halved(tensor) for name, tensor in tensors.items()}
    save_tensors(path, tensors, model_header(model), _MODEL_KIND)


def load_model(name_or_path: str | os.PathLike[str]) -> Model:
    """Load a model that came with the package, by name, or a model file.

    Parameters
    ----------
    name_or_path
        A name of :func:`list_models`, such as ``"nuclei"``, or a path.

    Returns
    -------
    Model
        On the CPU, in evaluation mode, all weights 32-bit.

    Raises
    ------
    ModelFileError
        If there is no such model, or the file is truncated, foreign, newer or damaged.
    """
    path = find_model(name_or_path)
    tensors, header = load_tensors(path, _MODEL_KIND)
    return model_from_parts(tensors, header, Path(path).name)


def find_model(name_or_path: str | os.PathLike[str]) -> Path:
    """Return the file of a shipped model's name, or the path itself when it is no such name."""
    shipped = shipped_models()
    if isinstance(name_or_path, str) and name_or_path in shipped:
        return shipped[name_or_path]
    path = Path(name_or_path)
    if not path.exists() and path.name == str(name_or_path) and path.suffix != SUFFIX:
        known = ", ".join(shipped) or "none"
        raise ModelFileError(
            f"There is no model {str(name_or_path)!r}; give a file or one of the models that came "
            f"with the program ({known})."
        )
    return path


def list_models() -> list[str]:
    """Return the names of the models that came with the package, ``"nuclei"`` first."""
    return list(shipped_models())


def shipped_models() -> dict[str, Path]:
    """Return the files of the models that came with the package, ``"nuclei"`` first."""
    # The package is always unpacked into files: napari itself does not run from a zip.
    folder = Path(str(importlib.resources.files("napari_unet"))) / "models"
    found = {path.stem: path for path in folder.glob(f"*{SUFFIX}")}
    return dict(sorted(found.items(), key=lambda item: (item[0] != "nuclei", item[0])))


def model_header(model: Model) -> dict[str, Any]:
    """Return everything of a model but its weights, as plain JSON values."""
    header: dict[str, Any] = {
        "name": model.name,
        "task": model.task,
        "class_names": list(model.class_names),
        "channels": model.channels,
        "network": model.net.config(),
        "normalization": model.normalization.to_dict(),
        "diameter": model.diameter,
        "pixel_size": model.pixel_size,
        "pixel_unit": model.pixel_unit,
        "instances": model.instances.to_dict(),
        "training": model.training,
    }
    plain: dict[str, Any] = _plain(header)
    return plain


def model_from_parts(tensors: Mapping[str, Tensor], header: Mapping[str, Any], name: str) -> Model:
    """Build a model from the parts of a file; ``name`` is used in messages.

    Raises
    ------
    ModelFileError
        If the header misses something or tensors do not fit the network it describes.
    """
    try:
        with torch.device("meta"), _NoInitialisation():
            net = UNet(**header["network"])
        weights = {key: t.float() if t.is_floating_point() else t for key, t in tensors.items()}
        # numpy, because torch would start its threads for this.
        if not all(np.isfinite(tensor.numpy()).all() for tensor in weights.values()):
            raise ModelFileError(
                f"{name!r} holds weights that are not finite, so its training failed; choose "
                "another model."
            )
        net.load_state_dict(weights, assign=True)
        return Model(
            net=net.eval(),
            name=str(header["name"]),
            task=header["task"],
            class_names=tuple(header["class_names"]),
            channels=header["channels"],
            normalization=Normalization(**header["normalization"]),
            diameter=header["diameter"],
            pixel_size=header["pixel_size"],
            pixel_unit=str(header["pixel_unit"]),
            instances=InstanceSettings.from_dict(header["instances"]),
            training=dict(header["training"]),
        )
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, InputError) as error:
        raise ModelFileError(
            f"{name!r} does not describe a complete model (its network and its weights do not "
            "fit together); save or download it again."
        ) from error


def model_info(name_or_path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what is in a model file, without loading the weights.

    Returns
    -------
    dict
        The entries of :func:`model_header` and ``file`` (path), ``bytes`` (size of the file).

    Raises
    ------
    ModelFileError
        As :func:`load_model`.
    """
    path = find_model(name_or_path)
    header = read_header(path)
    return {**header, "file": str(path), "bytes": path.stat().st_size}


class _NoInitialisation(TorchFunctionMode):
    """Leave new layers as they are: their weights are replaced at once.

    Drawing them would take longer than reading the file and would disturb the caller's random
    numbers.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if "tensor" in kwargs else args[0]
        return func(*args, **kwargs)


def _halved(tensor: Tensor) -> Tensor:
    fits = tensor.ndim >= 2 and bool((tensor.abs() < _HALF_MAXIMUM).all())
    return tensor.half() if fits else tensor


def _plain(value: Any) -> Any:
    """Turn mappings, sequences and numpy scalars into JSON values; not finite becomes null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _metadata_entry(path: str | os.PathLike[str]) -> str | None:
    """Return our entry of the safetensors metadata, None when there is none."""
    name = Path(path).name
    try:
        with Path(path).open("rb") as file:
            start = file.read(8)
            if start[:2] in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
                raise ModelFileError(
                    f"{name!r} is a pickle or PyTorch file, which could run foreign code and is "
                    "never opened; choose a model that was saved by napari-unet."
                )
            length = int.from_bytes(start, "little")
            text = file.read(length) if 2 <= length <= _LONGEST_HEADER else b""
    except OSError as error:
        raise _unreadable(path, error) from error
    if not text.startswith(b"{"):
        raise ModelFileError(
            f"{name!r} is not a model file; choose a {SUFFIX} file that was saved by napari-unet."
        )
    try:
        # A truncated header is no longer JSON.
        header = json.loads(text)
        metadata = header.get("__metadata__") or {}
        entry = metadata.get(HEADER_KEY)
    except (ValueError, AttributeError, RecursionError) as error:
        raise _damaged(path) from error
    return entry if isinstance(entry, str) else None


def _damaged(path: str | os.PathLike[str]) -> ModelFileError:
    return ModelFileError(
        f"{Path(path).name!r} is truncated or damaged; copy, save or download it again."
    )


def _unreadable(path: str | os.PathLike[str], error: OSError) -> ModelFileError:
    if isinstance(error, FileNotFoundError):
        return ModelFileError(f"There is no model file {str(path)!r}; check the path.")
    if isinstance(error, IsADirectoryError) or Path(path).is_dir():
        return ModelFileError(f"{str(path)!r} is a folder; choose a model file inside it.")
    return ModelFileError(
        f"{str(path)!r} cannot be read ({error.strerror or error}); check the file and its "
        "permissions."
    )
