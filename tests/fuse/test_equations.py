"""Every published equation against plain loops, and its gradients against finite differences."""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from concord.fuse import equations
from torch import Tensor

from . import loops
from .loops import Array, Mask

Widths = dict[str, int]
Shapes = dict[str, tuple[int, ...]]
Arrays = dict[str, Array]
Masks = dict[str, Mask] | None


def jca_shapes(widths: Widths, L: int, k: int = 6) -> Shapes:
    d = sum(widths.values())
    shapes: Shapes = {}
    for m in widths:
        shapes |= {f"W_j{m}": (L, L), f"W_{m}": (k, L), f"W_c{m}": (k, d), f"W_h{m}": (L, k)}
    return shapes


def rjcma_shapes(widths: Widths, L: int) -> Shapes:
    d = sum(widths.values())
    shapes: Shapes = {"W_J": (d, d), "b_J": (d,)}
    for m, d_m in widths.items():
        shapes |= {f"W_j{m}": (L, L), f"W_c{m}": (d_m, d_m), f"W_h{m}": (d, d_m)}
    return shapes


def jca_any_shapes(widths: Widths, _L: int, k: int = 6) -> Shapes:
    d = sum(widths.values())
    shapes: Shapes = {}
    for m, d_m in widths.items():
        shapes |= {f"W_j{m}": (d_m, d), f"W_{m}": (d_m, k), f"W_c{m}": (d, k), f"W_h{m}": (k, d_m)}
    return shapes


def cross_attention_shapes(widths: Widths, _L: int) -> Shapes:
    return {"W": (widths["a"], widths["v"])}


def leader_follower_shapes(widths: Widths, _L: int, d: int = 3) -> Shapes:
    shapes: Shapes = {"gamma": (len(widths) * d,), "beta": (len(widths) * d,)}
    for m, d_m in widths.items():
        for part in "qkv":
            shapes |= {f"W_{part}{m}": (d_m, d), f"b_{part}{m}": (d,)}
    return shapes


def encoder_shapes(widths: Widths, _L: int, f: int = 5) -> Shapes:
    d = widths["x"]
    square = dict.fromkeys(("W_q", "W_k", "W_v", "W_o"), (d, d))
    vector = dict.fromkeys(("b_q", "b_v", "b_o", "b_2", "g_1", "s_1", "g_2", "s_2"), (d,))
    return {**square, **vector, "W_1": (d, f), "b_1": (f,), "W_2": (f, d)}


def jmt_shapes(widths: Widths, L: int) -> Shapes:
    d = widths["v"]
    shapes: Shapes = {"W_J": (2 * d, d), "b_J": (d,)}
    for m in "vaj":
        shapes |= {f"{m}.{n}": s for n, s in encoder_shapes({"x": d}, L).items()}
    square = [f"W_Q{m}" for m in "vaj"] + [f"W_s{part}" for part in "qkv"]
    square += [f"W_{part}{pair}" for part in "KV" for pair in ("va", "av", "jv", "vj", "ja", "aj")]
    return shapes | dict.fromkeys(square, (d, d))


class Method(NamedTuple):
    ours: Callable[..., dict[str, Tensor]]
    by_loops: Callable[..., dict[str, Array]]
    shapes: Callable[[Widths, int], Shapes]
    widths: tuple[Widths, ...]
    options: tuple[dict[str, Any], ...] = ({},)
    masked: bool = True


def ours_encoder(
    X: Mapping[str, Tensor],
    W: Mapping[str, Tensor],
    valid: Mapping[str, Tensor] | None = None,
    **options: bool,
) -> dict[str, Tensor]:
    return equations.encoder(X["x"], W, None if valid is None else valid["x"], **options)


def loops_encoder(X: Arrays, W: Arrays, valid: Masks = None, **options: bool) -> dict[str, Array]:
    return loops.encoder(X["x"], W, None if valid is None else valid["x"], **options)


ANY = ({"a": 3}, {"a": 4, "v": 4}, {"a": 3, "v": 5}, {"v": 2, "a": 3}, {"a": 2, "v": 4, "t": 3})
PAIRS = ({"a": 4, "v": 4}, {"a": 3, "v": 5}, {"v": 2, "a": 3})
METHODS = {
    "jca": Method(equations.jca, loops.jca, jca_shapes, ANY, masked=False),
    "rjcma": Method(equations.rjcma, loops.rjcma, rjcma_shapes, ANY),
    "jca_any": Method(
        equations.jca_any,
        loops.jca_any,
        jca_any_shapes,
        ANY,
        options=({}, {"causal": True}),
    ),
    "cross_attention": Method(
        equations.cross_attention,
        loops.cross_attention,
        cross_attention_shapes,
        PAIRS,
        options=({}, {"temperature": 0.3}),
    ),
    "leader_follower": Method(
        equations.leader_follower,
        loops.leader_follower,
        leader_follower_shapes,
        ({"v": 4}, *ANY[1:]),
    ),
    "audio_leads": Method(
        equations.leader_follower,
        loops.leader_follower,
        leader_follower_shapes,
        ANY,
        options=({"leader": "a"},),
    ),
    "encoder": Method(
        ours_encoder,
        loops_encoder,
        encoder_shapes,
        ({"x": 4}, {"x": 7}),
        options=({}, {"causal": True}),
    ),
    "jmt": Method(equations.jmt, loops.jmt, jmt_shapes, ({"v": 4, "a": 4}, {"a": 3, "v": 3})),
}
MASKED = [name for name, method in METHODS.items() if method.masked]
ANY_LENGTH = [name for name in MASKED if name != "rjcma"]
MASKS = ["none", "rows", "modality", "nothing"]


def masks(kind: str, widths: Widths, rows: tuple[int, ...], random: np.random.Generator) -> Masks:
    """Values missing nowhere, in some rows, in one whole modality as well, or everywhere.

    The modalities come in another order than those of the rows.
    """
    if kind == "none":
        return None
    valid: dict[str, Mask] = {m: random.random(rows) < 0.6 for m in reversed(widths)}
    for m in valid:
        if kind == "nothing" or (kind == "modality" and m == next(iter(widths))):
            valid[m] = np.zeros(rows, bool)
    return valid


def planted(
    method: Method, widths: Widths, rows: tuple[int, ...], kind: str = "none"
) -> tuple[Arrays, Arrays, Masks]:
    """Random inputs, weights and masks; rows without a value are zero."""
    random = np.random.default_rng(zlib.crc32(f"{widths}{rows}{kind}".encode()))
    valid = masks(kind, widths, rows, random)
    X: Arrays = {}
    for m, width in widths.items():
        X[m] = random.normal(size=(*rows, width))
        if valid is not None:
            X[m] *= valid[m][..., None]
    W: Arrays = {
        name: random.normal(size=shape) for name, shape in method.shapes(widths, rows[-1]).items()
    }
    return X, W, valid


def tensors(values: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: torch.tensor(value) for name, value in values.items()}


def given(valid: Masks) -> dict[str, Any]:
    return {} if valid is None else {"valid": tensors(valid)}


def attended(out: Mapping[str, Tensor]) -> Tensor:
    """What a head reads: the last representation, without the maps on the way to it."""
    names = [name for name in out if name in ("out", "x") or name.startswith("X_att")]
    return torch.cat([out[name].flatten() for name in names])


def label(values: Mapping[str, Any]) -> str:
    return "".join(f"-{name}{value}" for name, value in values.items())


CASES = [
    pytest.param(name, widths, options, kind, id=f"{name}{label({**widths, **options})}-{kind}")
    for name, method in METHODS.items()
    for widths in method.widths
    for options in method.options
    for kind in (MASKS if method.masked else MASKS[:1])
    if kind != "modality" or len(widths) > 1
]


@pytest.mark.parametrize("L", [1, 2, 5, 9])
@pytest.mark.parametrize(("name", "widths", "options", "kind"), CASES)
def test_equals_loops(
    name: str, widths: Widths, options: dict[str, Any], kind: str, L: int
) -> None:
    method = METHODS[name]
    for batch in ((), (3,)):
        X, W, valid = planted(method, widths, (*batch, L), kind)
        ours = method.ours(tensors(X), tensors(W), **given(valid), **options)
        for window in np.ndindex(batch):
            own: dict[str, Any] = {m: x[window] for m, x in X.items()}
            keep = {} if valid is None else {"valid": {m: v[window] for m, v in valid.items()}}
            expected = method.by_loops(own, W, **keep, **options)
            assert ours.keys() == expected.keys()
            for key, value in expected.items():
                assert ours[key].dtype == torch.float64
                np.testing.assert_allclose(
                    ours[key].numpy()[window], value, rtol=0, atol=1e-9, err_msg=key
                )


@pytest.mark.parametrize(("name", "widths", "options", "kind"), CASES)
def test_gradcheck(name: str, widths: Widths, options: dict[str, Any], kind: str) -> None:
    method = METHODS[name]
    X, W, valid = planted(method, widths, (2, 3), kind)
    names = [*X, *W]
    values = [torch.tensor(v, requires_grad=True) for v in (*X.values(), *W.values())]

    def outputs(*values: Tensor) -> tuple[Tensor, ...]:
        now = dict(zip(names, values, strict=True))
        rows = {m: now[m] for m in X}
        if valid is not None:
            rows = {m: x * torch.tensor(valid[m])[..., None] for m, x in rows.items()}
        return tuple(method.ours(rows, {n: now[n] for n in W}, **given(valid), **options).values())

    assert torch.autograd.gradcheck(outputs, values, fast_mode=True)


@pytest.mark.parametrize("name", METHODS)
def test_every_weight_learns(name: str) -> None:
    method = METHODS[name]
    X, W, _ = planted(method, method.widths[-1], (16, 5))
    weights = {n: torch.tensor(w, requires_grad=True) for n, w in W.items()}
    out = attended(method.ours(tensors(X), weights, **method.options[0]))
    direction = torch.tensor(np.random.default_rng(7).normal(size=len(out)))
    (out @ direction).backward()
    for key, weight in weights.items():
        assert weight.grad is not None, key
        assert weight.grad.abs().max() > 1e-6, key


@pytest.mark.parametrize("name", ANY_LENGTH)
def test_empty_rows_change_nothing(name: str) -> None:
    """A window padded with rows without values gives the same values in its other rows."""
    method = METHODS[name]
    X, W, valid = planted(method, method.widths[-1], (2, 5), "rows")
    assert valid is not None
    longer = {m: np.concatenate([x, np.zeros((2, 3, x.shape[-1]))], 1) for m, x in X.items()}
    without = {m: np.concatenate([v, np.zeros((2, 3), bool)], 1) for m, v in valid.items()}
    options = method.options[0]
    short = method.ours(tensors(X), tensors(W), **given(valid), **options)
    long = method.ours(tensors(longer), tensors(W), **given(without), **options)
    for key, value in short.items():
        if key in ("out", "x", "F") or key.startswith("X_att"):
            torch.testing.assert_close(long[key][:, :5], value)


@pytest.mark.parametrize("name", ["jca_any", "encoder"])
def test_causal_rows_ignore_later_ones(name: str) -> None:
    method = METHODS[name]
    X, W, valid = planted(method, method.widths[-1], (2, 6), "rows")
    assert valid is not None
    earlier = {m: x[:, :4] for m, x in X.items()}
    cut = {m: v[:, :4] for m, v in valid.items()}
    all_rows = method.ours(tensors(X), tensors(W), **given(valid), causal=True)
    first_rows = method.ours(tensors(earlier), tensors(W), **given(cut), causal=True)
    for key in all_rows:
        if key == "x" or key.startswith("X_att"):
            torch.testing.assert_close(all_rows[key][:, :4], first_rows[key])
