r"""Folders that Hugging Face's transformers wrote: it renames tensors as it saves them, and only it names them back.

From version 5 on the names in a file are those of older versions, not those of the model. Where the architecture is one
of its models, or holds one, and the file's names are not the model's, the library reads the folder itself. That runs
nothing that lies in the folder, and a tensor that the folder lacks is an error here, not a random number.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from torch import nn

from .._words import some
from .checkpoints import Source, fit_to, read_state
from .errors import AuditError


def saved_by_transformers(before: Source, after: Source, module: nn.Module) -> tuple[Source, Source]:
    """Both sources, a folder of transformers' as the state dictionary that its library makes of it.

    Raises:
        AuditError: the library cannot read a folder, or finds tensors missing.
    """
    library: Any = sys.modules.get("transformers")  # where it was not imported no module is of its classes
    kinds = () if library is None else library.PreTrainedModel
    known = next((part for part in module.named_modules() if isinstance(part[1], kinds)), None)
    if known is None:
        return before, after
    return _renamed(before, "before", module, *known), _renamed(after, "after", module, *known)


def _renamed(source: Source, name: str, module: nn.Module, place: str, part: Any) -> Source:
    if not isinstance(source, str | Path) or not (Path(source).expanduser() / "config.json").is_file():
        return source
    prefix = f"{place}." if place else ""
    stored = {f"{prefix}{key}": value for key, value in fit_to(read_state(source, name), part, name).items()}
    if set(stored) <= set(module.state_dict()):
        return stored
    try:
        model, info = type(part).from_pretrained(
            Path(source).expanduser(), local_files_only=True, output_loading_info=True, dtype="auto"
        )
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise AuditError(f"{name}: transformers cannot read {source} ({error})") from error
    missing = [*info["missing_keys"], *info["mismatched_keys"]]
    if missing:
        raise AuditError(
            f"{name}: {source} lacks {some(missing)} of a {type(part).__name__}, or has them of other shapes"
        )
    return {f"{prefix}{key}": value for key, value in model.state_dict().items()}
