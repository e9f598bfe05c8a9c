"""What a guide of docs/ tells its reader to write and to type."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

from mammo_d2.cli.main import main
from tests.conftest import ROOT

_FILE = re.compile(r"`([\w./]+\.\w+)`:\n\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_COMMANDS = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Guide:
    """Of one page.

    Attributes:
        files: content by name of the code blocks that follow "`name`:".
        commands: arguments of each ``mammo-d2`` command in blocks marked ``sh``.
    """

    files: dict[str, str]
    commands: list[list[str]]

    def write_files(self, folder: Path) -> None:
        """The files as a reader has them."""
        for name, content in self.files.items():
            (folder / name).write_text(content, encoding="utf-8")


def read_guide(name: str) -> Guide:
    """The guide docs/<name>."""
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    lines = "".join(_COMMANDS.findall(text)).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("mammo-d2 ")]
    return Guide(dict(_FILE.findall(text)), [command[1:] for command in commands])


def type_command(arguments: list[str]) -> int:
    """The exit code of ``mammo-d2`` with these arguments, run in this process and in its working directory."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    return int(end.value.code or 0)
