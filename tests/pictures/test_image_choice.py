"""Images spread over a data set."""

import numpy as np

from mammo_d2.pictures.image_choice import spread


def test_spread_keeps_the_ends():
    assert spread(np.arange(9), 3).tolist() == [0, 4, 8]
    assert spread(np.arange(3), 3).tolist() == [0, 1, 2]
