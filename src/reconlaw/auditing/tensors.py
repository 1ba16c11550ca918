r"""The tensors of a file, as it is found: torch.save, ``.safetensors``, and either in shards, by their index or folder.

Nothing is ever run. A pickle can name any function; here all but the few that rebuild tensors are replaced by an inert
stand-in, so that the hyper-parameters, optimisers and classes which training scripts store beside the weights neither
run nor keep the weights from being read.
"""

from __future__ import annotations

import json
import pickle
import warnings
from collections import OrderedDict
from pathlib import Path

import torch

from .errors import AuditError

# All that rebuilding tensors needs. Everything else a pickle names becomes an Unread.
_ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}
_QUANTISED = ("_rebuild_qtensor", "_rebuild_wrapper_subclass")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json", "adapter_model.safetensors.index.json")
_SINGLE = ("model.safetensors", "pytorch_model.bin", "adapter_model.safetensors", "adapter_model.bin")


class Unread:
    """What stands for an object of a file that is no tensor and is not built."""

    quantised = False

    def __new__(cls, *arguments, **options):
        return super().__new__(cls)

    def __init__(self, *arguments, **options):
        pass

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def append(self, item):
        pass

    def extend(self, items):
        pass

    def add(self, item):
        pass


class _Quantised(Unread):
    quantised = True


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        if module == "torch" and (name.endswith("Storage") or isinstance(getattr(torch, name, None), torch.dtype)):
            return getattr(torch, name)
        if module == "torch.storage" and name.endswith("Storage"):
            return getattr(torch.storage, name)
        return _Quantised if name in _QUANTISED or "quantized" in module else Unread


class _Restricted:
    """The part of the module ``pickle`` that torch.load asks of ``pickle_module``."""

    Unpickler = _Unpickler
    __name__ = "pickle"

    @staticmethod
    def load(file, **options):
        return _Unpickler(file, **options).load()


def _from_torch(path: Path, name: str):
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of scripted archives and of pickles by other programs
            try:
                return torch.load(path, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError:
                return torch.load(path, map_location="cpu", weights_only=False, pickle_module=_Restricted)
    except Exception as error:
        if "TorchScript" in str(error) or "torch.jit" in str(error):
            raise AuditError(
                f"{name}: {path} is a scripted model, which is code. Load it yourself, torch.jit.load(path), and pass "
                "its state_dict()"
            ) from error
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise AuditError(
            f"{name}: {path} cannot be read as tensors ({type(error).__name__}: {reason}). It is damaged, or no file "
            "of torch.save; save model.state_dict() by torch.save, or as .safetensors"
        ) from error


def _from_safetensors(path: Path, name: str):
    try:
        from safetensors.torch import load_file
    except ImportError as error:
        raise AuditError(f"{name}: {path} needs the package safetensors: pip install safetensors") from error
    try:
        return load_file(path)
    except Exception as error:
        raise AuditError(f"{name}: {path} is no readable safetensors file ({error})") from error


def _from_index(path: Path, name: str):
    try:
        shards = sorted(set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise AuditError(f"{name}: {path} is no index of shards ({type(error).__name__})") from error
    merged: dict = {}
    for shard in shards:
        if Path(shard).name != shard:
            raise AuditError(f"{name}: {path} names the shard {shard!r}, which lies outside its folder")
        merged |= load_tensors(path.parent / shard, name)
    return merged


def _from_folder(path: Path, name: str):
    for index in _INDEXES:
        if (path / index).is_file():
            return _from_index(path / index, name)
    found = [one for one in _SINGLE if (path / one).is_file()]
    found = found or sorted(
        one.name for one in path.iterdir() if one.suffix in (".safetensors", ".pt", ".pth", ".ckpt")
    )
    if len(found) != 1:
        raise AuditError(
            f"{name}: the folder {path} holds {', '.join(found) or 'no checkpoint'}; pass the path of one file, or of "
            "the index of its shards (model.safetensors.index.json)"
        )
    return load_tensors(path / found[0], name)


def load_tensors(path: Path, name: str):
    """What a file, an index of shards or a folder of a saved model holds; objects that are no tensors are ``Unread``.

    Raises:
        AuditError: there is no such file, it is damaged, or a folder leaves open which file is meant.
    """
    if path.is_dir():
        return _from_folder(path, name)
    if not path.is_file():
        raise AuditError(f"{name}: there is no file {path}")
    if path.name.endswith(".index.json"):
        return _from_index(path, name)
    return (_from_safetensors if path.suffix == ".safetensors" else _from_torch)(path, name)
