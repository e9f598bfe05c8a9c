"""mammo_d2: detection and weak supervision on mammograms, a detectron2 plugin.

Importing ``mammo_d2.modeling`` registers every component; ``mammo_d2.config.keys`` adds the config keys.
"""

__version__ = "0.1.0"
