import sys
import types

import pytest

from mammo_d2.core.lazy_names import lazy_names


@pytest.fixture
def package(monkeypatch):
    module = types.ModuleType("toy_package")
    module.calls = []
    module.__getattr__, module.__dir__ = lazy_names(
        "toy_package", {"sqrt": "math", "absent": "math"}, lambda: module.calls.append(1)
    )
    monkeypatch.setitem(sys.modules, "toy_package", module)
    return module


def test_a_name_is_imported_once(package):
    assert package.calls == []
    assert package.sqrt(9) == 3
    assert package.sqrt(16) == 4
    assert package.calls == [1]
    assert {"sqrt", "absent", "calls"} <= set(dir(package))


def test_unknown_names(package):
    with pytest.raises(AttributeError, match="module 'toy_package' has no attribute 'cosine'"):
        _ = package.cosine
    with pytest.raises(AttributeError, match="absent"):
        _ = package.absent
