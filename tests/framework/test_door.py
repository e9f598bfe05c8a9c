"""The door: which engine it picks, what it serves, and the contract's table."""

import importlib
import os
import subprocess
import sys
from types import ModuleType

import pytest

import mammo_d2.framework as door
from mammo_d2.framework import _engine
from mammo_d2.framework._contract import CONTRACT
from tests.framework import contract_table


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "auto"),
        ({"MAMMO_D2_ENGINE": ""}, "auto"),
        ({"MAMMO_D2_ENGINE": "embedded"}, "embedded"),
        ({"MAMMO_D2_ENGINE": " detectron2 "}, "detectron2"),
    ],
)
def test_request_is_read_from_the_environment(environ: dict[str, str], expected: str) -> None:
    assert _engine.requested_engine(environ) == expected


def test_wrong_value_names_variable_value_and_choices() -> None:
    with pytest.raises(
        _engine.EngineError, match=r"MAMMO_D2_ENGINE is 'd2'; it must be one of auto, detectron2, embedded"
    ):
        _engine.requested_engine({"MAMMO_D2_ENGINE": "d2"})


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch):
    """Let detectron2 be "absent", "present" or "broken"; engines are empty modules of the right names."""

    def _pretend(state: str) -> None:
        def import_module(name: str) -> ModuleType:
            if name.endswith("_detectron2") and state == "broken":
                raise ImportError("undefined symbol: _ZN2at")
            return ModuleType(name)

        monkeypatch.setattr(_engine.importlib.util, "find_spec", lambda name: None if state == "absent" else object())
        monkeypatch.setattr(_engine.importlib, "import_module", import_module)

    return _pretend


@pytest.mark.parametrize(
    ("state", "request_", "engine"),
    [
        ("present", "auto", "detectron2"),
        ("absent", "auto", "embedded"),
        ("broken", "auto", "embedded"),
        ("present", "embedded", "embedded"),
        ("present", "detectron2", "detectron2"),
    ],
)
def test_engine_that_is_picked(pretend, state: str, request_: str, engine: str) -> None:
    pretend(state)
    name, module = _engine.load_engine(request_)
    assert name == engine
    assert (
        module.__name__
        == {
            "detectron2": "mammo_d2.framework._detectron2",
            "embedded": "mammo_d2.framework.embedded",
        }[engine]
    )


def test_demanded_but_absent_tells_how_to_install_and_what_to_do_without(pretend) -> None:
    pretend("absent")
    with pytest.raises(_engine.EngineError, match=r"not installed.*pip install.*MAMMO_D2_ENGINE=embedded"):
        _engine.load_engine("detectron2")


def test_demanded_but_broken_gives_the_reason(pretend) -> None:
    pretend("broken")
    with pytest.raises(_engine.EngineError, match=r"undefined symbol: _ZN2at.*build it again"):
        _engine.load_engine("detectron2")


def test_broken_detectron2_is_reported_before_falling_back(pretend, caplog: pytest.LogCaptureFixture) -> None:
    pretend("broken")
    _engine.load_engine("auto")
    assert "undefined symbol" in caplog.text
    assert "using the embedded engine" in caplog.text


def test_door_serves_exactly_the_contract() -> None:
    assert set(door.__all__) == {"ENGINE", "EngineError", *CONTRACT}
    module = importlib.import_module(_engine._MODULES[door.ENGINE])
    assert all(getattr(door, name) is getattr(module, name) for name in CONTRACT)


def test_embedded_engine_has_exactly_the_contract() -> None:
    embedded = importlib.import_module("mammo_d2.framework.embedded")
    assert sorted(embedded.__all__) == sorted(CONTRACT)
    assert all(hasattr(embedded, name) for name in CONTRACT)


@pytest.mark.detectron2
def test_detectron2_engine_has_exactly_the_contract() -> None:
    module = importlib.import_module("mammo_d2.framework._detectron2")
    assert sorted(module.__all__) == sorted(CONTRACT)
    assert all(hasattr(module, name) for name in CONTRACT)


def test_table_is_up_to_date() -> None:
    assert contract_table.DOCUMENT.read_text() == contract_table.document(), (
        "run python -m tests.framework.contract_table"
    )


@pytest.mark.slow
def test_embedded_engine_does_without_detectron2() -> None:
    code = "import sys, mammo_d2.framework as f; print(f.ENGINE, 'detectron2' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "MAMMO_D2_ENGINE": "embedded", "PYTHONPATH": str(contract_table.ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.split() == ["embedded", "False"]
