"""The embedded engine: detectron2's names, config keys, parameter names and numbers on torchvision, fvcore and iopath.

Import these names from `mammo_d2.framework`, which serves them from here or from an installed detectron2.
"""
