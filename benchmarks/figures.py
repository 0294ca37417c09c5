"""What was measured, and how it is printed: Markdown, each figure beside the target that was set for it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Target:
    """What a figure has to be."""

    at_most: float | None = None
    at_least: float | None = None

    def met_by(self, value: float) -> bool:
        above = self.at_most is not None and value > self.at_most
        below = self.at_least is not None and value < self.at_least
        return not (above or below)

    def described(self, unit: str) -> str:
        """≤ 10 s."""
        sign, value = ("≤", self.at_most) if self.at_most is not None else ("≥", self.at_least)
        return f"{sign} {value:g} {unit}"


@dataclass(frozen=True)
class Figure:
    """One thing that was measured several times."""

    name: str
    unit: str
    values: tuple[float, ...]
    target: Target | None = None

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def met(self) -> bool | None:
        """Whether the median is what it has to be; None: nothing was asked of it."""
        return None if self.target is None else self.target.met_by(self.median)

    def measured(self) -> str:
        """Median, and the range if there is one: 7.4 s (7.2 to 7.9)."""
        text = f"{_number(self.median)} {self.unit}"
        if len(self.values) > 1:
            text += f" ({_number(min(self.values))} to {_number(max(self.values))})"
        return text


@dataclass(frozen=True)
class Breakdown:
    """Where the time of a figure goes: parts in the order in which they happen."""

    name: str
    parts: tuple[Figure, ...]


@dataclass(frozen=True)
class Findings:
    """What one group of measurements has found."""

    figures: tuple[Figure, ...]
    breakdowns: tuple[Breakdown, ...] = ()
    remarks: tuple[str, ...] = ()


def as_markdown(findings: Sequence[Findings], conditions: Iterable[tuple[str, str]]) -> str:
    """The whole report."""
    lines = ["| figure | median (range) | target | |", "|---|---|---|---|"]
    for figure in (figure for found in findings for figure in found.figures):
        target = figure.target.described(figure.unit) if figure.target else ""
        verdict = {True: "met", False: "**missed**", None: ""}[figure.met]
        lines.append(f"| {figure.name} | {figure.measured()} | {target} | {verdict} |")
    breakdowns = [breakdown for found in findings for breakdown in found.breakdowns]
    if breakdowns:
        lines += ["", "<details>", "<summary>Where the time goes</summary>"]
        for breakdown in breakdowns:
            lines += ["", f"| {breakdown.name} | median (range) |", "|---|---|"]
            lines += [f"| {part.name} | {part.measured()} |" for part in breakdown.parts]
        lines += ["", "</details>"]
    lines += ["", *(remark for found in findings for remark in found.remarks)]
    lines += ["", "Conditions:", "", *(f"- {name}: {value}" for name, value in conditions)]
    return "\n".join(lines) + "\n"


def between(marker: str, text: str, report: str) -> str:
    """A Markdown text with the report between its markers of this name; ValueError when it has none."""
    begin, end = f"<!-- {marker}:begin -->", f"<!-- {marker}:end -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the text has no {begin} and {end} to write between")
    return f"{before}{begin}\n{report}{end}{after}"


def across(breakdowns: Sequence[Sequence[tuple[str, float]]], name: str) -> Breakdown:
    """The breakdowns of several runs as one: same parts, several values."""
    parts = [Figure(part[0][0], "s", tuple(seconds for _, seconds in part)) for part in zip(*breakdowns, strict=True)]
    return Breakdown(name, tuple(parts))


def _number(value: float) -> str:
    """Two digits behind the point below 10, one below 100."""
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"
