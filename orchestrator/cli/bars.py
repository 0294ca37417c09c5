"""Bars of one line. They tell done from left by their shape, so that they can be read without colour."""

from collections.abc import Sequence

from rich.text import Text

_EIGHTHS = "▁▂▃▄▅▆▇█"


def progress_bar(done_share: float, width: int) -> Text:
    """Done in heavy line, left in light: ━━━━━━╸────."""
    halves = round(max(0.0, min(1.0, done_share)) * width * 2)
    full, half = divmod(halves, 2)
    bar = Text("━" * full + "╸" * half, style="green" if done_share >= 1 else "cyan")
    return bar.append("─" * (width - full - half), style="bright_black")


def utilization_bar(percent: float | None, down_below: float, up_above: float, width: int) -> Text:
    """0 to 100 %, with a mark where the job would shrink and one where it would grow: ████│░░░░░░│░░."""
    filled = 0 if percent is None else round(percent / 100 * width)
    marks = {min(width - 1, round(limit / 100 * width)) for limit in (down_below, up_above)}
    style = band_style(percent, down_below, up_above)
    bar = Text()
    for cell in range(width):
        if cell in marks:
            bar.append("│", style="bold")
        elif cell < filled:
            bar.append("█", style=style)
        else:
            bar.append("░", style="bright_black")
    return bar


def utilization_scale(down_below: float, up_above: float, width: int) -> Text:
    """The line under the bar: what its two marks are, as far as there is room."""
    line = [" "] * width
    for limit in (down_below, up_above):
        label = f"{limit:g}"
        at = min(width - len(label), round(limit / 100 * width))
        line[at : at + len(label)] = label
    return Text("".join(line), style="bright_black")


def band_style(percent: float | None, down_below: float, up_above: float) -> str:
    """The colour of a utilisation: what it would make the job do."""
    if percent is None:
        return "bright_black"
    return "yellow" if percent > up_above else "blue" if percent < down_below else "green"


def band_words(percent: float | None, down_below: float, up_above: float) -> str:
    """The same in words."""
    if percent is None:
        return "not measured yet"
    return "above the band" if percent > up_above else "below the band" if percent < down_below else "within the band"


def sparkline(percents: Sequence[float]) -> str:
    """One character a sample."""
    return "".join(_EIGHTHS[min(7, max(0, int(percent / 12.5)))] for percent in percents)
