"""Packaging is described in pyproject.toml; here is what it cannot say: configs/ and models/ go into the wheel."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithFolders(build_py):
    """Copies configs/ and models/ into mammo_d2/. An editable install needs no copies: see ``configs_folder``."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for folder in ("configs", "models"):
                target = Path(self.build_lib) / "mammo_d2" / folder
                shutil.rmtree(target, ignore_errors=True)  # what an earlier build left
                shutil.copytree(folder, target)


setup(cmdclass={"build_py": BuildWithFolders})
