"""The embedded engine's checkpointer."""

from typing import Any

from torch import nn

from mammo_d2.framework.embedded.utils import comm
from mammo_d2.framework.embedded.utils.files import PathManager
from mammo_d2.framework.weights.checkpoint_io import SafeCheckpointing


class SafeCheckpointer(SafeCheckpointing):
    """Saves and loads a model and the state of the objects given with it; only rank 0 writes."""

    def __init__(self, model: nn.Module, save_dir: str = "", *, save_to_disk: bool | None = None, **kwargs: Any):
        """
        Args:
            model: the model; of one wrapped for distributed training, the module inside.
            save_dir: folder of the checkpoints.
            save_to_disk: whether ``save`` writes; default: on rank 0.
            kwargs: ``strict_weights`` (see SafeCheckpointing), and objects with state_dict() and load_state_dict().
        """
        super().__init__(
            model, save_dir, save_to_disk=comm.is_main_process() if save_to_disk is None else save_to_disk, **kwargs
        )
        self.path_manager = PathManager
