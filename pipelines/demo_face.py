"""Drawn faces of the demo data set: one picture a row, whole tracks at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from .demo_signal import smooth_noise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .demo_signal import FloatArray

Plane: TypeAlias = "NDArray[np.float32]"
"""Drawings are float32, shape (rows, height, width) or (rows, height, width, 3), 0 to 255."""
Pictures: TypeAlias = "NDArray[np.uint8]"

SIDE = 112  # pixels: a face fills its square picture
SMILE = 0.17  # curvature of the mouth per sd of valence
OPENING = 0.03  # half height of the mouth per sd of arousal
EYE = 0.028  # half height of the eyes per sd of arousal
BROW = 0.028  # rise of the brows per sd of arousal
FROWN = 0.05  # slant of the brows per sd of valence
JITTER = 0.1  # displacement and size of the head, sd
LIGHT = 0.1  # brightness, sd
SHADE = 0.2  # dappled light on the picture, sd
DAPPLES = 7  # patches of shade from side to side
GRAIN = 4.0  # grey levels of pixel noise, sd


@dataclass(frozen=True, slots=True)
class Person:
    """What does not change within a track; colours are RGB, lengths are in half pictures."""

    skin: FloatArray
    hair: FloatArray
    lips: FloatArray
    wall: FloatArray
    width: float
    fringe: float
    eye_gap: float
    mouth_y: float
    mouth_width: float


@dataclass(frozen=True, slots=True)
class Pose:
    """What changes from row to row; every field has shape (rows, 1, 1)."""

    smile: Plane
    opening: Plane
    eye: Plane
    brow: Plane
    frown: Plane
    x: Plane
    y: Plane
    scale: Plane
    light: Plane


def random_person(rng: np.random.Generator) -> Person:
    """Draw an identity; bounded ranges, so that a few tracks cover most of them."""
    tone = rng.uniform(0.75, 1.1)
    return Person(
        skin=tone * np.array([205.0, 160.0, 130.0]) + rng.uniform(-10, 10, 3),
        hair=rng.uniform(15, 110) * np.array([1.0, 0.8, 0.6]),
        lips=tone * np.array([165.0, 70.0, 75.0]) + rng.uniform(-15, 15, 3),
        wall=rng.uniform(40, 200, 3),
        width=rng.uniform(0.74, 0.92),
        fringe=rng.uniform(-0.85, -0.65),
        eye_gap=rng.uniform(0.34, 0.42),
        mouth_y=rng.uniform(0.46, 0.54),
        mouth_width=rng.uniform(0.36, 0.44),
    )


def draw_faces(rng: np.random.Generator, shown: FloatArray, rate: float) -> Pictures:
    """Draw one track.

    Args:
        rng: Random numbers of this track: identity, movement, light.
        shown: (rows, 2), valence and arousal as the face shows them, sd 1.
        rate: Rows per second.

    Returns:
        (rows, 112, 112, 3), RGB.
    """
    person = random_person(rng)
    pose = _random_pose(rng, shown, rate)
    canvas = np.empty((shown.shape[0], SIDE, SIDE, 3), np.float32)
    canvas[:] = person.wall
    _draw_head(canvas, person, pose)
    _draw_eyes(canvas, person, pose)
    _draw_mouth(canvas, person, pose)
    return _lit(rng, canvas, pose)


def _random_pose(rng: np.random.Generator, shown: FloatArray, rate: float) -> Pose:
    times = np.arange(shown.shape[0]) / rate

    def noise(width: float) -> FloatArray:
        return smooth_noise(rng, times, width)

    def shaped(values: FloatArray) -> Plane:
        return values.astype(np.float32)[:, None, None]

    valence, arousal = 2 * np.tanh(shown.T / 2)  # a face has limits
    return Pose(
        smile=shaped(SMILE * (valence + 0.1 * noise(0.1))),
        opening=shaped(np.maximum(0.075 + OPENING * (arousal + 0.2 * noise(0.1)), 0.012)),
        eye=shaped(np.maximum(0.1 + EYE * (arousal + 0.1 * noise(0.1)), 0.015)),
        brow=shaped(BROW * (arousal + 0.1 * noise(0.1))),
        frown=shaped(FROWN * (np.minimum(valence, 0) + 0.2 * noise(0.1))),
        x=shaped(JITTER * noise(0.1)),
        y=shaped(JITTER * noise(0.1)),
        scale=shaped(1 + JITTER * noise(0.1)),
        light=shaped(1 + LIGHT * noise(0.1)),
    )


def _draw_head(canvas: Plane, person: Person, pose: Pose) -> None:
    x, y = _face_coordinates(pose, slice(0, SIDE), slice(0, SIDE))
    oval = (x / person.width) ** 2 + (y - 0.05) ** 2
    _paint(canvas, (1.15 - oval) * 6, person.hair)
    _paint(canvas, np.minimum((0.95 - oval) * 6, (y - person.fringe) * 12), person.skin)


def _draw_eyes(canvas: Plane, person: Person, pose: Pose) -> None:
    band = slice(20, 66)
    x, y = _face_coordinates(pose, band, slice(0, SIDE))
    part = canvas[:, band]
    across = np.abs(x) - person.eye_gap
    lid = 1 - (across / 0.17) ** 2
    _paint(part, (pose.eye * lid - np.abs(y + 0.2)) * 22, np.array([245.0, 245.0, 240.0]))
    pupil = np.minimum(0.075 - np.hypot(across, y + 0.2), pose.eye * lid - np.abs(y + 0.2))
    _paint(part, pupil * 22, np.array([30.0, 25.0, 25.0]))
    middle = -0.43 - pose.brow - pose.frown * across / 0.17
    brow = np.minimum(0.035 - np.abs(y - middle), 0.2 - np.abs(across))
    _paint(part, brow * 22, person.hair)


def _draw_mouth(canvas: Plane, person: Person, pose: Pose) -> None:
    band = slice(64, SIDE)
    x, y = _face_coordinates(pose, band, slice(0, SIDE))
    part = canvas[:, band]
    along = x / person.mouth_width
    bow = 1 - along**2
    off = np.abs(y - person.mouth_y - pose.smile * (2 * bow - 1))
    _paint(part, np.minimum(0.05 + pose.opening * bow - off, 0.5 * bow) * 22, person.lips)
    _paint(part, (pose.opening * bow - off) * 22, np.array([60.0, 15.0, 20.0]))


def _face_coordinates(pose: Pose, rows: slice, columns: slice) -> tuple[Plane, Plane]:
    """Give x to the right and y downwards, -1 to 1 over a face at rest, in a part."""
    axis = ((np.arange(SIDE) + 0.5) * (2 / SIDE) - 1).astype(np.float32)
    x = (axis[columns][None, None, :] - pose.x) / pose.scale
    y = (axis[rows][None, :, None] - pose.y) / pose.scale
    return x, y


def _paint(canvas: Plane, inside: Plane | FloatArray, colour: FloatArray) -> None:
    """Lay a colour over the places where `inside` is positive, with an edge of one unit."""
    cover = np.clip(inside + 0.5, 0, 1).astype(np.float32)[..., None]
    canvas += cover * (colour.astype(np.float32) - canvas)


def _lit(rng: np.random.Generator, canvas: Plane, pose: Pose) -> Pictures:
    """Apply the light of each row, a shade that changes with every row, and pixel noise."""
    rows = canvas.shape[0]
    dapples = SHADE * rng.standard_normal((3, rows, DAPPLES, DAPPLES), dtype=np.float32)
    spread = _spreading()
    for colour, shade in enumerate(dapples):
        canvas[..., colour] *= pose.light + spread @ shade @ spread.T
    grain = GRAIN * rng.standard_normal((2 * SIDE, 2 * SIDE, 1), dtype=np.float32)
    for index, picture in enumerate(canvas):
        down, right = (index * 37) % SIDE, (index * 53) % SIDE
        picture += grain[down : down + SIDE, right : right + SIDE]
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _spreading() -> Plane:
    """Give the weights (SIDE, DAPPLES) that interpolate patches of shade to pixels."""
    places = np.linspace(0, DAPPLES - 1, SIDE)
    weights = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(DAPPLES)))
    return weights.astype(np.float32)
