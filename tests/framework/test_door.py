"""The door: which engine it picks, what it serves, and the contract's table."""

import os
import subprocess
import sys
from types import ModuleType

import pytest

import mammo_d2.framework as door
from mammo_d2.framework import _engine
from mammo_d2.framework._contract import CONTRACT
from tests.framework import contract_table, engines

# Names that the package itself does not use.
FOR_USERS_OF_THE_PLUGIN = {"register_coco_instances"}


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
    """Let detectron2 be "absent", "present", "broken" or "old" (without batched_nms); a name is its module's name."""

    def _pretend(state: str) -> None:
        def import_module(name: str, package: str = "") -> ModuleType:
            if not package:
                raise ImportError(f"no module {name}")
            if package == "detectron2" and state == "broken":
                raise ImportError("undefined symbol: _ZN2at")
            full_name = package + name if name.startswith(".") else name
            module = ModuleType(full_name)
            for known in CONTRACT:
                if (state, package, known) != ("old", "detectron2", "batched_nms"):
                    setattr(module, known, full_name)
            return module

        monkeypatch.setattr(_engine.importlib.util, "find_spec", lambda name: None if state == "absent" else object())
        monkeypatch.setattr(_engine.importlib, "import_module", import_module)

    return _pretend


@pytest.mark.parametrize(
    ("state", "request_", "engine"),
    [
        ("present", "auto", "detectron2"),
        ("absent", "auto", "embedded"),
        ("broken", "auto", "embedded"),
        ("old", "auto", "embedded"),
        ("present", "embedded", "embedded"),
        ("present", "detectron2", "detectron2"),
    ],
)
def test_engine_that_is_picked(pretend, state: str, request_: str, engine: str) -> None:
    pretend(state)
    name, names = _engine.load_engine(request_)
    assert name == engine
    assert list(names) == list(CONTRACT)
    assert (
        names["get_cfg"]
        == {"detectron2": "detectron2.config", "embedded": "mammo_d2.framework.embedded.config"}[engine]
    )


def test_demanded_but_absent_tells_how_to_install_and_what_to_do_without(pretend) -> None:
    pretend("absent")
    with pytest.raises(_engine.EngineError, match=r"not installed.*pip install.*MAMMO_D2_ENGINE=embedded"):
        _engine.load_engine("detectron2")


def test_demanded_but_broken_gives_the_reason(pretend) -> None:
    pretend("broken")
    with pytest.raises(_engine.EngineError, match=r"undefined symbol: _ZN2at.*build it again"):
        _engine.load_engine("detectron2")


def test_names_that_an_old_detectron2_lacks_are_listed(pretend) -> None:
    pretend("old")
    with pytest.raises(_engine.EngineError, match="detectron2 lacks batched_nms; this package needs a newer one"):
        _engine.load_engine("detectron2")


def test_broken_detectron2_is_reported_before_falling_back(pretend, caplog: pytest.LogCaptureFixture) -> None:
    pretend("broken")
    _engine.load_engine("auto")
    assert "undefined symbol" in caplog.text
    assert "using the embedded engine" in caplog.text


def test_door_serves_exactly_the_contract() -> None:
    assert set(door.__all__) == {"ENGINE", "EngineError", *CONTRACT}
    names = _engine.engine_names(door.ENGINE)
    assert all(getattr(door, name) is names[name] for name in CONTRACT)


@pytest.mark.parametrize("engine", engines.BOTH)
def test_both_engines_have_every_name(engine: str) -> None:
    assert list(_engine.engine_names(engine)) == list(CONTRACT)


def test_every_name_has_a_user_outside_the_framework() -> None:
    assert set(CONTRACT) - contract_table.names_in_use() <= FOR_USERS_OF_THE_PLUGIN


def test_what_is_written_from_the_contract_is_up_to_date() -> None:
    remedy = "run python -m tests.framework.contract_table"
    assert contract_table.DOCUMENT.read_text() == contract_table.document(), remedy
    assert contract_table.STATIC.read_text() == contract_table.static(), remedy


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
