"""Containers between the parts of a model: ``Instances`` of one image, and images batched to one tensor."""

import itertools
import warnings
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


class Instances:
    """The objects of one image: named fields of equal length, one entry per object.

    Fields are set and read as attributes. Fields hold anything with a length: tensors ``(N, ...)``, ``Boxes``, lists.
    Note that an ``Instances`` of zero objects is falsy; test for ``is not None``.
    """

    def __init__(self, image_size: tuple[int, int], **kwargs: Any) -> None:
        """Start with the given fields.

        Args:
            image_size: (height, width) of the image whose pixels the boxes are in.
            **kwargs: the fields.
        """
        self._image_size = image_size
        self._fields: dict[str, Any] = {}
        for name, value in kwargs.items():
            self.set(name, value)

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the image."""
        return self._image_size

    def __setattr__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            super().__setattr__(name, value)
        else:
            self.set(name, value)

    def __getattr__(self, name: str) -> Any:
        # Reached only for names that are no ordinary attributes. "_fields" itself may be missing while unpickling.
        fields = self.__dict__.get("_fields", {})
        if name not in fields:
            raise AttributeError(f"Instances have no field {name!r}; they have {sorted(fields)}")
        return fields[name]

    def set(self, name: str, value: Any) -> None:
        """Add or replace a field.

        Raises:
            ValueError: its length differs from that of the fields already there.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            length = len(value)
        if self._fields and length != len(self):
            raise ValueError(f"field {name!r} has the length {length}, but these Instances have {len(self)} objects")
        self._fields[name] = value

    def has(self, name: str) -> bool:
        return name in self._fields

    def get(self, name: str) -> Any:
        return self._fields[name]

    def remove(self, name: str) -> None:
        del self._fields[name]

    def get_fields(self) -> dict[str, Any]:
        """Return the dict of fields itself, not a copy."""
        return self._fields

    def to(self, *args: Any, **kwargs: Any) -> "Instances":
        """Return Instances whose fields were moved by their own ``to``; fields without one are shared."""
        moved = {n: v.to(*args, **kwargs) if hasattr(v, "to") else v for n, v in self._fields.items()}
        return Instances(self._image_size, **moved)

    def __getitem__(self, item: Any) -> "Instances":
        """Select objects by an int, a slice, or an index or mask tensor, in every field."""
        if type(item) is int:
            if not -len(self) <= item < len(self):
                raise IndexError(f"there is no object {item} among {len(self)}")
            item = slice(item, None, len(self))
        return Instances(self._image_size, **{name: value[item] for name, value in self._fields.items()})

    def __len__(self) -> int:
        for value in self._fields.values():
            return len(value)
        raise NotImplementedError("Instances without any field have no length")

    def __iter__(self) -> Any:
        raise NotImplementedError("Instances are not iterable; index them, or iterate over a field")

    @staticmethod
    def cat(instance_lists: Sequence["Instances"]) -> "Instances":
        """Join Instances of one image; the fields are those of the first.

        Raises:
            ValueError: the list is empty, image sizes differ, or a field's type cannot be joined.
        """
        if not instance_lists:
            raise ValueError("there are no Instances to join")
        first = instance_lists[0]
        if len(instance_lists) == 1:
            return first
        sizes = {tuple(instances.image_size) for instances in instance_lists}
        if len(sizes) > 1:
            raise ValueError(f"cannot join Instances of images of different sizes: {sorted(sizes)}")
        joined = Instances(first.image_size)
        for name, example in first.get_fields().items():
            joined.set(name, _cat_field(name, example, [instances.get(name) for instances in instance_lists]))
        return joined

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}: {value}" for name, value in self._fields.items())
        count = len(self) if self._fields else 0
        height, width = self._image_size
        return f"Instances(num_instances={count}, image_height={height}, image_width={width}, fields=[{fields}])"


def _cat_field(name: str, example: Any, values: list) -> Any:
    if isinstance(example, Tensor):
        return torch.cat(values, dim=0)
    if isinstance(example, list):
        return list(itertools.chain.from_iterable(values))
    if hasattr(type(example), "cat"):
        return type(example).cat(values)
    raise ValueError(f"field {name!r}: values of type {type(example).__name__} cannot be joined")


class ImageList:
    """Images of different sizes in one tensor, padded at the bottom and on the right.

    Attributes:
        tensor: ``(N, C, H, W)``.
        image_sizes: (height, width) of each image before padding.
    """

    def __init__(self, tensor: Tensor, image_sizes: list[tuple[int, int]]) -> None:
        self.tensor = tensor
        self.image_sizes = image_sizes

    def __len__(self) -> int:
        return len(self.image_sizes)

    def __getitem__(self, idx: int) -> Tensor:
        """Return image ``idx`` without its padding."""
        height, width = self.image_sizes[idx]
        return self.tensor[idx, ..., :height, :width]

    def to(self, *args: Any, **kwargs: Any) -> "ImageList":
        return ImageList(self.tensor.to(*args, **kwargs), self.image_sizes)

    @property
    def device(self) -> torch.device:
        return self.tensor.device

    @staticmethod
    def from_tensors(
        tensors: Sequence[Tensor],
        size_divisibility: int = 0,
        pad_value: float = 0.0,
        padding_constraints: dict[str, int] | None = None,
    ) -> "ImageList":
        """Batch images by padding them to their largest height and width.

        Args:
            tensors: images ``(C, H_i, W_i)`` or ``(H_i, W_i)`` of one type and device.
            size_divisibility: the batch's height and width are rounded up to a multiple of this, if above 1.
            pad_value: value of the padding.
            padding_constraints: a backbone's: "size_divisibility" replaces the argument, and a positive
                "square_size" pads to that square.

        Raises:
            ValueError: the list is empty, or the images differ in more than their size.
        """
        if not tensors:
            raise ValueError("there are no images to batch")
        leading = tensors[0].shape[:-2]
        if any(image.shape[:-2] != leading for image in tensors):
            raise ValueError(f"images of one batch must have the same channels: {[tuple(t.shape) for t in tensors]}")
        constraints = padding_constraints or {}
        divisor = max(1, constraints.get("size_divisibility", size_divisibility))
        square = constraints.get("square_size", 0)

        image_sizes = [(image.shape[-2], image.shape[-1]) for image in tensors]
        largest = [square, square] if square > 0 else [max(size[i] for size in image_sizes) for i in (0, 1)]
        height, width = (-(-side // divisor) * divisor for side in largest)
        if len(tensors) == 1:
            rows, columns = image_sizes[0]
            batch = F.pad(tensors[0], (0, width - columns, 0, height - rows), value=pad_value)[None]
        else:
            batch = tensors[0].new_full((len(tensors), *leading, height, width), pad_value)
            for padded, image, (rows, columns) in zip(batch, tensors, image_sizes, strict=True):
                padded[..., :rows, :columns] = image
        return ImageList(batch.contiguous(), image_sizes)
