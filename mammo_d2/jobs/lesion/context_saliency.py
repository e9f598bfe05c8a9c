"""The context stage of the lesion classifier: the saliency of every image by a trained GMIC, stored in a folder."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F

from mammo_d2.config.loading import load_config
from mammo_d2.config.named_configs import config_that_makes
from mammo_d2.data.format.catalog import category_names
from mammo_d2.data.lesions.stage_loaders import store_from_config
from mammo_d2.data.lesions.stores import SaliencyStore
from mammo_d2.data.loading.mapper import MammoMapper
from mammo_d2.engine.trainer import MammoTrainer
from mammo_d2.framework import CfgNode, SafeCheckpointer, comm
from mammo_d2.jobs.lesion.lesion_stages import CONTEXT_MODEL, cache_folder, digest_of

logger = logging.getLogger(__name__)

# Output of the context network by MODEL.LESION.SALIENCY_PLACEMENT.
_PLACED = {"published": "network_saliency", "receptive_field": "saliency"}

# Raised when saliency changes although weights and settings do not.
SALIENCY_FORMAT = "3"


def needs_saliency(cfg: CfgNode) -> bool:
    """Whether the model of a stage's config sees saliency."""
    return cfg.MODEL.META_ARCHITECTURE == CONTEXT_MODEL and "saliency" in cfg.MODEL.LESION.MAPS


def make_saliency(cfg: CfgNode, records: Sequence[dict]) -> None:
    """Run the context network on the images whose saliency is missing, shared among the ranks.

    The maps cover the image file. Maps of another size than MODEL.LESION.MAP_SIZE are averaged to it; in the published
    form they have it already.
    """
    store, context, key = saliency_store(cfg), context_config(cfg), _PLACED[cfg.MODEL.LESION.SALIENCY_PLACEMENT]
    missing = [
        record for record in records[comm.get_rank() :: comm.get_world_size()] if not store.path(record).is_file()
    ]
    if missing:
        logger.info("context: saliency of %d of %d images", len(missing), len(records))
        model = MammoTrainer.build_model(context).eval()
        SafeCheckpointer(model, strict_weights=True).load(context.MODEL.WEIGHTS)
        mapper = MammoMapper(context, is_train=False)
        for record in missing:
            with torch.inference_mode():
                saliency = model([mapper({**record, "annotations": []})])[0][key]
                maps = F.adaptive_avg_pool2d(saliency.float().cpu(), tuple(cfg.MODEL.LESION.MAP_SIZE))
            store.put(record, maps.numpy())
    comm.synchronize()


def saliency_store(cfg: CfgNode) -> SaliencyStore:
    """The store of the context network's saliency, keyed by weights, settings and map size."""
    context = context_config(cfg)
    described = [context.MODEL.dump(), context.INPUT.dump(), str(tuple(cfg.MODEL.LESION.MAP_SIZE))]
    # The path of the weights and the device do not change the result.
    described[0] = described[0].replace(context.MODEL.WEIGHTS, "").replace(context.MODEL.DEVICE, "")
    described += [SALIENCY_FORMAT, cfg.MODEL.LESION.SALIENCY_PLACEMENT]
    key = digest_of(described, cfg.MODEL.LESION.CONTEXT_WEIGHTS)
    return SaliencyStore(cache_folder(cfg) / "saliency", key, store_from_config(cfg))


def context_config(cfg: CfgNode) -> CfgNode:
    """The context network's config.

    Raises:
        FileNotFoundError: no such config or weights.
        ValueError: another number of classes than MODEL.LESION.SALIENCY_MAPS, or an unknown placement.
    """
    keys = cfg.MODEL.LESION
    if keys.SALIENCY_PLACEMENT not in _PLACED:
        raise ValueError(
            f"MODEL.LESION.SALIENCY_PLACEMENT is {keys.SALIENCY_PLACEMENT!r}; use one of {', '.join(_PLACED)}"
        )
    if not Path(keys.CONTEXT_WEIGHTS).is_file():
        maker = config_that_makes(keys.CONTEXT_WEIGHTS) or keys.CONTEXT_CONFIG
        raise FileNotFoundError(
            f"MODEL.LESION.CONTEXT_WEIGHTS {keys.CONTEXT_WEIGHTS!r}: no such file; mammo-d2 train --config-file "
            f"{maker} makes it (the head of that file says from what), or name model_final.pth of another GMIC"
        )
    # The weights include the patch network: the file it started from is not needed.
    settings = {"WEIGHTS": keys.CONTEXT_WEIGHTS, "DEVICE": cfg.MODEL.DEVICE, "GMIC.PATCH_WEIGHTS": ""}
    context = load_config(
        keys.CONTEXT_CONFIG, [word for key, value in settings.items() for word in (f"MODEL.{key}", value)]
    )
    classes = category_names(context)
    if len(classes) != keys.SALIENCY_MAPS:
        raise ValueError(
            f"MODEL.LESION.SALIENCY_MAPS is {keys.SALIENCY_MAPS}, but the context network of {keys.CONTEXT_CONFIG} has "
            f"{len(classes)} class(es): {', '.join(classes)}"
        )
    return context
