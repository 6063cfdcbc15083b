"""Finding a suite's class again in another process, so that what is tested there is made as it is made here.

The class is looked for by its module's name, and where that leads elsewhere or nowhere (test modules are often no part of a package that can
be imported), its file is read.  Its module must therefore be one that can be read twice: no work at import time.
"""

import importlib
import importlib.util
import inspect
import sys
from typing import Any

from attrs import frozen


@frozen(kw_only=True)
class Address:
    """Where a class is found."""

    module: str
    file: str
    name: str
    path: list[str]
    """The importing process's `sys.path`."""


def address_of(kind: type) -> Address:
    """Raises OSError or TypeError for a class that was not read from a file."""
    return Address(module=kind.__module__, file=inspect.getfile(kind), name=kind.__qualname__, path=list(sys.path))


def find(address: Address) -> Any:
    """The class at `address`; changes this process's `sys.path` to be that of the other one."""
    sys.path[:] = address.path
    found: Any = _module(address)
    for part in address.name.split("."):
        found = getattr(found, part)
    return found


def _module(address: Address) -> Any:
    try:
        module = importlib.import_module(address.module)
    except ImportError:
        module = None
    if module is not None and getattr(module, "__file__", None) == address.file:
        return module
    spec = importlib.util.spec_from_file_location(address.module, address.file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{address.file} cannot be read as a module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[address.module] = module
    spec.loader.exec_module(module)
    return module
