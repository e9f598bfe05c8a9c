"""What is written from the contract; ``python -m tests.framework.contract_table`` writes it anew.

docs/framework_contract.md, and ``_static.py``: the imports from which type checkers know the names.
"""

import ast
from pathlib import Path

from mammo_d2.framework._contract import CONTRACT

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "framework_contract.md"
STATIC = ROOT / "mammo_d2" / "framework" / "_static.py"
EMBEDDED = "mammo_d2.framework.embedded"

HEAD = """# The framework door

All code of this package imports framework names from `mammo_d2.framework`. The door serves them from detectron2 or from
the embedded engine; `MAMMO_D2_ENGINE` (`auto`, `detectron2`, `embedded`) picks, and `mammo_d2.framework.ENGINE` says
which one it is. These are all the names. Both engines have every one of them; a test checks it, and this table.

| Name | What it is | detectron2's | embedded |
| --- | --- | --- | --- |
"""

STATIC_HEAD = '''"""The contract's names for type checkers and editors; never imported at run time.

Written from ``_contract.py`` by ``python -m tests.framework.contract_table``.
"""

'''


def document() -> str:
    """The document."""
    rows = []
    for name, entry in CONTRACT.items():
        theirs = "(added here)" if entry.detectron2.startswith("mammo_d2.") else entry.detectron2.removeprefix(".")
        rows.append(f"| `{name}` | {entry.what} | {theirs} | {entry.embedded.removeprefix('.')} |")
    return HEAD + "\n".join(rows) + "\n"


def static() -> str:
    """The module for type checkers: one import per name, sorted as ruff sorts them."""
    modules = {
        name: EMBEDDED + entry.embedded if entry.embedded.startswith(".") else entry.embedded
        for name, entry in CONTRACT.items()
    }
    own = {name: module for name, module in modules.items() if module.startswith("mammo_d2.")}
    others = {name: module for name, module in modules.items() if name not in own}
    return STATIC_HEAD + "\n".join(_imports(others)) + "\n\n" + "\n".join(_imports(own)) + "\n"


def names_in_use() -> set[str]:
    """Names of the door that the package outside ``framework/``, the tools or the benchmarks import."""
    used: set[str] = set()
    for folder in ("mammo_d2", "tools", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if (ROOT / "mammo_d2" / "framework") in path.parents:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.module == "mammo_d2.framework":
                    used |= {alias.name for alias in node.names}
    return used


def _imports(modules: dict[str, str]) -> list[str]:
    ordered = sorted(modules.items(), key=lambda item: (item[1], _kind(item[0]), item[0].lower()))
    return [f"from {module} import {name} as {name}" for name, module in ordered]


def _kind(name: str) -> int:
    """Constants before classes before functions."""
    return 0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2


if __name__ == "__main__":
    DOCUMENT.write_text(document())
    STATIC.write_text(static())
