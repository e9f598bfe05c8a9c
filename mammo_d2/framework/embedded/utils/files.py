"""File access by local path, URL or detectron2:// name."""

from typing import IO

from iopath.common.file_io import HTTPURLHandler, PathHandler
from iopath.common.file_io import PathManager as _PathManager

# Where the names detectron2://... of the public model zoo point.
MODEL_ZOO_URL = "https://dl.fbaipublicfiles.com/detectron2/"


class ModelZooHandler(PathHandler):
    """Opens detectron2://NAME by downloading it once from the public model zoo."""

    PREFIX = "detectron2://"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: object) -> str:
        return PathManager.get_local_path(MODEL_ZOO_URL + path[len(self.PREFIX) :], force=force, **kwargs)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: object) -> IO:
        return PathManager.open(MODEL_ZOO_URL + path[len(self.PREFIX) :], mode, buffering=buffering, **kwargs)


PathManager = _PathManager()  # one for the whole package, with its handlers
PathManager.register_handler(HTTPURLHandler())
PathManager.register_handler(ModelZooHandler())
