"""What training a method means. Importing this package registers the jobs."""

from mammo_d2.jobs.backbone_job import BackboneJob
from mammo_d2.jobs.job import JOB_REGISTRY, Job, JobOptions, build_job
from mammo_d2.jobs.lesion.lesion_job import LesionContextJob
from mammo_d2.jobs.lesion.patch_job import LesionPatchJob
from mammo_d2.jobs.single_stage import SingleStageJob
from mammo_d2.jobs.two_stage import TwoStageJob
from mammo_d2.jobs.untrained import UntrainedJob

__all__ = [
    "JOB_REGISTRY",
    "BackboneJob",
    "Job",
    "JobOptions",
    "LesionContextJob",
    "LesionPatchJob",
    "SingleStageJob",
    "TwoStageJob",
    "UntrainedJob",
    "build_job",
]
