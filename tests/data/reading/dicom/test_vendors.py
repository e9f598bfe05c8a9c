import pytest

from mammo_d2.data.reading.dicom.vendors import vendor_of


@pytest.mark.parametrize(
    ("manufacturer", "vendor"),
    [
        ("HOLOGIC, Inc.", "Hologic"),
        ("LORAD, A Hologic Company", "Hologic"),
        ("GE MEDICAL SYSTEMS", "GE"),
        ("GE Healthcare", "GE"),
        ("Siemens Healthineers", "Siemens"),
        ("FUJIFILM Corporation", "Fujifilm"),
        ("FUJI PHOTO FILM Co., ltd.", "Fujifilm"),
        ("IMS s.r.l.", "IMS Giotto"),
        ("Images of Jane Doe", "other"),
        ("  ", None),
        ("", None),
    ],
)
def test_names_in_one_spelling_and_no_free_text(manufacturer, vendor):
    assert vendor_of(manufacturer) == vendor
