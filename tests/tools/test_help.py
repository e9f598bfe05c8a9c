"""The help of the tools."""

import pytest

from mammo_d2.cli.arguments.command_line import TRACEBACK_FLAG, run_tool
from tests.tools.conftest import TOOLS

NAMES = sorted(path.stem for path in TOOLS.glob("*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_every_tool_tells_how_to_see_more_of_an_error(load_tool, capsys, name):
    tool = load_tool(name)
    with pytest.raises(SystemExit) as stop:
        run_tool(tool.run, ["--help"])
    assert stop.value.code == 0
    assert TRACEBACK_FLAG in capsys.readouterr().out


def test_sub_commands_do_as_well(load_tool, capsys):
    for name, command in [("prepare_data", "phantom"), ("benchmark", "train")]:
        tool = load_tool(name)
        with pytest.raises(SystemExit):
            run_tool(tool.run, [command, "--help"])
        text = capsys.readouterr().out
        assert TRACEBACK_FLAG in text
        assert "(default: " in text
