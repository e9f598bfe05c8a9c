"""How the images of a data set were prepared, as a file that prediction can follow."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from mammo_d2.core.files import read_json
from mammo_d2.data.prepare.prepared_image import ImageOptions, PreparedImage, prepare_pixels, untouched
from mammo_d2.data.reading.image_meta import ReadOptions
from mammo_d2.data.reading.reader import read_image


@dataclass(frozen=True)
class Preparation:
    """Everything that is done to a file before a model's own input steps: how it is read, and what is done then.

    Attributes:
        read: how DICOM files become pixels.
        image: crop, flip and scale; None leaves images as they are.
    """

    read: ReadOptions = field(default_factory=ReadOptions)
    image: ImageOptions | None = None

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Preparation:
        """Read the preparation from a prepared data set's ``manifest.json`` or a file written by ``to_dict``.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not a file of that kind, or an unknown option in it.
        """
        remedy = "name the manifest.json of a prepared data set"
        content = read_json(path, remedy=remedy, if_missing=remedy)
        try:
            read, image = dict(content["read"]), content["options"]["image"]
            read["voi_by_vendor"] = tuple((part, voi) for part, voi in read.get("voi_by_vendor", ()))
            return cls(ReadOptions(**read), None if image is None else ImageOptions(**image))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"{path}: does not say how images were prepared ({type(error).__name__}: {error}); {remedy}, "
                "made by this version"
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """The JSON form that ``from_file`` reads."""
        return {"read": asdict(self.read), "options": {"image": None if self.image is None else asdict(self.image)}}

    def apply(self, path: str | os.PathLike[str]) -> PreparedImage:
        """Read a file and prepare it in memory: the same pixels as those of a prepared data set's image.

        Raises:
            FileNotFoundError, ImageReadError: the file cannot be read.
            ValueError: a target spacing, but the file does not know its own.
        """
        source, meta = read_image(path, self.read)
        if self.image is None or self.image.keep_files:
            prepared = untouched(source, meta)
        else:
            try:
                prepared = prepare_pixels(source, meta, self.image, pixel_spacing=meta.pixel_spacing)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
        return replace(prepared, warnings=(*meta.warnings, *prepared.warnings))
