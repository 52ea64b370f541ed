import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentloop.adapters import plugins
from agentloop.adapters.plugins import load_tools
from agentloop.errors import RegistryError
from agentloop.tooling import Registry

LOOK = '''from agentloop.tooling import tool


@tool(effect="read")
def {name}() -> str:
    """Look."""
    return __name__
'''


@pytest.fixture(autouse=True)
def modules() -> Iterator[None]:
    """Leaves the loaded modules as they were."""
    before = dict(sys.modules)
    yield
    for name in set(sys.modules) - set(before):
        if name.startswith("agentloop_tools"):
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tools").mkdir()
    return tmp_path / "tools"


def put(folder: Path, name: str, source: str) -> Path:
    (folder / name).write_text(source)
    return folder / name


def refused(folder: Path) -> str:
    with pytest.raises(RegistryError) as error:
        load_tools(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_every_module_of_a_folder_is_loaded_in_the_order_of_the_names(folder: Path) -> None:
    put(folder, "b.py", LOOK.format(name="second"))
    put(folder, "a.py", LOOK.format(name="first"))

    assert [t.name for t in load_tools(folder)] == ["first", "second"]


def test_a_module_may_hold_several_tools_and_helpers(folder: Path) -> None:
    helper = "\n\ndef helper(x):\n    return x\n\n\nclass Thing:\n    pass\n"
    put(folder, "a.py", LOOK.format(name="one") + LOOK.format(name="two") + helper)

    assert [t.name for t in load_tools(folder)] == ["one", "two"]


def test_files_that_start_with_an_underscore_are_not_loaded(folder: Path) -> None:
    put(folder, "_shared.py", "raise RuntimeError('loaded')")
    put(folder, "a.py", LOOK.format(name="look"))

    assert [t.name for t in load_tools(folder)] == ["look"]


def test_tools_of_the_sdk_are_found(folder: Path) -> None:
    put(folder, "a.py", 'from anthropic import beta_tool\n\n@beta_tool\ndef look() -> str:\n    """Look."""\n    return ""\n')

    assert [t.name for t in load_tools(folder)] == ["look"]


def test_one_tool_under_two_names_is_one_tool(folder: Path) -> None:
    put(folder, "a.py", LOOK.format(name="look") + "\nalias = look\n")

    assert [t.name for t in load_tools(folder)] == ["look"]


def test_a_folder_that_is_not_there_holds_no_tools(tmp_path: Path) -> None:
    assert load_tools(tmp_path / "nothing") == []


def test_a_file_is_not_a_folder_of_tools(tmp_path: Path) -> None:
    put(tmp_path, "tools", "")

    assert refused(tmp_path / "tools").endswith("tools is not a folder")


def test_a_syntax_error_is_told_with_file_and_line(folder: Path) -> None:
    file = put(folder, "bad.py", "x = 1\n\ndef look(:\n    pass\n")

    assert refused(folder).startswith(f"tool module {file}, line 3: ")


def test_a_missing_dependency_is_told_with_file_and_line(folder: Path) -> None:
    file = put(folder, "bad.py", "import json\n\nimport no_such_package_anywhere\n")

    assert refused(folder) == (
        f"tool module {file}, line 3: ModuleNotFoundError on import: No module named 'no_such_package_anywhere'"
    )


def test_an_error_on_import_is_told_with_the_line_in_the_module(folder: Path) -> None:
    file = put(folder, "bad.py", "import json\n\n\ndef setting():\n    return json.loads('nonsense')\n\n\nsetting()\n")

    assert refused(folder).startswith(f"tool module {file}, line 5: JSONDecodeError on import: ")


def test_a_module_that_exits_does_not_end_the_program(folder: Path) -> None:
    file = put(folder, "bad.py", "import sys\nsys.exit(0)\n")

    assert refused(folder) == f"tool module {file}, line 2: SystemExit on import: 0"


def test_a_module_that_is_not_utf_8_is_told(folder: Path) -> None:
    (folder / "bad.py").write_bytes(b"x = '\xff'\n")

    assert str(folder / "bad.py") in refused(folder)


def test_a_module_that_never_ends_is_given_up(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "gate")
    put(folder, "slow.py", f"open({str(tmp_path / 'gate')!r}).read()\n")
    monkeypatch.setattr(plugins, "IMPORT_LIMIT_S", 0.05)

    try:
        assert refused(folder).endswith("slow.py was still being imported after 0.05 seconds")
    finally:
        os.close(os.open(tmp_path / "gate", os.O_WRONLY))


def test_a_module_that_failed_leaves_no_half_module_behind(folder: Path) -> None:
    put(folder, "bad.py", "raise RuntimeError('no')")

    refused(folder)

    assert "agentloop_tools.bad" not in sys.modules


def test_a_file_called_like_a_standard_module_shadows_nothing(folder: Path) -> None:
    put(folder, "json.py", LOOK.format(name="look"))
    path_before = list(sys.path)

    (look,) = load_tools(folder)

    assert look() == "agentloop_tools.json"
    assert sys.modules["json"] is json
    assert sys.path == path_before


def test_two_modules_with_a_tool_of_one_name_are_refused_with_both_files(folder: Path) -> None:
    first, second = put(folder, "a.py", LOOK.format(name="look")), put(folder, "b.py", LOOK.format(name="look"))

    with pytest.raises(RegistryError) as error:
        Registry(load_tools(folder))

    assert str(error.value) == f"two tools are named 'look': {first}:4 and {second}:4; rename one"


def test_types_of_a_module_that_postpones_its_annotations_are_understood(folder: Path) -> None:
    source = '''from __future__ import annotations

from agentloop.tooling import tool


class Order(dict[str, int]):
    pass


@tool
def ship(kilos: float, count: int | None = None) -> str:
    """Ship."""
    return str(kilos)
'''
    put(folder, "a.py", source)

    (ship,) = load_tools(folder)

    assert ship.definition["input_schema"]["properties"]["kilos"] == {"type": "number"}
