"""The console command: which module runs, what it imports, and errors."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import mammo_d2
from mammo_d2.cli import main as console
from mammo_d2.cli.arguments.command_line import EXTRAS
from tests.conftest import ROOT


def run(*arguments, code="", **environment):
    """``python -m mammo_d2``, or code, on the embedded engine in a process of its own."""
    command = [sys.executable, *(("-c", code) if code else ("-m", "mammo_d2")), *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MAMMO_D2_ENGINE": "embedded", **environment}
    return subprocess.run(command, capture_output=True, text=True, env=environment)


@pytest.fixture
def loaded(monkeypatch):
    """Runs a command in this process; what it has been called with."""
    calls = []

    class Module:
        @staticmethod
        def run(argv):
            calls.append(argv)
            return 3

    names = []
    monkeypatch.setattr(importlib, "import_module", lambda name: names.append(name) or Module)

    def call(*arguments):
        with pytest.raises(SystemExit) as stop:
            console.main(arguments)
        return stop.value.code, names, calls

    return call


def test_the_module_of_the_command_gets_the_rest(loaded):
    assert loaded("cross-validate", "--folds", "predict") == (
        3,
        ["mammo_d2.cli.training.cross_validate"],
        [["--folds", "predict"]],
    )


def test_traceback_may_stand_before_the_command(loaded):
    assert loaded("--traceback", "report", "--run", "x") == (3, ["mammo_d2.cli.results.report"], [["--run", "x"]])


def test_there_is_a_command_for_every_module():
    here = Path(console.__file__).parent
    assert {path.stem for path in here.glob("*.py")} == {"__init__", "main"}
    assert {path.parent.name for path in here.glob("*/*.py")} - {"arguments"} == set(console.GROUPS)
    for folder, commands in console.GROUPS.items():
        modules = {path.stem for path in (here / folder).glob("*.py")} - {"__init__"}
        assert {name.replace("-", "_") for name in commands} == modules


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predicts"], "there is no command 'predicts'; did you mean predict?"),
        (["cross_validate"], "there is no command 'cross_validate'; did you mean cross-validate?"),
        (["zzz"], "there is no command 'zzz'; mammo-d2 --help lists them"),
        ([], "which command? mammo-d2 --help lists them"),
    ],
)
def test_unknown_commands(capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        console.main(arguments)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


def test_help_and_version():
    done = run("--help")
    assert done.returncode == 0
    for group, commands in console.GROUPS.items():
        assert f"\n{group}:\n" in done.stdout
        for name, line in commands.items():
            assert re.search(rf"^  {name} +{re.escape(line)}$", done.stdout, re.MULTILINE)
    assert run("--version").stdout == f"mammo_d2 {mammo_d2.__version__}\n"


@pytest.mark.parametrize("command", ["", "evaluate", "average-scores", "prepare"])
def test_help_without_torch(command):
    code = f"""
import sys
sys.modules["torch"] = None  # importing it is an error
from mammo_d2.cli.main import main
main([*{command!r}.split(), "--help"])
"""
    done = run(code=code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: mammo-d2 {command}".rstrip())


@pytest.mark.parametrize(("module", "command"), [("optuna", "search")])
def test_a_missing_package_is_named_with_its_extra(module, command):
    code = (
        f"import sys; sys.modules[{module!r}] = None; from mammo_d2.cli.main import main; main([{command!r}, '--help'])"
    )
    done = run(code=code)
    assert done.returncode == 2
    assert f"pip install 'mammo_d2[{EXTRAS[module]}]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_modules_in_the_current_folder_are_found(tmp_path, monkeypatch, loaded):
    """As with ``python -m``, also where the script's folder is the first on the path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    loaded("report")
    assert sys.path[-1] == str(tmp_path)


def test_the_console_command_starts_without_torch():
    code = "import sys; from mammo_d2.cli import main; print('torch' in sys.modules)"
    assert run(code=code).stdout == "False\n"
