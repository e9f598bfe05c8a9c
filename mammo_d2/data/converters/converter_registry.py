"""The converters that ``mammo-d2 prepare`` offers: this package's, and those of other packages.

A converter of this package is a file in ``folders`` or in a folder of ``public``; nothing else names it. One of
another package is found through the entry point group ``mammo_d2.converters``: the entry's name becomes the
sub-command, its value is the class::

    [project.entry-points."mammo_d2.converters"]
    my-hospital = "my_package.my_hospital:MyHospital"
"""

from __future__ import annotations

import importlib
import pkgutil
import warnings
from importlib.metadata import EntryPoint, entry_points
from typing import TypeVar

from mammo_d2.data.converters import folders, public
from mammo_d2.data.converters.converter import Converter

ENTRY_POINT_GROUP = "mammo_d2.converters"

ConverterClass = TypeVar("ConverterClass", bound=type[Converter])

_converters: dict[str, type[Converter]] = {}


def register_converter(converter: ConverterClass) -> ConverterClass:
    """Class decorator: offer a converter as the sub-command ``converter.command``.

    Raises:
        ValueError: it has no ``command``, or another converter has the same.
    """
    name = f"{converter.__module__}.{converter.__qualname__}"
    if not converter.command:
        raise ValueError(f"converter {name} has no command; set its attribute command, e.g. 'my-hospital'")
    other = _converters.setdefault(converter.command, converter)
    if other is not converter:
        raise ValueError(
            f"converter {name}: the command {converter.command!r} is {other.__module__}.{other.__qualname__}'s; "
            "choose another one"
        )
    return converter


def find_converters() -> dict[str, type[Converter]]:
    """Converter class by sub-command: folders first, then public data sets, then those of other packages.

    A converter of another package that cannot be used is left out with a warning.
    """
    for room in (folders, public):
        for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            importlib.import_module(module.name)
    for entry in entry_points(group=ENTRY_POINT_GROUP):
        _register_entry(entry)
    return dict(sorted(_converters.items(), key=_place))


def _place(item: tuple[str, type[Converter]]) -> tuple[int, str]:
    """Sorts as ``find_converters`` says, by name within a room."""
    rooms = [number for number, room in enumerate((folders, public)) if item[1].__module__.startswith(room.__name__)]
    return (*rooms, 2)[0], item[0]


def _register_entry(entry: EntryPoint) -> None:
    try:
        loaded = entry.load()
        if not (isinstance(loaded, type) and issubclass(loaded, Converter)):
            raise TypeError(f"{entry.value} is no subclass of Converter")
        if loaded not in _converters.values():
            loaded.command = entry.name
            register_converter(loaded)
    except Exception as error:  # what another package does wrong must not stop this one's commands
        package = f" of {entry.dist.name}" if entry.dist else ""
        warnings.warn(
            f"converter {entry.name}{package} (entry point group {ENTRY_POINT_GROUP}) cannot be used: "
            f"{type(error).__name__}: {error}",
            stacklevel=2,
        )
