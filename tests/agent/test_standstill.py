"""Workers that stand still while nobody does anything about it end with their instance."""

from orchestrator.agent.standstill import LEAST_S, PATIENCE, Standstill

STALL_S = 900.0
BOUND_S = PATIENCE * STALL_S + LEAST_S


def test_whoever_comes_further_stays() -> None:
    standstill = Standstill(0.0)
    for step in range(100):
        assert standstill.look(step * 800.0, (1, "running", step), STALL_S) is None


def test_the_controller_has_its_time_first() -> None:
    standstill = Standstill(0.0)
    assert standstill.look(10.0, (1, "running", 5), STALL_S) is None
    assert standstill.look(10.0 + BOUND_S - 1.0, (1, "running", 5), STALL_S) is None
    why = standstill.look(10.0 + BOUND_S, (1, "running", 5), STALL_S)
    assert why is not None and "have stood still for 2100 s" in why


def test_the_next_generation_begins_anew() -> None:
    standstill = Standstill(0.0)
    standstill.look(0.0, (1, "running", 5), STALL_S)
    assert standstill.look(BOUND_S + 1.0, (2, "restoring", None), STALL_S) is None
