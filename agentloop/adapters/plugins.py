"""A folder of plug-in modules: each `*.py` in it is loaded by its path, in the order of the names.

Nothing is added to the import path, so a file called `json.py` shadows nothing. Files whose name starts with `_` are not
loaded. Loading has a time limit, for a module may do anything when it is imported.
"""

import importlib.util
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import cast

from agentloop.errors import RegistryError
from agentloop.tooling import Tool, as_tool

IMPORT_LIMIT_S = 20.0
_PACKAGE = "agentloop_tools"


def load_tools(folder: Path) -> list[Tool]:
    """Every tool of the modules in a folder. Raises RegistryError, naming file and line."""
    if not folder.exists():
        return []
    if not folder.is_dir():
        raise RegistryError(f"tools folder {folder} is not a folder")
    files = sorted(p for p in folder.glob("*.py") if not p.name.startswith("_"))
    return [tool for file in files for tool in _tools_of(_loaded(file))]


def load_module(file: Path) -> ModuleType:
    """One module of such a folder. Raises RegistryError."""
    return _loaded(file)


def _tools_of(module: ModuleType) -> list[Tool]:
    """The tools that a module defines or makes; plain functions without `@tool` are helpers, not tools."""
    made = [t for n, t in vars(module).items() if not n.startswith("_") and _is_tool(t)]
    return list({id(t): as_tool(t) for t in made}.values())


def _is_tool(thing: object) -> bool:
    if isinstance(thing, type):
        return False
    return isinstance(thing, Tool) or (callable(getattr(thing, "to_dict", None)) and callable(getattr(thing, "call", None)))


def _loaded(file: Path) -> ModuleType:
    name = f"{_PACKAGE}.{file.stem}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise RegistryError(f"tool module {file} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    failed: list[BaseException] = []
    over = threading.Event()  # a signal that comes while a thread is joined makes Python take it for ended

    def execute() -> None:
        try:
            sys.modules[name] = module
            spec.loader.exec_module(module)  # type: ignore[union-attr]
        except BaseException as e:  # noqa: BLE001  SystemExit too: a module that exits on import must not end the program
            failed.append(e)
        over.set()

    threading.Thread(target=execute, name=f"import-{file.name}", daemon=True).start()
    if not over.wait(IMPORT_LIMIT_S):
        raise RegistryError(f"tool module {file} was still being imported after {IMPORT_LIMIT_S:g} seconds")
    if failed:
        sys.modules.pop(name, None)
        raise RegistryError(_why(file, failed[0])) from failed[0]
    return module


def _why(file: Path, error: BaseException) -> str:
    """File and line of what went wrong in a module, in one line."""
    if isinstance(error, SyntaxError):
        return f"tool module {file}, line {error.lineno}: {error.msg}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [f.lineno for f in frames if Path(f.filename).resolve() == file.resolve()]
    where = f"{file}, line {lines[-1]}" if lines else str(file)
    return f"tool module {where}: {type(error).__name__} on import: {str(error)[:200]}"


def function(folder: Path, name: str) -> Callable[..., object]:
    """A function of a module in a folder, `file:function`, the file without its ending. Raises RegistryError."""
    module, _, wanted = name.partition(":")
    file = folder / f"{module}.py"
    if not module.isidentifier() or not file.is_file():
        raise RegistryError(f"'{name}' names no file of the tools folder: {file} is not there")
    found = getattr(_loaded(file), wanted, None)
    if not callable(found):
        raise RegistryError(f"'{name}': there is no function '{wanted}' in {file}")
    return cast(Callable[..., object], found)
