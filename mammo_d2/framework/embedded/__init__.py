"""The embedded engine: detectron2's names, config keys, parameter names and numbers on torchvision, fvcore and iopath.

Import the names from ``mammo_d2.framework``, which serves them from here or from an installed detectron2.

Where its models differ from detectron2's on purpose: masks, keypoints, deformable convolutions and the federated loss
are refused with an error that says so; YAML files that run code and configs of VERSION 1 are refused; wrong arguments
raise ValueError where detectron2 asserts; regions are not rounded to bfloat16 with the features they are pooled from;
on a CPU, training pools regions in another order of sums (``roi_align``), which moves losses by about 1e-7. All else
is the same to the last bit on one machine, initial weights under one seed included.

``DefaultTrainer`` does what any training needs. Mixed precision, gradient clipping and loaders are ``MammoTrainer``'s.
"""

from mammo_d2.framework.embedded.backbone import fpn  # noqa: F401  # importing it registers the FPN backbones
