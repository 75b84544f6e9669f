"""Line plots as inline SVG, drawn by hand: colours come from the page's style sheet, so that they follow dark mode."""

import html
import itertools
import math

WIDTH, HEIGHT = 520, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 12, 10, 30
_MAX_POINTS = 400  # more cannot be told apart at this width, and the page stays small


class Line:
    """One curve over training steps; values that are None or not finite are left out."""

    def __init__(self, name, points, style="a", smooth=False, dots=False):
        """Describes the curve.

        Args:
          name: for the legend.
          points: [(step, value)].
          style: the colour and dash, "a", "b" or "c", a class of the page's style sheet.
          smooth: draw the raw values faintly and a running mean over them, for noisy figures.
          dots: mark every point, for figures that are measured now and then.
        """
        self.name, self.style, self.smooth, self.dots = name, style, smooth, dots
        self.points = [(x, float(y)) for x, y in points if y is not None and math.isfinite(y)]


def plot(title, lines, percent=False, zero=False, reference=None, marks=(), note=""):
    """A figure element with legend and SVG; "" if no line has two points.

    Args:
      title: what is drawn, with its unit; also the accessible name.
      lines: `Line`s over training steps.
      percent: the values are fractions of 1, labelled as percentages, and the axis starts at 0.
      zero: the axis includes 0, which is drawn as a line.
      reference: (name, value) of a horizontal line, None for none.
      marks: steps to mark by ticks along the upper edge.
      note: a sentence below the title.
    """
    lines = [line for line in lines if len(line.points) > 1]
    if not lines:
        return ""
    xs = [x for line in lines for x, _ in line.points]
    ys = [y for line in lines for y in _robust_ends(line)] + ([0.0] if zero or percent else [])
    ys += [reference[1]] if reference else []
    y_ticks = _ticks(min(ys), max(ys))
    x_range, y_range = (min(xs), max(xs)), (min(y_ticks[0], min(ys)), max(y_ticks[-1], max(ys)))
    scale = _Scale(x_range, y_range)
    parts = _axes(scale, y_ticks, percent, zero)
    parts += [f'<path class="mark" d="M{scale.x(x):.1f} {_TOP}v7"/>' for x in marks if x_range[0] <= x <= x_range[1]]
    if reference:
        parts.append(f'<path class="ref" d="M{_LEFT} {scale.y(reference[1]):.1f}H{WIDTH - _RIGHT}"/>')
    for line in lines:
        parts += _curve(scale, line)
    legend = _legend(lines, reference, marks)
    note = f'<p class="note">{html.escape(note)}</p>' if note else ""
    return (
        f"<figure><figcaption><b>{html.escape(title)}</b>{legend}</figcaption>{note}"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title, quote=True)}">'
        f"{''.join(parts)}</svg></figure>"
    )


class _Scale:
    """Data to picture coordinates."""

    def __init__(self, x_range, y_range):
        self.x_range = x_range if x_range[1] > x_range[0] else (x_range[0], x_range[0] + 1)
        self.y_range = y_range if y_range[1] > y_range[0] else (y_range[0], y_range[0] + 1)

    def x(self, value):
        low, high = self.x_range
        return _LEFT + (value - low) / (high - low) * (WIDTH - _LEFT - _RIGHT)

    def y(self, value):
        low, high = self.y_range
        share = min(max((value - low) / (high - low), 0.0), 1.0)  # spikes beyond the robust range end at the edge
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def _axes(scale, y_ticks, percent, zero):
    parts = []
    for tick in y_ticks:
        y = scale.y(tick)
        label = f"{_tidy(100 * tick)} %" if percent else _tidy(tick)
        kind = "zero" if zero and tick == 0 else "grid"
        parts.append(f'<path class="{kind}" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    low, high = scale.x_range
    for tick in _ticks(low, high, target=5):
        if low <= tick <= high:
            x = scale.x(tick)
            # A centred label at the right edge would be cut off.
            anchor = "end" if x > WIDTH - _RIGHT - 18 else "middle"
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - 12}" text-anchor="{anchor}">{_tidy(tick)}</text>')
    return parts


def _curve(scale, line):
    points = _thin(line.points)
    if line.smooth and len(line.points) >= 30:
        mean = _thin(_running_mean(line.points))
        return [_path(scale, points, f"raw {line.style}"), _path(scale, mean, f"line {line.style}")]
    parts = [_path(scale, points, f"line {line.style}")]
    if line.dots:
        for x, y in points:
            hint = html.escape(f"{line.name}, step {_tidy(x)}: {y:.4g}")
            parts.append(
                f'<circle class="{line.style}" cx="{scale.x(x):.1f}" cy="{scale.y(y):.1f}" r="3.5">'
                f"<title>{hint}</title></circle>"
            )
    return parts


def _path(scale, points, kind):
    d = "L".join(f"{scale.x(x):.1f} {scale.y(y):.1f}" for x, y in points)
    return f'<path class="{kind}" d="M{d}"/>'


def _legend(lines, reference, marks):
    items = [f'<span class="key {line.style}">{html.escape(line.name)}</span>' for line in lines]
    if reference:
        items.append(f'<span class="key ref">{html.escape(reference[0])}</span>')
    if marks:
        items.append('<span class="key mark">new index</span>')
    return f'<span class="legend">{"".join(items)}</span>' if len(items) > 1 else ""


def _thin(points):
    """At most about `_MAX_POINTS` points: the largest and the smallest of each interval, in their order."""
    if len(points) <= _MAX_POINTS:
        return points
    size = math.ceil(2 * len(points) / _MAX_POINTS)
    kept = []
    for i in range(0, len(points), size):
        part = points[i : i + size]
        kept += sorted({min(part, key=lambda p: p[1]), max(part, key=lambda p: p[1])})
    return kept


def _running_mean(points):
    """A centred mean over a tenth of the points, cut at the ends."""
    half = max(1, len(points) // 20)
    sums = list(itertools.accumulate((y for _, y in points), initial=0.0))
    smooth = []
    for i, (x, _) in enumerate(points):
        first, last = max(0, i - half), min(len(points), i + half + 1)
        smooth.append((x, (sums[last] - sums[first]) / (last - first)))
    return smooth


def _robust_ends(line):
    """(low, high) for the axis: of a noisy curve without its outermost hundredth, so that one spike hides nothing."""
    values = sorted(y for _, y in line.points)
    cut = len(values) // 100 if line.smooth else 0
    return values[cut], values[-1 - cut]


def _ticks(low, high, target=4):
    """Round numbers that enclose [low, high], about `target` of them."""
    if high <= low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / target
    unit = 10.0 ** math.floor(math.log10(rough))
    step = unit * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * unit >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _tidy(value):
    return f"{value:,.10g}".replace("-", "−")
