"""The maker of a mammography system by the tag Manufacturer, in one spelling, for counts."""

from __future__ import annotations

import re

OTHER_VENDOR = "other"
# Part of the Manufacturer, in lower case -> name; the first that fits. Makers of digital mammography systems, film
# scanners and computed radiography, from their products' names; not checked against files of each.
_VENDORS = (
    ("hologic", "Hologic"), ("lorad", "Hologic"), ("ge", "GE"), ("general electric", "GE"), ("siemens", "Siemens"),
    ("fuji", "Fujifilm"), ("philips", "Philips"), ("sectra", "Philips"), ("planmed", "Planmed"),
    ("giotto", "IMS Giotto"), ("ims", "IMS Giotto"), ("metaltronica", "Metaltronica"), ("carestream", "Carestream"),
    ("kodak", "Carestream"), ("agfa", "Agfa"), ("konica", "Konica Minolta"), ("canon", "Canon"), ("toshiba", "Canon"),
    ("fischer", "Fischer"), ("instrumentarium", "Instrumentarium"), ("lumisys", "Lumisys"), ("howtek", "Howtek"),
    ("vidar", "Vidar"), ("xcounter", "XCounter"), ("dms", "DMS"), ("analogic", "Analogic"), ("genoray", "Genoray"),
    ("drgem", "DRGEM"), ("villa", "Villa"), ("samsung", "Samsung"), ("shimadzu", "Shimadzu"), ("phantom", "phantom"),
)  # fmt: skip


def vendor_of(manufacturer: str) -> str | None:
    """The maker in one spelling; "other" for names that are not known here, None for an empty tag.

    Unknown names are not repeated: the tag is free text, in which anything may have been written.
    """
    words = re.findall(r"[a-z]+", manufacturer.lower())
    if not words:
        return None
    text = " ".join(words)
    for part, name in _VENDORS:
        # Short names are whole words: "ge" is in "images".
        if part in words or (len(part) > 3 and part in text):
            return name
    return OTHER_VENDOR
