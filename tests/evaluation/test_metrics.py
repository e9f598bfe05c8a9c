"""The metrics work on a machine without a deep learning stack."""

import os
import subprocess
import sys

PROGRAM = """
import importlib, pkgutil, sys


class NotInstalled:
    names = ("torch", "torchvision", "fvcore", "iopath", "detectron2", "mammo_d2.framework")

    def find_spec(self, name, path=None, target=None):
        if name in self.names:
            raise ModuleNotFoundError(name)


sys.meta_path.insert(0, NotInstalled())
import mammo_d2.evaluation.metrics as metrics

names = [module.name for module in pkgutil.walk_packages(metrics.__path__, metrics.__name__ + ".")]
for name in names:
    importlib.import_module(name)
print(len(names))
"""


def test_every_module_imports_without_torch_and_the_framework():
    # Where detectron2 is installed, importing mammo_d2 registers its components there unless told otherwise.
    environment = {**os.environ, "MAMMO_D2_ENGINE": "embedded"}
    result = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) >= 20
