"""A run as HTML, for notebooks: a bar, the instances as lanes over time, a table of the tasks.

Pure: values in, text out; everything is escaped. Knows no report and no events, and brings its own colours, which follow the
notebook's light or dark theme where it says what that is (JupyterLab's variables).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

import attrs

_ROW, _TOP, _LABEL, _WIDE = 24, 20, 104, 760  # pixels
_COLOURS: Final = {"done": "#1f8a5b", "running": "#2f7ed8", "failed": "#c23b31"}
_OTHER: Final = "#8a8f98"
_STOLEN: Final = "#d98a00"
_INK: Final = "var(--jp-ui-font-color1, currentColor)"
_QUIET: Final = "var(--jp-ui-font-color2, #6b7671)"
_LINE: Final = "var(--jp-border-color2, #c9d0cc)"
_STEPS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
_MOST_LANES, _MOST_BARS = 60, 3000


@attrs.frozen
class Bar:
    """One attempt: its instance's lane, its task, and when it ran, in seconds. `how`: done, running, failed or another word."""

    lane: str
    task: str
    start_s: float
    end_s: float
    how: str
    stolen_from: str = ""


def lanes(bars: Sequence[Bar]) -> str:
    """The bars as lanes over time, an SVG. Stolen work is outlined; hovering says what a bar is."""
    bars = bars[:_MOST_BARS]
    names = sorted({bar.lane for bar in bars}, key=_natural)[:_MOST_LANES]
    if not names:
        return ""
    first = min(bar.start_s for bar in bars)
    length_s = max(max(bar.end_s for bar in bars) - first, 1e-6)
    room = _WIDE - _LABEL - 20
    height = _TOP + len(names) * _ROW + 4

    def x(at_s: float) -> float:
        return round(_LABEL + (at_s - first) / length_s * room, 1)

    parts = []
    step = next((one for one in _STEPS if length_s / one <= 8), length_s / 6)
    for number in range(int(length_s / step) + 1):
        at = x(first + number * step)
        parts.append(f'<line x1="{at}" x2="{at}" y1="{_TOP - 4}" y2="{height}" stroke="{_LINE}" />')
        parts.append(
            f'<text x="{at}" y="11" text-anchor="middle" font-size="10" fill="{_QUIET}">{number * step:g} s</text>'
        )
    for row, name in enumerate(names):
        top = _TOP + row * _ROW
        parts.append(f'<text x="0" y="{top + 14}" font-size="11" fill="{_QUIET}">{escape(name)}</text>')
        parts += [
            _bar(bar, x(bar.start_s), max(2.0, x(bar.end_s) - x(bar.start_s)), top) for bar in bars if bar.lane == name
        ]
    return (
        f'<svg role="img" aria-label="What each instance did, over time" viewBox="0 0 {_WIDE} {height}" width="{_WIDE}" '
        f'style="max-width:100%;height:auto;display:block;font-family:ui-monospace,Menlo,Consolas,monospace">{"".join(parts)}</svg>'
    )


def _bar(bar: Bar, left: float, width: float, top: int) -> str:
    took = f"{bar.task}: {bar.how}, {bar.end_s - bar.start_s:.2f} s" + (
        f", stolen from {bar.stolen_from}" if bar.stolen_from else ""
    )
    outline = f' stroke="{_STOLEN}" stroke-width="2.5"' if bar.stolen_from else ""
    fits = int((width - 8) / 6.7)
    words = bar.task if len(bar.task) <= fits else bar.task[: max(0, fits - 1)] + "…"
    text = f'<text x="{left + 4}" y="{top + 14}" font-size="11" fill="#fff">{escape(words)}</text>' if fits > 2 else ""
    return (
        f'<g><title>{escape(took)}</title><rect x="{left}" y="{top + 2}" width="{width}" height="{_ROW - 6}" rx="3" '
        f'fill="{_COLOURS.get(bar.how, _OTHER)}"{outline} />{text}</g>'
    )


def meter(shares: Mapping[str, int], total: int) -> str:
    """A progress bar: `shares` are {done, running, failed, or another word: how many} of `total`."""
    cells = "".join(
        f'<i style="display:block;width:{100 * number / max(1, total):.2f}%;background:{_COLOURS.get(how, _OTHER)}"></i>'
        for how, number in shares.items()
        if number
    )
    ended = total - shares.get("running", 0) - shares.get("waiting", 0)
    return (
        f'<div role="progressbar" aria-valuemin="0" aria-valuemax="{total}" aria-valuenow="{max(0, min(total, ended))}" '
        f'style="display:flex;height:8px;max-width:{_WIDE}px;border-radius:99px;overflow:hidden;background:{_LINE};margin:6px 0">'
        f"{cells}</div>"
    )


def whole(title: str, state: str, figures: Sequence[str], *parts: str) -> str:
    """A run: its title with its state, its figures in one line, and what is below."""
    colour = _COLOURS.get(state, _STOLEN if state in ("partial", "paused", "interrupted") else _OTHER)
    badge = (
        f'<span style="border:1px solid {colour};color:{colour};border-radius:99px;padding:0 8px;font-size:11px;font-weight:600">'
        f"{escape(state)}</span>"
    )
    return (
        f'<div style="color:{_INK};font:13px/1.5 system-ui,sans-serif"><div><b>{escape(title)}</b> {badge}</div>'
        f'<div style="color:{_QUIET}">{escape(" · ".join(figures))}</div>{"".join(parts)}</div>'
    )


def table(rows: Sequence[Sequence[str]], head: Sequence[str], words: str, *, unfolded: bool = False) -> str:
    """A table that is folded away under `words`, until it is opened."""
    cell = f'style="text-align:left;padding:1px 14px 1px 0;border-bottom:1px solid {_LINE}"'
    lines = "".join("<tr>" + "".join(f"<td {cell}>{escape(one)}</td>" for one in row) + "</tr>" for row in rows)
    heads = "".join(f"<th {cell}>{escape(one)}</th>" for one in head)
    return (
        f'<details style="margin-top:6px"{" open" if unfolded else ""}><summary style="cursor:pointer">{escape(words)}</summary>'
        f'<table style="border-collapse:collapse;font-size:12px"><thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table>'
        "</details>"
    )


def _natural(name: str) -> tuple[str, int]:
    crew, _, number = name.rpartition("-")
    return (crew, int(number)) if number.isdigit() else (name, 0)
