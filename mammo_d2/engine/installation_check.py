"""What an installation can do, and what is wrong with it: for ``mammo-d2 doctor``."""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import torch
from packaging.requirements import InvalidRequirement, Requirement
from pydicom import uid
from pydicom.pixels import get_decoder

from mammo_d2 import __version__
from mammo_d2.core.processes.threads import (
    THREADS,
    WAITING,
    cores_of_this_process,
    quota_of_this_process,
    usable_cores,
)
from mammo_d2.data.reading.dicom import codecs
from mammo_d2.framework import ENGINE

OK, NOTE, WARNING, ERROR = "ok", "note", "warning", "error"
#: Packages of which only one may be installed: their files overwrite each other.
ONE_OF = (
    ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless"),
)  # fmt: skip
# Packages whose own requirements are looked at, too: their versions must fit each other exactly.
_EXACT = ("torchvision",)
_UNCOMPRESSED = (uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian)
_SYNTAXES = (*_UNCOMPRESSED, uid.DeflatedExplicitVRLittleEndian, *codecs.DECODER_DEPENDENCIES)


@dataclass(frozen=True)
class CheckLine:
    """One line of the doctor.

    Attributes:
        subject: what was looked at.
        state: "ok"; "note": worth knowing; "warning": works, but not as it should; "error": something will fail.
        text: what was found, with the remedy.
    """

    subject: str
    state: str
    text: str


def check_installation() -> Iterator[CheckLine]:
    """Everything, in order."""
    yield CheckLine("mammo_d2", OK, f"{__version__} on Python {platform.python_version()}, {platform.system()}")
    yield from check_engine()
    yield from check_versions()
    yield from check_decoders()
    yield from check_gpu()
    yield from check_threads()
    yield from check_extras()
    yield from check_datasets()


def check_engine() -> Iterator[CheckLine]:
    """Which engine runs, and whether a detectron2 that is installed is used."""
    installed = importlib.util.find_spec("detectron2") is not None
    if ENGINE == "detectron2":
        yield CheckLine("engine", OK, f"detectron2 {_version('detectron2') or ''}".strip())
        if importlib.util.find_spec("pkg_resources") is None:
            yield CheckLine(
                "engine", WARNING,
                "setuptools has no pkg_resources any more, which detectron2's model zoo imports: pip install "
                "'setuptools<80'",
            )  # fmt: skip
    elif installed and os.environ.get("MAMMO_D2_ENGINE", "auto") in ("", "auto"):
        yield CheckLine(
            "engine", WARNING,
            "embedded, as detectron2 is installed but does not import; MAMMO_D2_ENGINE=detectron2 mammo-d2 doctor "
            "shows why (often it was built for another torch)",
        )  # fmt: skip
    else:
        yield CheckLine(
            "engine", OK, "embedded" + (" (MAMMO_D2_ENGINE)" if installed else "; detectron2 is not needed")
        )


def check_versions() -> Iterator[CheckLine]:
    """Required packages against what is installed, and packages that exclude each other."""
    problems = 0
    required = _requirements("mammo_d2") + [item for name in _EXACT for item in _requirements(name)]
    for requirement in required:
        found = _version(requirement.name)
        text = f"{requirement.name} {found or 'is not installed'}, needed: {requirement.specifier or 'any version'}"
        if found is None or not requirement.specifier.contains(found.split("+")[0], prereleases=True):
            problems += 1
            yield CheckLine("versions", ERROR, f"{text}; pip install '{requirement.name}{requirement.specifier}'")
    for names in ONE_OF:
        there = [name for name in names if _version(name) is not None]
        if len(there) > 1:
            problems += 1
            yield CheckLine(
                "versions", WARNING,
                f"{' and '.join(there)} overwrite each other's files: pip uninstall all of them, and install one",
            )  # fmt: skip
    if not problems:
        yield CheckLine("versions", OK, f"{len(required)} requirements are met; torch {torch.__version__}")


def check_decoders() -> Iterator[CheckLine]:
    """Transfer syntaxes of DICOM files that can be read."""
    codecs.register()
    missing = [syntax for syntax in _SYNTAXES if not get_decoder(syntax).is_available]
    yield CheckLine("DICOM", OK, f"reads {len(_SYNTAXES) - len(missing)} of {len(_SYNTAXES)} transfer syntaxes")
    for syntax in missing:
        yield CheckLine("DICOM", WARNING, f"cannot read {uid.UID(syntax).name}: pip install --upgrade imagecodecs")


def check_gpu() -> Iterator[CheckLine]:
    """GPUs that torch can use."""
    if not torch.cuda.is_available():
        built = torch.version.cuda is not None or getattr(torch.version, "hip", None) is not None
        reason = "torch finds none (driver, CUDA_VISIBLE_DEVICES?)" if built else "this torch was built for CPUs only"
        yield CheckLine("GPU", NOTE, f"none: {reason}; everything runs on the CPU")
        return
    for index in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(index)
        try:
            works = float(torch.ones(2, device=f"cuda:{index}").sum()) == 2
        except RuntimeError as error:
            yield CheckLine("GPU", ERROR, f"{facts.name}: {str(error).splitlines()[0]}")
            continue
        state = OK if works else ERROR
        yield CheckLine("GPU", state, f"{facts.name}, {facts.total_memory / 2**30:.0f} GiB")


def check_threads() -> Iterator[CheckLine]:
    """Threads of this process, and whether the machine has room for them."""
    cores, quota, threads = cores_of_this_process(), quota_of_this_process(), torch.get_num_threads()
    limit = "" if quota is None else f", a quota of {quota:g}"
    waiting = os.environ.get(WAITING, "spinning").lower()
    yield CheckLine("threads", OK, f"{threads} on {cores} cores{limit}; they wait {waiting}")
    if threads > usable_cores():
        yield CheckLine(
            "threads", WARNING, f"more threads than cores: export {THREADS}={usable_cores()}, or leave it unset"
        )
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if threads > 1 and load > 1.5 * cores:
        yield CheckLine(
            "threads", WARNING,
            f"the machine is busy (load {load:.1f} on {cores} cores): {THREADS}=1 costs least here, and disturbs "
            "others least",
        )  # fmt: skip


def check_extras() -> Iterator[CheckLine]:
    """Optional packages."""
    for requirement in sorted(_requirements("mammo_d2", extras=True), key=lambda item: item.name):
        found = _version(requirement.name)
        if found is None:
            extra = re.sub(r".*extra\s*==\s*['\"]([^'\"]+)['\"].*", r"\1", str(requirement.marker))
            yield CheckLine("extras", NOTE, f"{requirement.name} is not installed: pip install 'mammo_d2[{extra}]'")


def check_datasets() -> Iterator[CheckLine]:
    """The folder of the data sets."""
    folder = os.environ.get("MAMMO_D2_DATASETS", "")
    if not folder:
        yield CheckLine("data sets", NOTE, "MAMMO_D2_DATASETS is not set: data sets are looked for in ./datasets")
    elif not Path(folder).is_dir():
        yield CheckLine("data sets", ERROR, f"MAMMO_D2_DATASETS is {folder}, which is no folder")
    place = Path(folder) if Path(folder).is_dir() else Path.cwd()
    free = shutil.disk_usage(place).free / 2**30
    state = WARNING if free < 5 else OK
    yield CheckLine("data sets", state, f"{place.resolve()}: {free:.1f} GiB free, {_writable(place)}")


def _writable(folder: Path) -> str:
    return "can be written" if os.access(folder, os.W_OK) else "cannot be written"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _requirements(package: str, extras: bool = False) -> list[Requirement]:
    """What a package requires here; with ``extras``, what its extras for users add."""
    try:
        lines = metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        optional = "extra ==" in str(requirement.marker)
        if optional:
            if extras and 'extra == "dev"' not in str(requirement.marker):
                found.append(requirement)
        elif not extras and (requirement.marker is None or requirement.marker.evaluate()):
            found.append(requirement)
    return found
