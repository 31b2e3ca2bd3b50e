"""Tables and plots: how figures are shown, and nothing about what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from benchmarks.measuring import Times

    Series = Mapping[str, Sequence[tuple[float, float]]]


def table(header: Sequence[str], lines: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    shown = [header, ["---"] * len(header), *lines]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in shown)


def ratio_table(times: Mapping[str, Times]) -> str:
    """Return a table of ratios to the first contestant."""
    first = next(iter(times.values()))
    lines = [
        (
            name,
            f"{1e6 * one.median:,.0f}",
            f"{one.median / first.median:.2f}",
            f"{one.p10 / first.p10:.2f}",
        )
        for name, one in times.items()
    ]
    return table(("", "median µs", "ratio (median)", "ratio (p10)"), lines)


class Plots:
    """Draws plots beside the report, or, in short mode, only in memory.

    Args:
        folder: Where the files go.
        below: The folder as the report names it.
        keep: Whether files are written at all.
    """

    def __init__(self, folder: Path, below: str, *, keep: bool) -> None:
        self._folder = folder
        self._below = below
        self._keep = keep

    def draw(
        self, name: str, title: str, series: Series, *, x: str, y: str, log_y: bool = True
    ) -> str:
        """Draw one line per series and return the Markdown that shows the plot."""
        import matplotlib as mpl

        mpl.use("svg")
        mpl.rcParams["svg.hashsalt"] = "contextcache"  # the same figures give the same file
        from matplotlib import pyplot as plt

        figure, axes = plt.subplots(figsize=(8, 4))
        for label, points in series.items():
            axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=label)
        axes.set_xscale("log")
        if log_y:
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.set_xlabel(x)
        axes.set_ylabel(y)
        axes.set_title(title, fontsize=11)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
        figure.tight_layout()
        if self._keep:
            self._folder.mkdir(exist_ok=True)
            figure.savefig(self._folder / f"{name}.svg", metadata={"Date": None})
        plt.close(figure)
        return f"![{title}]({self._below}/{name}.svg)"
