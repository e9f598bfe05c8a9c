"""The metrics work on a machine without a deep learning stack."""

import subprocess
import sys

PROGRAM = """
import importlib, pkgutil, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        root = name.partition(".")[0]
        if root in ("torch", "torchvision", "fvcore", "iopath", "detectron2") or name == "mammo_d2.framework":
            raise ImportError(f"{name} is imported")

sys.meta_path.insert(0, Refuse())
import mammo_d2.evaluation.metrics as metrics

names = [module.name for module in pkgutil.walk_packages(metrics.__path__, metrics.__name__ + ".")]
for name in names:
    importlib.import_module(name)
assert "torch" not in sys.modules
print(len(names))
"""


def test_every_module_imports_without_torch_and_the_framework():
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) >= 20
