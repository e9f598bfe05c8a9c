"""Instances and ground truth to numbers: numeric cores on numpy, and thin evaluators over them.

Everything here but ``evaluators``, the framework's face, imports neither torch nor the framework.
"""
