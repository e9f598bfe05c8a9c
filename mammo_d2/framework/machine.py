"""The machine that a run was made on: what its last digits depend on."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from mammo_d2.framework import ENGINE, comm

_CPU_FACTS = Path("/proc/cpuinfo")
# Instruction sets that choose the kernels of convolutions and matrix products, above all those in bfloat16.
_INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16", "sve")
# Variables that choose kernels, or the number of threads, by hand.
_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "CUBLAS_WORKSPACE_CONFIG",
)
_PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "fvcore", "pycocotools")


def machine_facts() -> dict[str, Any]:
    """CPU, threads, processes, GPUs, versions and environment variables, JSON-ready.

    The same config, data and seed give the same numbers to the last digit where all of these are equal; see
    docs/results.md for how far apart they are elsewhere.
    """
    model, flags = _cpu()
    return {
        "cpu": model,
        "instruction_sets": [name for name in _INSTRUCTION_SETS if name in flags],
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "processes": comm.get_world_size(),
        "gpus": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "platform": platform.platform(),
        "python": platform.python_version(),
        "engine": ENGINE,
        "versions": {name: _version(name) for name in _PACKAGES},
        "environment": {name: os.environ[name] for name in _VARIABLES if name in os.environ},
    }


def _cpu() -> tuple[str, frozenset[str]]:
    """Model name, and the names of its features."""
    facts: dict[str, str] = {}
    if _CPU_FACTS.is_file():
        for line in _CPU_FACTS.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    features = facts.get("flags") or facts.get("Features", "")
    return facts.get("model name") or platform.processor() or platform.machine(), frozenset(features.split())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
