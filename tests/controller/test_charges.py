"""What a job has spent is in its record by day and type, and the days together are what it has spent."""

import pytest

from tests.controller.builders import training
from tests.controller.test_random_walks import Walk
from tests.support.specs import job_spec


def test_an_instance_that_is_gone_is_charged_to_its_day_and_type() -> None:
    scene = training(job_spec(limits={"max_cost": 40.0}), price_usd_per_hour=1.0)
    scene.pass_time(1800).settle().lose()
    [charge] = scene.record.charges
    assert (charge.day, charge.instance_type, charge.market) == (scene.now.date(), "local", "on_demand")
    assert charge.usd == pytest.approx(scene.record.spent_usd) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize("seed", range(20))
def test_the_charges_together_are_what_is_spent(seed: int) -> None:
    walk = Walk(seed, limits={"max_cost": 3.0})
    for _ in range(60):
        walk.step()
        record = walk.scene.record
        assert sum(charge.usd for charge in record.charges) == pytest.approx(record.spent_usd)
