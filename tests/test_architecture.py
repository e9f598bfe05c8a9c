"""The house keeps to docs/architecture.md: floors, one owner of each name, short files, tests beside their modules."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = "mammo_d2"
EMBEDDED = f"{PACKAGE}.framework.embedded"
MOST_FILES = 12  # flat in a folder, __init__ aside
MOST_LINES = 450
TOP = 99  # the floor of the package itself: the public API
HEAVY = {"torch", "torchvision", "fvcore", "iopath", "detectron2", f"{PACKAGE}.framework"}
WITHOUT_TORCH = (f"{PACKAGE}.core", f"{PACKAGE}.phantom", f"{PACKAGE}.evaluation.metrics")

# The folders of data/, from the ground up.
DATA_FLOORS = {
    "reading": 0,
    "format": 1,
    "breast": 2,
    "converters": 3,
    "prepare": 4,
    "loading": 4,
    "review": 4,
    "lesions": 5,
}

# Tests of no single module, with what they are about. A folder ends with a slash.
CROSS_CUTTING = {
    "tests/cli/test_mutated_inputs.py": "every command that reads result files",
    "tests/docs/": "the guides, carried out",
    "tests/kills/": "killed commands, run again",
    "tests/framework/embedded/backbone/test_backbones.py": "backbones of the embedded engine",
    "tests/framework/test_door.py": "the contract, the engines' choice",
    "tests/framework/test_engine_semantics.py": "both engines: subtle behaviour of models",
    "tests/framework/test_engine_semantics_job.py": "both engines: subtle behaviour of jobs",
    "tests/framework/test_job_parity.py": "both engines give the committed numbers of a job",
    "tests/framework/test_parity_golden.py": "the embedded engine gives the committed numbers of models",
    "tests/framework/test_parity_live.py": "both engines side by side",
    "tests/fuzz/": "mutated files of every kind",
    "tests/jobs/lesion/test_lesion_distributed.py": "a job in two processes",
    "tests/jobs/lesion/test_lesion_restart.py": "a job in a folder that is not empty",
    "tests/jobs/test_accelerator.py": "every model on a pretended GPU",
    "tests/jobs/test_distributed.py": "a job in two processes",
    "tests/jobs/test_gmic_training.py": "a method from data set to results",
    "tests/jobs/test_region_cache.py": "codes on disk, from the file to the model",
    "tests/phantom/test_no_threshold.py": "a property of all phantoms",
    "tests/test_architecture.py": "this file",
    "tests/test_configs.py": "every file of configs/",
    "tests/test_malicious_weights.py": "every way a file of weights, stored results or settings can be named",
    "tests/test_packaging.py": "the wheel",
    "tests/test_plugin_script.py": "a detectron2 user's script",
    "tests/test_private_data.py": "personal data of DICOM files in the output of every command",
    "tests/test_public_api.py": "the stable names of the package",
    "tests/tools/test_examples.py": "every command in help, documents and heads of configs",
    "tests/tools/test_help.py": "the help of all tools",
    "tests/tools/test_methods.py": "a config given to the wrong tool",
}


@dataclass(frozen=True)
class Module:
    """A module of the package: dotted name, file, syntax tree, and the dotted names that it imports."""

    name: str
    path: Path
    tree: ast.Module
    imports: tuple[str, ...]

    @property
    def room(self) -> str:
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else ""

    @property
    def is_package(self) -> bool:
        return self.path.name == "__init__.py"


@cache
def modules() -> dict[str, Module]:
    """Every module of the package by its dotted name, the root's ``__init__`` and ``__main__`` included."""
    paths = {dotted(path): path for path in sorted((ROOT / PACKAGE).rglob("*.py"))}
    found = {}
    for name, path in paths.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found[name] = Module(name, path, tree, tuple(imports_of(tree, set(paths))))
    return found


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports_of(tree: ast.Module, known: set[str]) -> Iterator[str]:
    """The dotted names of all that is imported, in functions too; ``import_module`` of a literal counts."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            source = "." * node.level + (node.module or "")
            for alias in node.names:
                full = f"{source}.{alias.name}"
                if full != f"{PACKAGE}.__version__":  # for everybody
                    yield full if full in known else source
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                yield str(node.args[0].value)


@cache
def floors() -> dict[str, int]:
    """The table of docs/architecture.md: room → floor."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| .+ \|$", text, flags=re.MULTILINE)
    return {room: int(floor) for floor, room in rows}


def lies_in(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def test_the_table_names_every_room():
    rooms = {path.name for path in (ROOT / PACKAGE).iterdir() if any(path.rglob("*.py"))}
    assert set(floors()) == rooms
    loose = {path.name for path in (ROOT / PACKAGE).glob("*.py")}
    assert loose <= {"__init__.py", "__main__.py"}
    numbers = list(floors().values())
    assert numbers == sorted(numbers)


def test_imports_go_down():
    wrong = set()
    for module in modules().values():
        for name in module.imports:
            target = name.split(".")
            if target[0] != PACKAGE or not module.room or module.room == "__main__":
                continue
            room = target[1] if len(target) > 1 else ""
            if room != module.room and floors().get(room, TOP) >= floors()[module.room]:
                wrong.add((module.name, name))
    assert wrong == set()


def test_imports_go_down_within_data():
    wrong = set()
    for module in modules().values():
        for name in module.imports:
            folder, target = (re.match(rf"{PACKAGE}\.data\.(\w+)", dotted) for dotted in (module.name, name))
            if folder and target and folder[1] != target[1] and DATA_FLOORS[target[1]] >= DATA_FLOORS[folder[1]]:
                wrong.add((module.name, name))
    assert wrong == set()


def test_imports_are_absolute():
    relative = [(m.name, name) for m in modules().values() for name in m.imports if name.startswith(".")]
    assert relative == []


def test_no_circles():
    """Modules in a circle can be imported in one order only; a package's ``__init__`` is a module like others."""
    graph = {m.name: {name for name in m.imports if name in modules() and name != m.name} for m in modules().values()}
    list(TopologicalSorter(graph).static_order())  # a CycleError names the circle


def test_the_folders_of_a_room_go_one_way():
    """Of two folders of a room at most one imports the other; files beside the folders may lie above and below."""
    graph: dict[str, set[str]] = defaultdict(set)
    for module in modules().values():
        for name in module.imports:
            here, there = folder_of(module.name), folder_of(name)
            if here and there and here != there and here.split(".")[0] == there.split(".")[0]:
                graph[here].add(there)
    assert {"data.format", "evaluation.evaluators"} <= set(graph)
    list(TopologicalSorter(graph).static_order())


def folder_of(name: str) -> str | None:
    """Room and folder, e.g. "data.format" of ``mammo_d2.data.format.catalog``; None of what lies beside the folders."""
    parts = name.split(".")
    if parts[0] != PACKAGE or len(parts) < 3 or not modules()[".".join(parts[:3])].is_package:
        return None
    return ".".join(parts[1:3])


def test_only_the_framework_imports_detectron2():
    others = [
        (m.name, name)
        for m in modules().values()
        for name in m.imports
        if lies_in(name, "detectron2") and m.room != "framework"
    ]
    assert others == []


@pytest.mark.parametrize("package", WITHOUT_TORCH)
def test_what_does_without_torch(package):
    """Not even by way of another module."""
    todo = [name for name in modules() if lies_in(name, package)]
    assert todo
    reached = set(todo)
    while todo:
        module = modules()[todo.pop()]
        for name in module.imports:
            heavy = [other for other in HEAVY if lies_in(name, other)]
            assert not heavy, f"{module.name} imports {name}"
            if name in modules() and name not in reached:
                reached.add(name)
                todo.append(name)


def test_folders_are_not_crowded():
    crowded = {}
    for folder in {module.path.parent for module in modules().values()}:
        files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        if len(files) > MOST_FILES:
            crowded[str(folder.relative_to(ROOT))] = len(files)
    assert crowded == {}


def test_files_are_short():
    lengths = {m.name: len(m.path.read_text(encoding="utf-8").splitlines()) for m in modules().values()}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_a_file_name_is_there_once():
    places = defaultdict(list)
    for module in modules().values():
        if not lies_in(module.name, EMBEDDED) and not module.path.name.startswith("__"):
            places[module.path.name].append(module.name)
    assert {file: names for file, names in places.items() if len(names) > 1} == {}


def test_a_class_or_constant_is_there_once():
    places = defaultdict(set)
    for module in modules().values():
        if not lies_in(module.name, EMBEDDED):
            for name in defined_in(module.tree):
                if name != "DESCRIPTION" or module.room != "cli":  # every command has one
                    places[name].add(module.name)
    twice = {name: names for name, names in places.items() if len(names) > 1}
    assert twice == {}


def defined_in(tree: ast.Module) -> Iterator[str]:
    """Public classes and UPPER_CASE constants of a module's top level."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield node.name
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            if isinstance(target, ast.Name) and re.fullmatch(r"[A-Z][A-Z0-9_]*", target.id):
                yield target.id


def test_tests_lie_where_their_modules_do():
    """Tests of ``tools/`` and ``benchmarks/`` count as those of the package."""
    homeless = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        name = path.relative_to(ROOT).as_posix()
        listed = any(name == entry or (entry.endswith("/") and name.startswith(entry)) for entry in CROSS_CUTTING)
        if not listed and not subject_of(path.relative_to(ROOT / "tests")):
            homeless.append(name)
    assert homeless == []
    assert [entry for entry in CROSS_CUTTING if not (ROOT / entry).exists()] == []


def subject_of(path: Path) -> Path | None:
    """The module or folder that a test file, relative to tests/, is about: its name, or its name up to an aspect."""
    folder = ROOT / path.parent if path.parts[0] in ("tools", "benchmarks") else ROOT / PACKAGE / path.parent
    words = path.stem.removeprefix("test_").split("_")
    for n in range(len(words), 0, -1):
        stem = "_".join(words[:n])
        if (folder / f"{stem}.py").is_file() or (n == len(words) and (folder / stem).is_dir()):
            return folder / stem
    return None
