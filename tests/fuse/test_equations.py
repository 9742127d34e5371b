"""Joint cross-attention against plain loops written from the published equations."""

import numpy as np
import pytest
import torch
from concord.fuse.equations import jca

CASES = [
    # modalities with widths, L, k
    ({"a": 3, "v": 4}, 5, 2),
    ({"a": 6, "v": 6}, 8, 32),
    ({"a": 2, "t": 3, "v": 5}, 4, 3),
]


def weights(dims, L, k, seed):
    random = np.random.default_rng(seed)
    d = sum(dims.values())
    W = {}
    for m in dims:
        W[f"W_j{m}"] = random.normal(size=(L, L))
        W[f"W_{m}"] = random.normal(size=(k, L))
        W[f"W_c{m}"] = random.normal(size=(k, d))
        W[f"W_h{m}"] = random.normal(size=(L, k))
    X = {m: random.normal(size=(L, width)) for m, width in dims.items()}
    return X, W


def product(A, B):
    rows, inner = A.shape
    columns = B.shape[1]
    assert inner == B.shape[0]
    out = np.zeros((rows, columns))
    for i in range(rows):
        for j in range(columns):
            for n in range(inner):
                out[i, j] += A[i, n] * B[n, j]
    return out


def by_loops(X, W):
    J = np.concatenate(list(X.values()), axis=1)
    d = J.shape[1]
    out = {}
    for m, X_m in X.items():
        C = np.tanh(product(product(X_m.T, W[f"W_j{m}"]), J) / d**0.5)
        H = np.maximum(0, product(W[f"W_{m}"], X_m) + product(W[f"W_c{m}"], C.T))
        out[f"C_{m}"], out[f"H_{m}"] = C, H
        out[f"X_att{m}"] = product(W[f"W_h{m}"], H) + X_m
    return out


@pytest.mark.parametrize(("dims", "L", "k"), CASES)
def test_equals_loops(dims, L, k):
    X, W = weights(dims, L, k, seed=3)
    ours = jca(
        {m: torch.tensor(x) for m, x in X.items()}, {n: torch.tensor(w) for n, w in W.items()}
    )
    expected = by_loops(X, W)
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(ours[name].numpy(), value, atol=1e-12, err_msg=name)


def test_batches_are_independent():
    X, W = weights({"a": 3, "v": 4}, 5, 2, seed=1)
    other, _ = weights({"a": 3, "v": 4}, 5, 2, seed=2)
    W = {n: torch.tensor(w) for n, w in W.items()}
    batch = {m: torch.tensor(np.stack([X[m], other[m]])) for m in X}
    both = jca(batch, W)
    alone = jca({m: x[1] for m, x in batch.items()}, W)
    for name, value in alone.items():
        torch.testing.assert_close(both[name][1], value)


def test_gradcheck():
    X, W = weights({"a": 2, "v": 3}, 4, 3, seed=5)
    names = [*X, *W]
    tensors = [torch.tensor(v, requires_grad=True) for v in [*X.values(), *W.values()]]

    def attended(*values):
        given = dict(zip(names, values, strict=True))
        out = jca({m: given[m] for m in X}, {n: given[n] for n in W})
        return out["X_atta"], out["X_attv"]

    assert torch.autograd.gradcheck(attended, tensors)
