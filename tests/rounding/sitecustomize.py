"""Python imports this as it starts, if the folder is on its path; begins :mod:`other_rounding` once torch is there."""

import os
import sys
from importlib.util import find_spec


class _Torch:
    """Finds torch where it is, and begins as its import ends."""

    def find_spec(self, name, path=None, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is not None:
            load = spec.loader.exec_module

            def exec_module(module):
                load(module)
                from other_rounding import begin

                begin()

            spec.loader.exec_module = exec_module
        return spec


if os.environ.get("RECONLAW_ROUNDING"):
    sys.meta_path.insert(0, _Torch())
