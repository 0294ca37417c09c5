"""What a run must never show."""


class Violation(BaseException):
    """An invariant does not hold. Nothing of the simulated processes may catch it."""

    def __init__(self, rule: str, detail: str) -> None:
        super().__init__(f"{rule}: {detail}")
        self.rule = rule
        self.detail = detail
