"""Packaging of mammo_d2; tool settings are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'__version__ = "([^"]+)"', (ROOT / "mammo_d2" / "__init__.py").read_text()).group(1)

setup(
    name="mammo_d2",
    version=VERSION,
    description="detectron2 plugin for detection and weak supervision on mammograms",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["mammo_d2", "mammo_d2.*"]),
    package_data={"mammo_d2": ["report/*.css"]},
    install_requires=[
        "torch>=2.11,<2.16",
        "torchvision>=0.26",
        "numpy>=2.0,<3",
        "scipy>=1.11",
        "fvcore>=0.1.5.post20221221,<0.1.6",
        "iopath>=0.1.7",
        "pycocotools>=2.0.8",
        "pydicom>=3.0,<4",
        "imagecodecs>=2025.3",
        "scikit-learn>=1.4",
        "opencv-python-headless>=4.9",
        "tqdm>=4.64",
        "tabulate>=0.9",
        "matplotlib>=3.8",
        "tensorboard>=2.14",
        "PyYAML>=6.0",
        "termcolor>=2.0",
        "optuna>=4.0,<6",
    ],
    extras_require={
        "dev": ["pytest>=8", "pytest-xdist>=3.5", "hypothesis>=6.100", "ruff>=0.14", "mypy>=1.10"],
    },
)
