import numpy as np
import pytest

from mammo_d2.phantom import PhantomConfig
from mammo_d2.phantom.breast.anatomy import draw_patient
from mammo_d2.phantom.breast.outline import view_geometry
from mammo_d2.phantom.breast.tissue import make_tissue
from mammo_d2.phantom.findings.placement import ViewPlan, place


@pytest.fixture(scope="module")
def breast_and_plans():
    config = PhantomConfig(rows=320, cols=256, n_patients=5)
    patient = draw_patient(config, 1, "healthy", False, False)
    breast = patient.breasts["L"]
    plans = {}
    for view in ("CC", "MLO"):
        geometry = view_geometry(config, breast, view, np.random.default_rng(0))
        plans[view] = ViewPlan(geometry, make_tissue(geometry, patient, breast, np.random.default_rng(1)))
    return breast, plans


def test_same_depth_from_the_nipple_in_both_views(breast_and_plans):
    breast, plans = breast_and_plans
    for seed in range(10):
        centres = place(plans, breast, 8.0, 12.0, np.random.default_rng(seed))
        depths = [
            np.dot(np.array(centres[view]) - plan.geometry.nipple, plan.geometry.axis) for view, plan in plans.items()
        ]
        assert depths[0] == pytest.approx(depths[1])
        assert 0.1 * breast.depth < depths[0] < 0.9 * breast.depth


def test_a_place_is_inside_the_breast_and_clear_of_the_muscle(breast_and_plans):
    breast, plans = breast_and_plans
    for seed in range(20):
        for view, centre in place(plans, breast, 8.0, 12.0, np.random.default_rng(seed)).items():
            geometry = plans[view].geometry
            row, col = geometry.to_pixel(*centre)
            assert geometry.skin_distance[row, col] > 8.0
            assert view == "CC" or geometry.pectoral_soft[row, col] <= 0.3


def test_discs_do_not_overlap(breast_and_plans):
    breast, plans = breast_and_plans
    fresh = {view: ViewPlan(plan.geometry, plan.tissue) for view, plan in plans.items()}
    first = place(fresh, breast, 8.0, 12.0, np.random.default_rng(0))
    for view, plan in fresh.items():
        plan.taken.append((first[view], 12.0))
    for seed in range(10):
        second = place(fresh, breast, 8.0, 12.0, np.random.default_rng(seed))
        for view in fresh:
            assert np.hypot(*np.subtract(first[view], second[view])) >= 24.0
