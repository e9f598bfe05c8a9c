"""Config keys of a report: only those that the model reads."""

from mammo_d2.config.keys import add_mammo_config
from mammo_d2.framework import get_cfg
from mammo_d2.jobs.report_parts import DEFAULT_KEYS, default_keys


def test_keys_of_proposals_are_those_of_models_with_proposals():
    cfg = get_cfg()
    add_mammo_config(cfg)
    assert default_keys(cfg) == list(DEFAULT_KEYS)
    cfg.MODEL.META_ARCHITECTURE, cfg.MODEL.BACKBONE.NAME = "GMIC", "ResNet22"
    left_out = {key for key, _ in DEFAULT_KEYS} - {key for key, _ in default_keys(cfg)}
    assert left_out == {
        "MODEL.RESNETS.DEPTH", "MODEL.PROPOSAL_GENERATOR.NAME", "MODEL.RPN.NEGATIVE_IMAGES", "MODEL.ROI_HEADS.NAME",
        "MODEL.ROI_HEADS.SIMILARITY_WEIGHT",
    }  # fmt: skip
    cfg.MODEL.META_ARCHITECTURE = "OfAnotherPackage"
    assert ("MODEL.RPN.NEGATIVE_IMAGES", "negative images in the RPN") in default_keys(cfg)
