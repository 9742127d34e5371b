"""The papers' equations once more, for one window, as NumPy loops over every index.

Written from the equations alone; shapes and keys are those of `concord.fuse.equations`.
"""

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Arrays = Mapping[str, Array]
Masks = Mapping[str, Mask] | None

EPSILON = 1e-5


def product(A: Array, B: Array) -> Array:
    """The matrix product."""
    rows, inner = A.shape
    columns = B.shape[1]
    assert B.shape[0] == inner
    out = np.zeros((rows, columns))
    for i in range(rows):
        for j in range(columns):
            for n in range(inner):
                out[i, j] += A[i, n] * B[n, j]
    return out


def affine(A: Array, B: Array, b: Array) -> Array:
    """The matrix product plus b in every row."""
    out = product(A, B)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] += b[j]
    return out


def joined(*parts: Array) -> Array:
    """The features of all parts side by side, row for row."""
    return np.array([[x for part in parts for x in part[i]] for i in range(len(parts[0]))])


def softmax(scores: Array, keep: Mask) -> Array:
    """Softmax of one vector over its kept entries; 0 elsewhere, all 0 when none is kept."""
    out = np.zeros(len(scores))
    kept = [i for i in range(len(scores)) if keep[i]]
    if not kept:
        return out
    largest = max(scores[i] for i in kept)
    total = sum(math.exp(scores[i] - largest) for i in kept)
    for i in kept:
        out[i] = math.exp(scores[i] - largest) / total
    return out


def layer_norm(x: Array) -> Array:
    """One vector with mean 0 and (biased) variance 1."""
    mean = sum(x) / len(x)
    variance = sum((value - mean) ** 2 for value in x) / len(x)
    return np.array([(value - mean) / math.sqrt(variance + EPSILON) for value in x])


def attention(Q: Array, K: Array, keep: Mask) -> Array:
    """Weights of scaled dot-product attention; `keep[i, j]`: query i may see key j."""
    scores = product(Q, K.T) / math.sqrt(Q.shape[1])
    return np.array([softmax(scores[i], keep[i]) for i in range(len(scores))])


def all_see(keys: Mask, queries: int) -> Mask:
    """Every query may see the same keys."""
    return np.array([keys for _ in range(queries)])


def present(X: Arrays, valid: Masks) -> dict[str, Mask]:
    """Which rows of every modality have a value."""
    return {m: np.ones(len(x), bool) if valid is None else valid[m] for m, x in X.items()}


def anything(has: Mapping[str, Mask]) -> Mask:
    """Which rows have a value in at least one modality."""
    rows = len(next(iter(has.values())))
    return np.array([any(mask[i] for mask in has.values()) for i in range(rows)])


def cleared(x: Array, keep: Mask) -> Array:
    """x with 0 in the rows that are not kept."""
    return np.array([x[i] if keep[i] else np.zeros_like(x[i]) for i in range(len(x))])


def jca(X: Arrays, W: Arrays) -> dict[str, Array]:
    J = joined(*X.values())
    out: dict[str, Array] = {}
    for m, X_m in X.items():
        C = np.tanh(product(product(X_m.T, W[f"W_j{m}"]), J) / math.sqrt(J.shape[1]))
        H = np.maximum(0, product(W[f"W_{m}"], X_m) + product(W[f"W_c{m}"], C.T))
        out[f"C_{m}"], out[f"H_{m}"] = C, H
        out[f"X_att{m}"] = product(W[f"W_h{m}"], H) + X_m
    return out


def rjcma(X: Arrays, W: Arrays, valid: Masks = None) -> dict[str, Array]:
    projected = affine(joined(*X.values()), W["W_J"], W["b_J"])
    J = cleared(projected, anything(present(X, valid)))
    out = {"J": J}
    for m, X_m in X.items():
        C = np.tanh(product(product(X_m.T, W[f"W_j{m}"]), J) / math.sqrt(J.shape[1]))
        H = np.maximum(0, product(product(X_m, W[f"W_c{m}"]), C))
        out[f"C_{m}"], out[f"H_{m}"] = C, H
        out[f"X_att{m}"] = product(H, W[f"W_h{m}"]) + X_m
    return out


def jca_any(X: Arrays, W: Arrays, valid: Masks = None, *, causal: bool = False) -> dict[str, Array]:
    J = joined(*X.values())
    L, d = J.shape
    some = anything(present(X, valid))
    out: dict[str, Array] = {}
    for m, X_m in X.items():
        scores = product(product(X_m, W[f"W_j{m}"]), J.T)
        C = np.zeros((L, L))
        for i in range(L):
            seen = [j for j in range(L) if some[j] and (j <= i or not causal)]
            for j in seen:
                C[i, j] = math.tanh(scores[i, j] / math.sqrt(d)) / len(seen)
        H = np.maximum(0, product(X_m, W[f"W_{m}"]) + product(product(C, J), W[f"W_c{m}"]))
        out[f"C_{m}"], out[f"H_{m}"] = C, H
        out[f"X_att{m}"] = product(H, W[f"W_h{m}"]) + X_m
    return out


def cross_attention(
    X: Arrays, W: Arrays, temperature: float = 1.0, valid: Masks = None
) -> dict[str, Array]:
    has = present(X, valid)
    Z = product(product(X["a"], W["W"]), X["v"].T)
    out = {"Z": Z}
    for m, scores in (("a", Z), ("v", Z.T)):
        A = np.zeros_like(scores)
        for query in range(scores.shape[1]):
            A[:, query] = softmax(scores[:, query] / temperature, has[m])
        out[f"A_{m}"] = A
        out[f"X_att{m}"] = np.tanh(X[m] + product(A.T, X[m]))
    return out


def leader_follower(
    X: Arrays, W: Arrays, leader: str = "v", valid: Masks = None
) -> dict[str, Array]:
    has = present(X, valid)
    Q, K, values = (
        {m: affine(X_m, W[f"W_{part}{m}"], W[f"b_{part}{m}"]) for m, X_m in X.items()}
        for part in "qkv"
    )
    V = {m: cleared(value, has[m]) for m, value in values.items()}
    maps: list[Array] = []
    followers: list[Array] = []
    for i in range(len(X[leader])):
        q, k, v = (np.array([part[m][i] for m in X]) for part in (Q, K, V))
        keys = np.array([has[m][i] for m in X])
        A = attention(q, k, all_see(keys, len(X)))
        tokens = product(A, v) + v
        flat = np.array([x for token in tokens for x in token])
        maps.append(A)
        followers.append(W["gamma"] * layer_norm(flat) + W["beta"])
    F = np.array(followers)
    return {"A": np.array(maps), "F": F, "out": joined(X[leader], F)}


def encoder(
    x: Array, W: Arrays, keys: Mask | None = None, *, causal: bool = False
) -> dict[str, Array]:
    L = len(x)
    keep = np.ones((L, L), bool)
    for i in range(L):
        for j in range(L):
            keep[i, j] = (keys is None or keys[j]) and (j <= i or not causal)
    A = attention(affine(x, W["W_q"], W["b_q"]), product(x, W["W_k"]), keep)
    attended = product(A, affine(x, W["W_v"], W["b_v"]))
    y = x + affine(attended, W["W_o"], W["b_o"])
    y = np.array([W["g_1"] * layer_norm(row) + W["s_1"] for row in y])
    hidden = np.maximum(0, affine(y, W["W_1"], W["b_1"]))
    z = y + affine(hidden, W["W_2"], W["b_2"])
    return {"x": np.array([W["g_2"] * layer_norm(row) + W["s_2"] for row in z]), "A": A}


def jmt(X: Arrays, W: Arrays, valid: Masks = None) -> dict[str, Array]:
    has = present(X, valid)
    has["j"] = anything(has)
    L, d = X["v"].shape
    j = cleared(affine(joined(X["v"], X["a"]), W["W_J"], W["b_J"]), has["j"])
    out = {"j": j}
    for m, x in (("v", X["v"]), ("a", X["a"]), ("j", j)):
        own = {name.removeprefix(f"{m}."): w for name, w in W.items() if name.startswith(f"{m}.")}
        out[f"encoded_{m}"] = cleared(encoder(x, own, has[m])["x"], has[m])
    tokens = np.zeros((L, 6, d))
    there = np.zeros((L, 6), bool)
    for n, (query, source) in enumerate(("va", "av", "jv", "vj", "ja", "aj")):
        E_q, E_s = out[f"encoded_{query}"], out[f"encoded_{source}"]
        Q = product(E_q, W[f"W_Q{query}"])
        K = product(E_s, W[f"W_K{query}{source}"])
        V = product(E_s, W[f"W_V{query}{source}"])
        A = out[f"A_{query}{source}"] = attention(Q, K, all_see(has[source], L))
        tokens[:, n] = cleared(product(A, V), has[query])
        there[:, n] = [has[query][i] and any(has[source]) for i in range(L)]
    out["tokens"] = tokens
    out["A_s"] = np.zeros((L, 6, 6))
    out["out"] = np.zeros((L, 6 * d))
    for i in range(L):
        q, k, v = (product(tokens[i], W[f"W_s{part}"]) for part in "qkv")
        out["A_s"][i] = attention(q, k, all_see(there[i], 6))
        mixed = cleared(product(out["A_s"][i], v), there[i])
        out["out"][i] = [x for token in mixed for x in token]
    return out
