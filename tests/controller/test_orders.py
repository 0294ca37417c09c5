"""What instances are told, and which machine it is for."""

from tests.controller.builders import provisioning
from tests.support.specs import job_spec


def test_orders_are_for_the_machine_that_spoke_first_under_its_name() -> None:
    scene = provisioning(job_spec(instances=2))
    first, second = scene.upcoming.instances
    scene.says(first, instance_id="i-1").says(second).settle()
    assert [scene.assignment(i).instance_id for i in (first, second)] == ["i-1", ""]
    scene.says(second, instance_id="i-2").train(1)
    assert scene.assignment(second).instance_id == "i-2", "it did not tell at first"
    scene.says(first, instance_id="i-9").train(2)
    assert scene.assignment(first).instance_id == "i-1"
    scene.exit("failed")
    assert (scene.generation.number, scene.assignment(first).instance_id) == (2, "i-1")
