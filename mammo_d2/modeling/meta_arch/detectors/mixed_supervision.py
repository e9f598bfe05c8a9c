"""MixedSupervisionRCNN: a detector that learns from boxes where there are boxes, and elsewhere from image labels."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mammo_d2.framework import (
    META_ARCH_REGISTRY,
    Boxes,
    CfgNode,
    EventStorage,
    GeneralizedRCNN,
    ImageList,
    Instances,
    configurable,
    get_event_storage,
)
from mammo_d2.modeling.functional.label_only_losses import (
    OTHER_PROPOSALS,
    POOLINGS,
    SelfLabels,
    pooled_log_probs,
    self_label_loss,
    self_labels,
)
from mammo_d2.modeling.functional.mil import image_loss, pad_regions
from mammo_d2.modeling.image_labels import Finding, findings_from_config, image_targets

LABEL_LOSSES = ("mil", "self", "both", "none")


@META_ARCH_REGISTRY.register()
class MixedSupervisionRCNN(GeneralizedRCNN):
    """GeneralizedRCNN that also learns from images with a label and without boxes.

    In training the images of a batch pass through the backbone together. Images with boxes and images known to be
    negative go on through proposal generator and ROI heads as in GeneralizedRCNN. A label-only image (its input has
    ``image_labels``: it shows, or may show, a finding without a box) takes no part in their losses, neither as a
    positive nor as a negative image. Its best proposals, made as at the test, are classified by the box head, and

    * ``mil``: their pooled probability of each class is compared with the image's label (``loss_mil``);
    * ``self``: the best proposal of each class present stands in for a ground-truth box (``loss_self``, and on request
      ``loss_self_box_reg`` and ``loss_self_rpn``), weighted by its score.

    A batch without label-only images has the losses of GeneralizedRCNN, and 0 for these. Inference is its own.

    Source:
        Bilen and Vedaldi, CVPR 2016 (WSDDN); Tang et al., CVPR 2017 (OICR). See ``functional/label_only_losses.py``.
    """

    learns_from_label_only = True

    roi_heads: Any
    proposal_generator: Any
    pixel_mean: Tensor

    @configurable
    def __init__(
        self,
        *,
        classes: Sequence[str],
        loss: str = "mil",
        pooling: str = "max",
        top_k: int = 8,
        mil_weight: float = 1.0,
        self_weight: float = 1.0,
        self_iou: float = 0.5,
        self_others: str = "background",
        self_boxes: bool = False,
        self_rpn: bool = False,
        num_proposals: int = 0,
        start_iter: int = 0,
        **kwargs: Any,
    ):
        """
        Args:
            classes: names of the C detection classes, by number.
            loss: of label-only images: "mil", "self", "both" or "none".
            pooling, top_k: see ``pooled_log_probs``.
            mil_weight, self_weight: of the losses.
            self_iou, self_others: see ``self_labels``.
            self_boxes: proposals with a seed's class learn its box.
            self_rpn: the proposal generator learns the seeds as ground truth.
            num_proposals: proposals of a label-only image that are classified; 0: as many as are sampled in others.
            start_iter: first iteration in which label-only images count.
            kwargs: arguments of GeneralizedRCNN.

        Raises:
            ValueError: a value that is not allowed, or ROI heads that do not classify given boxes.
        """
        super().__init__(**kwargs)
        check_mixed_options(
            loss=loss,
            pooling=pooling,
            top_k=top_k,
            mil_weight=mil_weight,
            self_weight=self_weight,
            self_iou=self_iou,
            self_others=self_others,
            num_proposals=num_proposals,
            start_iter=start_iter,
        )
        if not hasattr(self.roi_heads, "classify_regions"):
            raise ValueError(
                f"MODEL.ROI_HEADS.NAME {type(self.roi_heads).__name__} does not classify given boxes: "
                "MixedSupervisionRCNN needs SimilarityROIHeads or SimilarityRes5ROIHeads (with "
                "MODEL.ROI_HEADS.SIMILARITY_WEIGHT 0.0 they are the ordinary heads)"
            )
        if self_rpn and self.proposal_generator is None:
            raise ValueError("MODEL.MIXED.SELF_RPN is True, but precomputed proposals are not learned; set it to False")
        self.findings = [Finding(name, (name,)) for name in classes]
        self.has_mil, self.has_self = loss in ("mil", "both"), loss in ("self", "both")
        self.pooling, self.top_k = pooling, top_k
        self.mil_weight, self.self_weight = mil_weight, self_weight
        self.self_iou, self.self_others = self_iou, self_others
        self.self_boxes, self.self_rpn = self_boxes and self.has_self, self_rpn and self.has_self
        self.num_proposals = num_proposals or self.roi_heads.batch_size_per_image
        self.start_iter = start_iter

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """
        Raises:
            ValueError: scores that are independent of each other; the losses are those of a softmax.
        """
        if cfg.MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE:
            raise ValueError("MixedSupervisionRCNN needs softmax scores: set MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE False")
        keys = cfg.MODEL.MIXED
        return {
            **super().from_config(cfg),
            "classes": [finding.name for finding in findings_from_config(cfg)],
            **{name.lower(): value for name, value in keys.items()},
        }

    @classmethod
    def gives(cls, cfg: CfgNode) -> set[str]:
        """Keys of the outputs that an evaluator may need."""
        return {"instances"}

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict]:
        """As GeneralizedRCNN's; in training an input with ``image_labels`` {class: 1, 0 or None} is label-only."""
        if not self.training:
            return self.inference(batched_inputs)
        weak = [i for i, x in enumerate(batched_inputs) if x.get("image_labels") is not None]
        if not weak:
            supervised = super().forward(batched_inputs)
            assert isinstance(supervised, dict)
            return {**supervised, **self._no_losses(supervised)}
        images = self.preprocess_image(batched_inputs)
        features = self.backbone(images.tensor)
        others = [i for i in range(len(batched_inputs)) if i not in weak]
        # Without other images their losses are 0, with a graph: the losses have the same names in every batch.
        losses = self._losses_of_others(batched_inputs, images, features, others or weak)
        if not others:
            losses = {name: loss * 0.0 for name, loss in losses.items()}
        return {**losses, **self._no_losses(losses), **self._label_losses(batched_inputs, images, features, weak)}

    def _losses_of_others(
        self, inputs: list[dict], images: ImageList, features: dict[str, Tensor], rows: list[int]
    ) -> dict[str, Tensor]:
        """The losses of GeneralizedRCNN on some images of the batch."""
        images, features = _part(images, features, rows)
        truth = [inputs[i]["instances"].to(self.device) for i in rows]
        if self.proposal_generator is not None:
            proposals, proposal_losses = self.proposal_generator(images, features, truth)
        else:
            proposals, proposal_losses = [inputs[i]["proposals"].to(self.device) for i in rows], {}
        _, detector_losses = self.roi_heads(images, features, proposals, truth)
        if self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
            self.visualize_training([inputs[i] for i in rows], proposals)
        return {**detector_losses, **proposal_losses}

    def _no_losses(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """The losses of label-only images as 0 with a graph."""
        names = [
            *(["loss_mil"] if self.has_mil else []),
            *(["loss_self"] if self.has_self else []),
            *(["loss_self_box_reg"] if self.self_boxes else []),
            *(["loss_self_rpn"] if self.self_rpn else []),
        ]
        return {name: sum(losses.values(), self.pixel_mean.new_zeros(())) * 0.0 for name in names}

    def _label_losses(
        self, inputs: list[dict], images: ImageList, features: dict[str, Tensor], rows: list[int]
    ) -> dict[str, Tensor]:
        """The losses of the label-only images, averaged over them; none before ``start_iter``."""
        if get_event_storage().iter < self.start_iter or not (self.has_mil or self.has_self):
            return {}
        images, features = _part(images, features, rows)
        proposals = self._best_proposals([inputs[i] for i in rows], images, features)
        if not all(len(boxes) for boxes in proposals):
            # Boxes without area only: no region to learn from. The batch does without its label-only images.
            return {}
        logits, deltas = self.roi_heads.classify_regions(features, proposals)
        counts = [len(boxes) for boxes in proposals]
        per_image = logits.split(counts)
        labels = [{"labels": inputs[i]["image_labels"]} for i in rows]
        targets = image_targets(labels, self.findings, self.device)
        losses = {}
        if self.has_mil:
            losses["loss_mil"] = self.mil_weight * self._mil_loss(per_image, targets)
        if self.has_self:
            assigned = [
                self_labels(scores, boxes.tensor, target == 1, self.self_iou, self.self_others)
                for scores, boxes, target in zip(per_image, proposals, targets, strict=True)
            ]
            terms = [self_label_loss(scores, own) for scores, own in zip(per_image, assigned, strict=True)]
            losses["loss_self"] = self.self_weight * torch.stack(terms).mean()
            if self.self_boxes:
                parts = zip(proposals, deltas.split(counts), assigned, strict=True)
                terms = [self._box_loss(boxes.tensor, own_deltas, own) for boxes, own_deltas, own in parts]
                losses["loss_self_box_reg"] = self.self_weight * torch.stack(terms).mean()
            if self.self_rpn:
                terms = self._rpn_losses(images, features, proposals, assigned)
                if terms:
                    losses["loss_self_rpn"] = self.self_weight * torch.stack(terms).sum() / len(rows)
        return losses

    def _best_proposals(self, inputs: list[dict], images: ImageList, features: dict[str, Tensor]) -> list[Boxes]:
        """Per image the boxes with the highest objectness, made as at the test: no loss, and no truth to make them."""
        generator = self.proposal_generator
        if generator is None:
            proposals = [x["proposals"].to(self.device) for x in inputs]
        else:
            training = generator.training
            generator.eval()
            try:
                with torch.no_grad():
                    proposals, _ = generator(images, features, None)
            finally:
                generator.train(training)
        return [image.proposal_boxes[: self.num_proposals] for image in proposals]

    def _mil_loss(self, per_image: Sequence[Tensor], targets: Tensor) -> Tensor:
        probs = pooled_log_probs(*pad_regions(list(per_image)), len(self.findings), self.pooling, self.top_k)
        shown = probs.log_prob.detach()[targets == 1]
        if len(shown):
            get_event_storage().put_scalar("mixed/score_of_label", shown.exp().mean().item())
        return image_loss(probs, targets)

    def _box_loss(self, boxes: Tensor, deltas: Tensor, labels: SelfLabels) -> Tensor:
        """Regression of an image's proposals to their seeds, as of ground truth, weighted by the seeds' scores."""
        predictor, background = self.roi_heads.box_predictor, len(self.findings)
        loss = deltas.sum() * 0.0
        for number, (seed, score) in enumerate(zip(labels.seeds, labels.seed_scores, strict=True)):
            classes = torch.where(labels.nearest == number, labels.classes, background)
            target = boxes[seed].expand_as(boxes)
            loss = loss + score * predictor.box_reg_loss(boxes, target, deltas, classes)
        return loss * predictor.loss_weight.get("loss_box_reg", 1.0)

    def _rpn_losses(
        self, images: ImageList, features: dict[str, Tensor], proposals: list[Boxes], labels: list[SelfLabels]
    ) -> list[Tensor]:
        """Per image with seeds the proposal generator's losses with them as ground truth, weighted by their score."""
        losses = []
        for row, own in enumerate(labels):
            if not len(own.seeds):
                continue
            truth = Instances(images.image_sizes[row])
            truth.gt_boxes = Boxes(proposals[row].tensor[own.seeds])
            truth.gt_classes = own.seed_classes
            with EventStorage():  # what the generator logs is meant for images with boxes
                _, terms = self.proposal_generator(*_part(images, features, [row]), [truth])
            losses.append(own.seed_scores.mean() * sum(terms.values()))
        return losses


def _part(images: ImageList, features: dict[str, Tensor], rows: list[int]) -> tuple[ImageList, dict[str, Tensor]]:
    """Some images of a batch and their feature maps."""
    part = ImageList(images.tensor[rows], [images.image_sizes[i] for i in rows])
    return part, {name: maps[rows] for name, maps in features.items()}


def check_mixed_options(**options: Any) -> None:
    """Check the values of MODEL.MIXED, in small letters; ValueError for one that is not allowed."""
    choices = {"loss": LABEL_LOSSES, "pooling": POOLINGS, "self_others": OTHER_PROPOSALS}
    least = {"top_k": 1, "num_proposals": 0, "start_iter": 0, "mil_weight": 0, "self_weight": 0}
    for name, value in options.items():
        key = f"MODEL.MIXED.{name.upper()} is {value!r}"
        if name in choices and value not in choices[name]:
            raise ValueError(f"{key}; use one of {', '.join(choices[name])}")
        if name in least and not least[name] <= value < math.inf:
            raise ValueError(f"{key}; it must be at least {least[name]}")
        if name == "self_iou" and not 0 < value <= 1:
            raise ValueError(f"{key}; it must be more than 0 and at most 1")
