"""The two global catalogs: data set name -> records, and data set name -> metadata."""

import types
from collections import UserDict
from collections.abc import Callable, Sequence
from typing import Any

Records = Sequence[dict[str, Any]]


class _NamedCatalog(UserDict):
    """Base of both catalogs: listing and removing names, and a printable form."""

    def list(self) -> list[str]:
        """All registered names, in the order of registration."""
        return [*self.keys()]

    def remove(self, name: str) -> None:
        """Forget a name. KeyError if it is not there."""
        self.pop(name)

    def __repr__(self) -> str:
        return f"{type(self).__name__.lstrip('_')}({', '.join(self.keys())})"


class _DatasetCatalog(_NamedCatalog):
    """Data set name -> function without arguments that returns the list of records, the same at every call."""

    def register(self, name: str, func: Callable[[], Records]) -> None:
        """Register a data set.

        Raises:
            TypeError: ``func`` cannot be called.
            AssertionError: the name is taken (the type is the one that callers of detectron2 expect).
        """
        if not callable(func):
            raise TypeError(f"data set {name!r}: register a function that returns the records, not {type(func)}")
        if name in self:
            raise AssertionError(f"data set {name!r} is already registered; DatasetCatalog.remove it first")
        self[name] = func

    def get(self, name: str) -> Records:  # type: ignore[override]  # a catalog has no default value
        """Call the function of a data set and return its records.

        Raises:
            KeyError: no such data set; the message lists those there are.
        """
        if name not in self:
            known = ", ".join(self.keys()) or "none"
            raise KeyError(f"data set {name!r} is not registered. Registered data sets: {known}")
        return self[name]()


class Metadata(types.SimpleNamespace):
    """Attributes of one data set, e.g. ``thing_classes``. A value can be set once, and again only to an equal value."""

    name: str = "N/A"

    def __getattr__(self, key: str) -> Any:  # called only for what is not there
        known = ", ".join(sorted(self.__dict__)) or "nothing"
        raise AttributeError(f"metadata of data set {self.name!r} has no {key!r}; it has {known}")

    def __setattr__(self, key: str, value: Any) -> None:
        if key in self.__dict__ and self.__dict__[key] != value:
            raise AssertionError(
                f"metadata of data set {self.name!r}: {key!r} is {self.__dict__[key]!r} and cannot become {value!r}. "
                f"Use another data set name, or MetadataCatalog.remove({self.name!r}) first"
            )
        super().__setattr__(key, value)

    def set(self, **attributes: Any) -> "Metadata":
        """Set several attributes; returns self."""
        for key, value in attributes.items():
            setattr(self, key, value)
        return self

    def get(self, key: str, default: Any = None) -> Any:
        """An attribute, or ``default`` if it is not set."""
        return self.__dict__.get(key, default)


class _MetadataCatalog(_NamedCatalog):
    """Data set name -> ``Metadata``, made empty when first asked for and the same object afterwards."""

    def get(self, name: str) -> Metadata:  # type: ignore[override]
        """The metadata of a data set; a new empty one for a new name."""
        if not name:
            raise ValueError("the name of a data set cannot be empty")
        if name not in self:
            self[name] = Metadata(name=name)
        return self[name]


DatasetCatalog = _DatasetCatalog()
MetadataCatalog = _MetadataCatalog()
