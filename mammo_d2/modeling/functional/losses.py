"""The losses of the five methods as pure functions of tensors (torch only, no framework).

Shape shorthand:
    N: images; A: anchors of one image, all levels together; K: paired regions; C: foreground classes.

Every loss says what it is averaged over, and stays attached to the graph (value 0) when there is nothing to average.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def top_likelihood_loss(objectness_logits: Tensor, top_t: int, eligible: Tensor | None = None) -> Tensor:
    """Push the highest-scoring anchors of images without annotations to background.

    ``L_tll = (1/T) Σ_{i ∈ top T} BCE(σ(s_i), 0)`` per image, averaged over the images. The ranking itself is not
    differentiated through. Computed from logits: ``BCE(σ(s), 0) = softplus(s)``.

    Args:
        objectness_logits: (N, A) float, one row per negative image.
        top_t: T ≥ 1; an image with fewer anchors uses all of them.
        eligible: (N, A) bool, the anchors that are ranked; None: all. An image without any counts with 0.

    Returns:
        Scalar; 0 with a graph when N = 0 or A = 0.

    Raises:
        ValueError: ``top_t`` is not positive, the logits are not a matrix, or ``eligible`` has another shape.

    Source:
        Xiao et al., "Learning from suspected target", MICCAI 2019, eq. 1.
    """
    if top_t < 1:
        raise ValueError(f"top_t must be at least 1, got {top_t}")
    if objectness_logits.dim() != 2:
        raise ValueError(f"objectness_logits must be (images, anchors), got shape {tuple(objectness_logits.shape)}")
    if objectness_logits.numel() == 0:
        return objectness_logits.sum() * 0.0
    t = min(top_t, objectness_logits.shape[1])
    ranked = objectness_logits.detach()
    if eligible is None:
        top = ranked.topk(t, dim=1, sorted=False).indices
        return F.softplus(objectness_logits.gather(1, top).float()).mean()
    if eligible.shape != objectness_logits.shape:
        raise ValueError(
            f"eligible must have the logits' shape {tuple(objectness_logits.shape)}, got {tuple(eligible.shape)}"
        )
    top = ranked.masked_fill(~eligible, -torch.inf).topk(t, dim=1, sorted=False).indices
    counted = eligible.gather(1, top)
    terms = F.softplus(objectness_logits.gather(1, top).float()) * counted
    return (terms.sum(dim=1) / counted.sum(dim=1).clamp(min=1)).mean()


def similarity_loss(positive_probs: Tensor, negative_probs: Tensor) -> Tensor:
    """Mean cosine similarity between class probabilities of lesions and of paired suspected regions; minimised.

    ``L_sim = (1/K) Σ_k X1_k·X2_k / (‖X1_k‖ ‖X2_k‖)``. The gradient flows through both sides.

    Args:
        positive_probs: (K, C+1) softmax probabilities of foreground proposals of positive images.
        negative_probs: (K, C+1) softmax probabilities of the proposals of negative images paired with them.

    Returns:
        Scalar in [0, 1]; 0 with a graph when K = 0.

    Raises:
        ValueError: the two sides differ in shape.

    Source:
        Xiao et al., MICCAI 2019, eq. 3.
    """
    if positive_probs.shape != negative_probs.shape:
        raise ValueError(
            f"both sides need one row per pair, got {tuple(positive_probs.shape)} and {tuple(negative_probs.shape)}"
        )
    if positive_probs.numel() == 0:
        return (positive_probs.sum() + negative_probs.sum()) * 0.0
    return F.cosine_similarity(positive_probs, negative_probs, dim=1).mean()


def multi_label_bce(predictions: Tensor, targets: Tensor, *, from_logits: bool = False) -> Tensor:
    """Binary cross-entropy of several labels per image, unknown labels left out.

    ``(1/N) Σ_n Σ_{c: y_nc known} BCE(y_nc, ŷ_nc)``: a sum over the classes as the papers write it, and a mean over all
    images, so that the mean over parts of a batch (on several processes, or accumulated) is the batch's however the
    unknown labels lie, and every known label of a data set weighs the same. Always computed in float32.

    Args:
        predictions: (N, C) probabilities, or logits.
        targets: (N, C) in [0, 1], NaN where unknown.
        from_logits: ``predictions`` are logits.

    Returns:
        Scalar; 0 with a graph when no label is known.

    Raises:
        ValueError: the two differ in shape, or are no matrices.

    Source:
        Shen et al., MLMI 2019, eq. 1.
    """
    if predictions.dim() != 2 or predictions.shape != targets.shape:
        raise ValueError(
            f"predictions and targets must both be (images, classes), got {tuple(predictions.shape)} and "
            f"{tuple(targets.shape)}"
        )
    known = ~targets.isnan()
    wanted = torch.where(known, targets, torch.zeros_like(targets)).float()
    function = F.binary_cross_entropy_with_logits if from_logits else F.binary_cross_entropy
    # Autocast refuses the form with probabilities; in float32 there is nothing to refuse.
    with torch.autocast(predictions.device.type, enabled=False):
        entropies = function(predictions.float(), wanted, reduction="none") * known
        return entropies.sum() / max(1, len(entropies))


def sparsity_loss(saliency: Tensor, beta: float) -> Tensor:
    """``Σ_c Σ_ij |A^c_ij|^β``, averaged over the images: few and small salient cells cost little.

    Args:
        saliency: (N, C, h, w), non-negative.
        beta: β > 0. Below 1 the derivative at 0 is infinite; cells below 1e-6 get none.

    Returns:
        Scalar; 0 with a graph when N = 0.

    Raises:
        ValueError: β is not positive.

    Source:
        Shen et al., MLMI 2019, section 2.4.
    """
    if not beta > 0:
        raise ValueError(f"the exponent of the sparsity loss must be positive, got {beta}")
    cells = saliency.float()
    if beta < 1:
        cells = cells.clamp(min=1e-6)
    return cells.pow(beta).sum() / max(1, len(saliency))
