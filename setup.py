"""Packaging is described in pyproject.toml; here is what it cannot say: configs/ goes into the wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Copies configs/ to mammo_d2/configs. An editable install needs no copy: see mammo_d2/config/named_configs.py."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "mammo_d2" / "configs"
            shutil.rmtree(target, ignore_errors=True)  # what an earlier build left
            shutil.copytree("configs", target)


setup(cmdclass={"build_py": BuildWithConfigs})
