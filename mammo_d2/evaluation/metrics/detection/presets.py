"""Published evaluation rules by name, each with its source and with what it does differently from the others."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mammo_d2.evaluation.metrics.detection.froc import FrocRule
from mammo_d2.evaluation.metrics.detection.matching import HitRule

LUNA_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
COCO_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).round(2).tolist())


@dataclass(frozen=True)
class Preset:
    """A named rule.

    Attributes:
        name: the name.
        rule: how detections and lesions are matched, and how the FROC curve is read.
        ap_rule: how they are matched for the average precision.
        ap: interpolation of the average precision.
        thresholds: hit thresholds over which AP is averaged.
        headline: the number the rule is known for: "AP" or "mean_sens".
        source: where the rule comes from and what is particular about it.
        script: the challenge's own numbers that are given beside: "dbtex" (``dbtex_script``), "picai"
            (``RankingScore``), or "" for none.
    """

    name: str
    rule: FrocRule
    ap_rule: FrocRule
    ap: str
    thresholds: tuple[float, ...]
    headline: str
    source: str
    script: str = ""

    def ap_rule_at(self, threshold: float) -> FrocRule:
        """The AP's matching at a hit threshold."""
        return replace(self.ap_rule, hit=replace(self.ap_rule.hit, threshold=threshold))

    def __str__(self) -> str:
        ap = (
            f"AP: {self.ap}, hit: {self.ap_rule.hit}, matching: {self.ap_rule.matching}, extra hits: "
            f"{self.ap_rule.extra_hits}, thresholds: {', '.join(f'{t:g}' for t in self.thresholds)}"
        )
        return f"preset {self.name} ({self.headline}); {self.rule}; {ap}"


def _preset(
    name: str,
    rule: FrocRule,
    ap: str,
    headline: str,
    source: str,
    thresholds: tuple[float, ...] = (),
    ap_rule: FrocRule | None = None,
    script: str = "",
) -> Preset:
    ap_rule = ap_rule or rule
    return Preset(name, rule, ap_rule, ap, thresholds or (ap_rule.hit.threshold,), headline, source, script)


# Their average precision counts what is detected in any image.
_COCO_RULE = FrocRule(hit=HitRule("iou", 0.5), matching="greedy", extra_hits="fp", fp_images="all")
_VOC_RULE = FrocRule(
    hit=HitRule("iou", 0.5, strict=True, pixel_offset=1.0), matching="best", extra_hits="fp", fp_images="all"
)

PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        _preset(
            "default",
            FrocRule(),
            "coco101",
            "mean_sens",
            "This package's own: every hit at IoU >= 0.5 counts, more hits on one lesion are ignored, all images of "
            "known truth are counted, sensitivity by steps (achievable). AP is COCO's.",
            COCO_THRESHOLDS,
            _COCO_RULE,
        ),
        _preset(
            "coco",
            _COCO_RULE,
            "coco101",
            "AP",
            "Lin et al. 2014, pycocotools: greedy one-to-one matching by falling score to the best free lesion, more "
            "hits are false positives, AP over IoU 0.50:0.05:0.95 at 101 recalls. pycocotools keeps 100 detections per "
            "image; here all are kept. Equal scores are one group; pycocotools lets the order of the file decide.",
            COCO_THRESHOLDS,
        ),
        _preset(
            "voc07",
            _VOC_RULE,
            "voc11",
            "AP",
            "Everingham et al. 2010 for 2007: IoU > 0.5 with sides counted as x1 - x0 + 1, a detection belongs to the "
            "lesion it overlaps most and is false if that one is taken, 11 recalls. An ignored lesion is VOC's "
            "difficult one.",
        ),
        _preset(
            "voc10",
            _VOC_RULE,
            "area",
            "AP",
            "PASCAL VOC from 2010 on: as voc07, with the area under the monotone precision-recall curve.",
        ),
        _preset(
            "luna16",
            FrocRule(
                hit=HitRule("center_radius", 1.0, strict=True),
                interpolation="linear",
                rates=LUNA_RATES,
                max_detections=100,
            ),
            "sum",
            "mean_sens",
            "Setio et al. 2017: centre distance below the lesion's radius (here half its longer side), more hits and "
            "marks on excluded findings ignored, at most 100 marks per scan, linear interpolation; mean sensitivity "
            "is the competition performance metric. Its script fails or warns on a detector without false positives.",
        ),
        _preset(
            "camelyon",
            FrocRule(hit=HitRule("center_in_box"), interpolation="linear", rates=LUNA_RATES[1:]),
            "sum",
            "mean_sens",
            "CAMELYON16 and MONAI: a hit is a point in the lesion (here the box centre in the lesion's box), linear "
            "interpolation at 1/4 to 8 per image. MONAI leaves out the lowest threshold, so that a detector without "
            "false positives, all of one score, gets 0; here every threshold counts.",
        ),
        _preset(
            "dbtex",
            FrocRule(
                hit=HitRule("center_max", 100.0),
                matching="best",
                fp_images="positive",
                interpolation="linear",
                rates=(1.0, 2.0, 3.0, 4.0),
            ),
            "sum",
            "mean_sens",
            "DBTex1/2 (Konz et al. 2023), primary: centre distance within max(half diagonal, 100 pixels), mean "
            "sensitivity at 1, 2, 3, 4 false positives per image over images with a lesion only. A detection is "
            "credited to the nearest lesion (the challenge server took the first in the file); the rule about slices "
            "has no meaning here. Its evaluate() samples the curve only at hits and interpolates between them, which "
            "no threshold achieves; challenge/... has its numbers.",
            script="dbtex",
        ),
        _preset(
            "dbtex_all",
            FrocRule(
                hit=HitRule("center_max", 100.0),
                matching="best",
                fp_images="all",
                interpolation="linear",
                rates=(2.0,),
            ),
            "sum",
            "mean_sens",
            "DBTex1/2, secondary: sensitivity at 2 false positives per image over all images.",
        ),
        _preset(
            "nndetection",
            FrocRule(
                hit=HitRule("iou", 0.1),
                matching="greedy",
                extra_hits="fp",
                interpolation="linear",
                rates=LUNA_RATES,
                pooling="same_class",
                max_detections=100,
            ),
            "coco101",
            "mean_sens",
            "Baumgartner et al. 2021: IoU >= 0.1, COCO matching within each class, at most 100 detections per image "
            "and class, linear interpolation; all classes in one curve. It gives 0 where there is no lesion.",
        ),
        _preset(
            "picai",
            FrocRule(hit=HitRule("iou", 0.1), matching="hungarian", rates=LUNA_RATES),
            "sum",
            "AP",
            "PI-CAI (Saha et al. 2024), picai_eval: overlap >= 0.1, one-to-one with the most matches and then the "
            "largest overlap whatever the scores, more hits ignored, lesion AP without interpolation, sensitivity by "
            "steps. challenge/.../ranking_score is the mean of this AP and the AUC of the images.",
            script="picai",
        ),
    )
}


def get_preset(name: str) -> Preset:
    """The preset of a name.

    Raises:
        ValueError: an unknown name.
    """
    if name not in PRESETS:
        raise ValueError(f"preset {name!r} is none of {', '.join(PRESETS)}")
    return PRESETS[name]
