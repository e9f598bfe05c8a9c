"""docs/framework_contract.md out of the contract; `python -m tests.framework.contract_table` writes it."""

import ast
from pathlib import Path

from mammo_d2.framework._contract import CONTRACT

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "framework_contract.md"
FRAMEWORK = ROOT / "mammo_d2" / "framework"

HEAD = """# The framework door

All code of this package imports framework names from `mammo_d2.framework`. The door serves them from detectron2 or from
the embedded engine; `MAMMO_D2_ENGINE` (`auto`, `detectron2`, `embedded`) picks, and `mammo_d2.framework.ENGINE` says
which one it is. These are all the names. Both engines have every one of them; a test checks it, and this table.

| Name | What it is | detectron2's | embedded |
| --- | --- | --- | --- |
"""


def origins(source: Path) -> dict[str, str]:
    """Name -> module it comes from, of a file that imports names or defines them."""
    found = {}
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            for alias in node.names:
                found[alias.asname or alias.name] = module or alias.name
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[node.name] = "(added here)"
    return found


def document() -> str:
    """The whole document."""
    theirs, ours = origins(FRAMEWORK / "_detectron2.py"), origins(FRAMEWORK / "embedded" / "__init__.py")
    embedded = "mammo_d2.framework.embedded."
    rows = [
        f"| `{name}` | {what} | {theirs[name].removeprefix('detectron2.')} | {ours[name].removeprefix(embedded)} |"
        for name, what in CONTRACT.items()
    ]
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document())
