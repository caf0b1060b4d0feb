"""How the rendered shapes look: outlines as signed distances, textures, light, backgrounds, clutter.

Pixel coordinates are (row, column); an outline's own coordinates (v, u) are turned, and 1 at the object's radius.
"""

import colorsys
import math

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float64]
CLASSES: tuple[str, ...] = ("disc", "square", "triangle", "ring", "cross", "star")


def draw_object(
    random: Generator, canvas: Array, class_index: int, centre: tuple[float, float], radius: float
) -> tuple[Array, Array]:
    """Paint one object over a canvas.

    Args:
        random: Draws colours, turn and texture.
        canvas: (H, W, 3) in [0, 1]; not changed.
        class_index: Index into `CLASSES`.
        centre: (row, column) in pixels.
        radius: Size in pixels.

    Returns:
        The new canvas (H, W, 3), and how much of each pixel the object covers, (H, W) in [0, 1].
    """
    name = CLASSES[class_index]
    reach = 1.5 * radius  # shadow included; nothing is painted beyond it
    rows, columns = (
        slice(max(0, int(middle - reach)), min(side, int(middle + reach) + 1))
        for middle, side in zip(centre, canvas.shape[:2], strict=True)
    )
    y, x = np.mgrid[rows, columns].astype(np.float64)
    y, x = (y - centre[0]) / radius, (x - centre[1]) / radius
    turn = random.uniform(0, 2 * math.pi)
    v, u = _rotate(y, x, turn)
    distance = _outline(name, v, u)  # negative inside, in units of the radius
    alpha = np.clip(0.5 - distance * radius, 0, 1)

    light = random.uniform(0, 2 * math.pi)
    shadow_v, shadow_u = _rotate(y - 0.16 * math.sin(light), x - 0.16 * math.cos(light), turn)
    shadow = 0.55 * np.clip(0.5 - _outline(name, shadow_v, shadow_u) / 0.25, 0, 1)

    base, accent = _class_colours(random, class_index)
    pattern = _texture(random, name, v, u, max(0.16, 3.2 / radius))[..., None]
    surface = base * (1 - pattern) + accent * pattern
    relief = np.clip(-distance / 0.18, 0, 1)  # the rim falls away
    towards_light = np.clip(-(y * math.sin(light) + x * math.cos(light)), -1, 1)
    shade = (0.62 + 0.38 * relief) * (1 + 0.28 * towards_light)
    if name == "disc":  # a ball: the light falls off all round and leaves a highlight
        shade = shade * (0.55 + 0.6 * np.sqrt(np.clip(1 - v**2 - u**2, 0, 1)))
        spot = (y + 0.4 * math.sin(light)) ** 2 + (x + 0.4 * math.cos(light)) ** 2
        surface = surface + 0.55 * np.exp(-spot / 0.04)[..., None]
    surface = np.clip(surface * shade[..., None], 0, 1)

    result, covered = canvas.copy(), np.zeros(canvas.shape[:2])
    under = canvas[rows, columns] * (1 - shadow)[..., None]
    result[rows, columns] = under * (1 - alpha[..., None]) + surface * alpha[..., None]
    covered[rows, columns] = alpha
    return result, covered


def background(random: Generator, size: int) -> Array:
    """Smooth noise between two or three muted colours, with a change of light across it, (size, size, 3)."""
    first, second = _two_colours(random)
    blend = _noise(random, size, (3, 6, 12, 24))[..., None]
    canvas = (first * (1 - blend) + second * blend) * 0.7 + 0.3 * random.uniform(0.2, 0.8, 3)
    ramp = np.linspace(random.uniform(0.7, 1.1), random.uniform(0.7, 1.1), size)
    return np.asarray(np.clip(canvas * (ramp[:, None, None] if random.random() < 0.5 else ramp[None, :, None]), 0, 1))


def clutter(random: Generator, canvas: Array) -> None:
    """Paint things of no class onto a canvas: soft lumps, irregular flat or noisy patches, and strokes."""
    size = canvas.shape[0]
    rows, columns = np.mgrid[:size, :size].astype(np.float64)
    for _ in range(int(random.integers(4, 9))):
        y, x = rows - random.uniform(0, size), columns - random.uniform(0, size)
        v, u = _rotate(y, x, random.uniform(0, 2 * math.pi))
        kind = random.integers(3)
        if kind == 0:  # a stroke, slightly bent
            bend = random.uniform(-0.02, 0.02) * u**2 * 32 / size
            alpha = np.clip(0.5 + random.uniform(0.8, 2.0) - np.abs(v - bend), 0, 1)
            alpha = alpha * (np.abs(u) < size * random.uniform(0.15, 0.5))
        else:  # a lump or patch with a wavy outline
            angle = np.arctan2(v, u)
            waves = sum(random.uniform(0, 0.22) * np.cos(n * angle + random.uniform(0, 6.3)) for n in (2, 3, 5))
            reach = size * random.uniform(0.06, 0.2) * (1 + waves)
            softness = 1.0 if kind == 1 else 0.25 * size * random.uniform(0.1, 0.4)
            alpha = np.clip(0.5 - (np.hypot(v, u * random.uniform(0.5, 1)) - reach) / softness, 0, 1)
        colour, other = _two_colours(random)
        grain = (_noise(random, size, (8, 16, 32)) * random.uniform(0, 1))[..., None]
        alpha = (alpha * random.uniform(0.5, 1.0))[..., None]
        canvas[:] = canvas * (1 - alpha) + (colour * (1 - grain) + other * grain) * alpha


def _outline(name: str, v: Array, u: Array) -> Array:
    """Signed distance to the outline of a class, negative inside, in units of the radius."""
    if name == "disc":
        return np.hypot(v, u) - 0.88
    if name == "ring":
        return np.abs(np.hypot(v, u) - 0.68) - 0.27
    if name == "square":
        return _polygon(v, u, [(-0.76, -0.76), (-0.76, 0.76), (0.76, 0.76), (0.76, -0.76)])
    if name == "triangle":
        return _polygon(v, u, _corners(3, 1.08))
    if name == "cross":
        arm, end = 0.33, 0.98
        quarter = [(-arm, end), (-arm, arm), (-end, arm)]
        corners = [_rotate_point(point, turn * math.pi / 2) for turn in range(4) for point in quarter]
        return _polygon(v, u, corners)
    assert name == "star", f"no outline for {name}"
    tips, notches = _corners(5, 1.12), _corners(5, 0.52, math.pi / 5)
    return _polygon(v, u, [point for pair in zip(tips, notches, strict=True) for point in pair])


def _texture(random: Generator, name: str, v: Array, u: Array, period: float) -> Array:
    """Where a surface shows its accent colour, (H, W) in [0, 1]; `period` is in units of the radius."""
    phase = random.uniform(0, 2 * math.pi, 2)
    wave = 2 * math.pi / (period * random.uniform(1.5, 2.1))
    if name == "disc":  # nearly plain: the ball's shading is its mark
        return np.full_like(v, random.uniform(0, 0.25))
    if name == "square":
        return _step(np.sin(wave * v + phase[0]) * np.sin(wave * u + phase[1]))
    if name == "triangle":
        return _step(np.sin(wave * 0.9 * v + phase[0]))
    if name == "ring":  # a rope's segments
        return _step(np.sin(12 * np.arctan2(v, u) + 5 * np.hypot(v, u) + phase[0]))
    if name == "cross":  # polka dots
        return _step(np.cos(wave * 0.85 * v + phase[0]) + np.cos(wave * 0.85 * u + phase[1]) - 0.85)
    assert name == "star", f"no texture for {name}"
    return _step(np.sin(wave * np.hypot(v, u) + phase[0]))  # circles within circles


def _step(values: Array) -> Array:
    """A soft threshold at 0."""
    return np.asarray(np.clip(0.5 + 2.2 * values, 0, 1))


def _two_colours(random: Generator) -> tuple[Array, Array]:
    """Two colours of any hue, one dark and one light."""
    dark = colorsys.hsv_to_rgb(random.random(), random.uniform(0.15, 0.85), random.uniform(0.2, 0.45))
    light = colorsys.hsv_to_rgb(random.random(), random.uniform(0.1, 0.7), random.uniform(0.7, 1.0))
    pair = (np.array(dark), np.array(light))
    return pair if random.random() < 0.5 else pair[::-1]


def _class_colours(random: Generator, class_index: int) -> tuple[Array, Array]:
    """A base colour near the hue that is typical of a class, and an accent of any hue; one is dark, one light.

    As with tomatoes and fire engines the hue is a hint, not a proof: backgrounds and clutter come in every hue.
    """
    dark, light = _two_colours(random)
    hue = (class_index / len(CLASSES) + random.normal(0, 0.03)) % 1
    if random.random() < 0.5:
        base = colorsys.hsv_to_rgb(hue, random.uniform(0.6, 0.95), random.uniform(0.3, 0.55))
        return np.array(base), max(dark, light, key=np.sum)
    base = colorsys.hsv_to_rgb(hue, random.uniform(0.45, 0.85), random.uniform(0.75, 1.0))
    return np.array(base), min(dark, light, key=np.sum)


def _noise(random: Generator, size: int, cells: tuple[int, ...]) -> Array:
    """Smooth noise in [0, 1]: bilinear grids of several sizes, the coarse ones strongest."""
    total = np.zeros((size, size))
    for strength, count in enumerate(cells):
        grid = random.random((count + 1, count + 1))
        at = np.linspace(0, count, size, endpoint=False)
        low = at.astype(int)
        t = at - low
        t = t * t * (3 - 2 * t)
        rows = grid[low] * (1 - t)[:, None] + grid[low + 1] * t[:, None]
        total += (rows[:, low] * (1 - t) + rows[:, low + 1] * t) * 0.6**strength
    return (total - total.min()) / (np.ptp(total) + 1e-9)


def _polygon(v: Array, u: Array, corners: list[tuple[float, float]]) -> Array:
    """Signed distance to a closed polygon: distance to the nearest edge, its sign by even-odd crossing."""
    nearest = np.full_like(v, np.inf)
    inside = np.zeros(v.shape, dtype=bool)
    for (v0, u0), (v1, u1) in zip(corners, [*corners[1:], corners[0]], strict=True):
        dv, du = v1 - v0, u1 - u0
        along = np.clip(((v - v0) * dv + (u - u0) * du) / (dv * dv + du * du), 0, 1)
        nearest = np.minimum(nearest, np.hypot(v - v0 - along * dv, u - u0 - along * du))
        if v0 != v1:
            inside ^= ((v0 > v) != (v1 > v)) & (u < u0 + (v - v0) * du / dv)
    return np.where(inside, -nearest, nearest)


def _corners(count: int, radius: float, offset: float = 0.0) -> list[tuple[float, float]]:
    angles = [offset + 2 * math.pi * index / count for index in range(count)]
    return [(radius * math.sin(angle), radius * math.cos(angle)) for angle in angles]


def _rotate(v: Array, u: Array, angle: float) -> tuple[Array, Array]:
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * v - sin * u, sin * v + cos * u


def _rotate_point(point: tuple[float, float], angle: float) -> tuple[float, float]:
    cos, sin = math.cos(angle), math.sin(angle)
    return cos * point[0] - sin * point[1], sin * point[0] + cos * point[1]
