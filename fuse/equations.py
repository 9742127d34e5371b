"""The papers' formulas as pure functions, in the papers' symbols. Rows are time.

`X` maps modalities (a, v, t) to their rows (…, L, d_m), zero where there is no value; `valid` says
where there is one. `J` is the joint representation, d the sum of the d_m, `W` the weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import layer_norm

from .activations import tanh
from .masking import any_valid, masked_softmax, silenced

Valid = Mapping[str, Tensor] | None
JMT_TOKENS = ("va", "av", "jv", "vj", "ja", "aj")
"""JMT's cross-attentions in the order of their tokens: query, then source."""


def jca(X: Mapping[str, Tensor], W: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Joint cross-attention (Praveen et al., CVPRW 2022, arXiv 2203.14779, section 3.2).

    With J = [X_a | X_v | …] (L, d), for every modality m:

        C_m     = tanh(X_m^T W_jm J / sqrt(d))        (d_m, d)
        H_m     = ReLU(W_m X_m + W_cm C_m^T)          (k, d_m)
        X_att,m = W_hm H_m + X_m                      (L, d_m)

    Costs O(L d_m d + L^2 d) per window in time, O(d_m d) in memory.

    Args:
        X: Modality to rows (…, L, d_m). Rows without a value are zero.
        W: `W_j{m}` (L, L), `W_{m}` (k, L), `W_c{m}` (k, d), `W_h{m}` (L, k) for every m of X.

    Returns:
        `X_att{m}`, `C_{m}` and `H_{m}` for every modality m.
    """
    J = torch.cat(list(X.values()), dim=-1)
    scale = math.sqrt(J.shape[-1])
    out: dict[str, Tensor] = {}
    for m, X_m in X.items():
        C = tanh((X_m.mT @ W[f"W_j{m}"]).div_(scale) @ J)
        # Transposed, so that weights stand on the right: one product for all windows of a batch.
        H = (X_m.mT @ W[f"W_{m}"].mT + C @ W[f"W_c{m}"].mT).relu_().mT
        out[f"C_{m}"], out[f"H_{m}"] = C, H
        out[f"X_att{m}"] = (H.mT @ W[f"W_h{m}"].mT).mT + X_m
    return out


def rjcma(
    X: Mapping[str, Tensor], W: Mapping[str, Tensor], valid: Valid = None
) -> dict[str, Tensor]:
    """One recursion of recursive joint cross-modal attention (Praveen and Alam, CVPRW 2024,
    arXiv 2403.13659, section 3.2).

        J       = [X_1 | … | X_M] W_J + b_J           (L, d)
        C_m     = tanh(X_m^T W_jm J / sqrt(d))        (d_m, d)
        H_m     = ReLU(X_m W_cm C_m)                  (L, d)
        X_att,m = H_m W_hm + X_m                      (L, d_m)

    The next recursion takes X_att as its X. Costs O(L^2 d + L d^2) per window in time, O(d^2 + L d)
    in memory.

    Args:
        X: Modality to rows (…, L, d_m). Rows without a value are zero, and stay zero.
        W: `W_J` (d, d), `b_J` (d,); `W_j{m}` (L, L), `W_c{m}` (d_m, d_m), `W_h{m}` (d, d_m).
        valid: Modality to (…, L); J is zero where no modality has a value.

    Returns:
        `J`; `X_att{m}`, `C_{m}` and `H_{m}` for every modality m.
    """  # noqa: D205 - the paper's full reference belongs to the first sentence
    # Without joining the X_m, which would be held until the gradient is known.
    parts = W["W_J"].split([X_m.shape[-1] for X_m in X.values()])
    joined = [X_m @ part for X_m, part in zip(X.values(), parts, strict=True)]
    J = silenced(sum(joined, W["b_J"]), None if valid is None else any_valid(valid))
    del joined
    scale = math.sqrt(J.shape[-1])
    out = {"J": J}
    for m, X_m in X.items():
        C = tanh((X_m.mT @ W[f"W_j{m}"]).div_(scale) @ J)
        H = (X_m @ W[f"W_c{m}"] @ C).relu_()
        out[f"C_{m}"], out[f"H_{m}"] = C, H
        out[f"X_att{m}"] = H @ W[f"W_h{m}"] + X_m
    return out


def jca_any(
    X: Mapping[str, Tensor],
    W: Mapping[str, Tensor],
    valid: Valid = None,
    *,
    causal: bool = False,
) -> dict[str, Tensor]:
    """Joint cross-attention for any length: ours, in the form of `jca` with rows for features.

        C_m     = tanh(X_m W_jm J^T / sqrt(d))        (L, L)
        H_m     = ReLU(X_m W_m + C_m J W_cm)          (L, k)
        X_att,m = H_m W_hm + X_m                      (L, d_m)

    with J = [X_1 | … | X_M]. Columns of C_m are 0 for rows where no modality has a value and, when
    causal, for later rows; each row of C_m is divided by the number of columns left, at least 1.
    Costs O(L^2 d) per window in time, O(L^2) in memory.

    Args:
        X: Modality to rows (…, L, d_m). Rows without a value are zero.
        W: `W_j{m}` (d_m, d), `W_{m}` (d_m, k), `W_c{m}` (d, k), `W_h{m}` (k, d_m).
        valid: Modality to (…, L).
        causal: A row depends on no later one.

    Returns:
        `X_att{m}`, `C_{m}` and `H_{m}` for every modality m.
    """
    J = torch.cat(list(X.values()), dim=-1)
    length, d = J.shape[-2:]
    columns = torch.ones(length, length, dtype=J.dtype, device=J.device)
    if causal:
        columns = columns.tril()
    if valid is not None:
        columns = columns * any_valid(valid)[..., None, :]
    shares = columns / columns.sum(-1, keepdim=True).clamp(min=1)
    out: dict[str, Tensor] = {}
    for m, X_m in X.items():
        C = tanh(X_m @ W[f"W_j{m}"] @ J.mT / math.sqrt(d)) * shares
        H = torch.relu(X_m @ W[f"W_{m}"] + C @ (J @ W[f"W_c{m}"]))
        out[f"C_{m}"], out[f"H_{m}"] = C, H
        out[f"X_att{m}"] = H @ W[f"W_h{m}"] + X_m
    return out


def cross_attention(
    X: Mapping[str, Tensor],
    W: Mapping[str, Tensor],
    temperature: float = 1.0,
    valid: Valid = None,
) -> dict[str, Tensor]:
    """Cross-attention of two modalities (Praveen et al., FG 2021), in its well-formed shape.

        Z       = X_a W X_v^T                                   (L, L)
        A_a     = softmax of Z / T over the audio steps         (L, L)
        A_v     = softmax of Z^T / T over the visual steps      (L, L)
        X_att,m = tanh(X_m + A_m^T X_m)                         (L, d_m)

    Costs O(L^2 (d_a + d_v) + L d_a d_v) per window in time, O(L^2) in memory.

    Args:
        X: `a` and `v` to rows (…, L, d_m). Rows without a value are zero.
        W: `W` (d_a, d_v).
        temperature: T.
        valid: Modality to (…, L); steps without a value are not attended to, and where no step is
            left the attention is 0.

    Returns:
        `X_atta`, `X_attv`, `Z`, `A_a` and `A_v`.
    """
    Z = X["a"] @ W["W"] @ X["v"].mT
    out = {"Z": Z}
    for m, scores in (("a", Z), ("v", Z.mT)):
        steps = None if valid is None else valid[m][..., :, None]
        A = masked_softmax(scores / temperature, steps, dim=-2)
        out[f"A_{m}"] = A
        out[f"X_att{m}"] = torch.tanh(X[m] + A.mT @ X[m])
    return out


def leader_follower(
    X: Mapping[str, Tensor],
    W: Mapping[str, Tensor],
    leader: str = "v",
    valid: Valid = None,
) -> dict[str, Tensor]:
    """Leader-follower attention (Zhang et al., ICCVW 2021, arXiv 2107.01175, section 3.3).

    The modalities of one row are the tokens; with Q_m = X_m W_qm + b_qm, K and V alike, (M, d):

        A   = softmax(Q K^T / sqrt(d)) over the key modalities  (M, M)
        F   = LayerNorm(A V + V) over all M d numbers           (M d)
        out = [X_leader | F]                                    (d_leader + M d)

    Rows do not meet. Costs O(L (d_m M d + M^2 d)) per window in time, O(L M d) in memory.

    Args:
        X: Modality to rows (…, L, d_m). Rows without a value are zero.
        W: `W_q{m}` (d_m, d), `b_q{m}` (d,), likewise k and v; `gamma` and `beta` (M d,).
        leader: The modality that leads.
        valid: Modality to (…, L); a modality without a value in a row is not attended to there.

    Returns:
        `out` (…, L, d_leader + M d), `F` (…, L, M d) and `A` (…, L, M, M).
    """
    Q, K, V = (
        torch.stack([x @ W[f"W_{part}{m}"] + W[f"b_{part}{m}"] for m, x in X.items()], dim=-2)
        for part in "qkv"
    )
    present = None if valid is None else torch.stack([valid[m] for m in X], dim=-1)
    values = silenced(V, present)
    A, attended = _attention(Q, K, values, present)
    F = layer_norm((attended + values).flatten(-2), W["gamma"].shape, W["gamma"], W["beta"])
    return {"out": torch.cat([X[leader], F], dim=-1), "F": F, "A": A}


def encoder(
    x: Tensor, W: Mapping[str, Tensor], keys: Tensor | None = None, *, causal: bool = False
) -> dict[str, Tensor]:
    """A post-norm Transformer layer with one head (Vaswani et al., 2017), without a key bias.

        y   = LN_1(x + softmax(Q K^T / sqrt(d)) V W_o + b_o)
        out = LN_2(y + ReLU(y W_1 + b_1) W_2 + b_2)

    with Q = x W_q + b_q, K = x W_k (the softmax cancels a bias) and V = x W_v + b_v. Costs
    O(L^2 d + L d^2) per window in time, O(L^2) in memory.

    Args:
        x: (…, L, d).
        W: `W_q`, `W_k`, `W_v`, `W_o` (d, d), `W_1` (d, f), `W_2` (f, d), their biases `b_…` but
            `b_k`, and `g_1`, `s_1`, `g_2`, `s_2` (d,), the norms' scales and shifts.
        keys: (…, L), the rows that may be attended to.
        causal: A row attends to no later one.

    Returns:
        `x` (…, L, d) and the attention `A` (…, L, L).
    """
    Q, K, V = x @ W["W_q"] + W["b_q"], x @ W["W_k"], x @ W["W_v"] + W["b_v"]
    A, attended = _attention(Q, K, V, keys, causal=causal)
    d = x.shape[-1:]
    y = layer_norm(x + attended @ W["W_o"] + W["b_o"], d, W["g_1"], W["s_1"])
    inner = torch.relu(y @ W["W_1"] + W["b_1"])
    return {"x": layer_norm(y + inner @ W["W_2"] + W["b_2"], d, W["g_2"], W["s_2"]), "A": A}


def jmt(X: Mapping[str, Tensor], W: Mapping[str, Tensor], valid: Valid = None) -> dict[str, Tensor]:
    """Joint multimodal transformer (Waligora et al., CVPRW 2024, arXiv 2403.10488, section 3).

    j = [v | a] W_J + b_J; E_m = encoder(m) for m of v, a, j; six cross-attentions q <- s of
    v<-a, a<-v, j<-v, v<-j, j<-a, a<-j, without residual or norm:

        token_qs = softmax(E_q W_Qq (E_s W_Kqs)^T / sqrt(d)) E_s W_Vqs          (L, d)

    and one self-attention over the six tokens of each row, flattened (6 d). The paper leaves open
    which projections are shared and what follows the six tokens: one query per query modality, keys
    and values per pair, and all six tokens are our choice. Costs O(L^2 d + L d^2) per window in
    time, O(L^2) in memory.

    Args:
        X: `v` and `a` to rows (…, L, d). Rows without a value are zero.
        W: `W_J` (2 d, d), `b_J` (d,); `v.…`, `a.…`, `j.…` of the encoders; `W_Q{q}` (d, d) for q of
            v, a, j; `W_K{q}{s}` and `W_V{q}{s}` (d, d) for every pair; `W_sq`, `W_sk`, `W_sv`.
        valid: Modality to (…, L). Rows without a value are not attended to, nor have tokens; what
            finds nothing to attend to is 0.

    Returns:
        `out` (…, L, 6 d), `tokens` (…, L, 6, d) before the last attention, `j`, `encoded_{m}`, the
        maps `A_{q}{s}` (…, L, L) and `A_s` (…, L, 6, 6).
    """
    has: dict[str, Tensor | None] = dict.fromkeys("vaj")
    present = None
    if valid is not None:
        rows = {"v": valid["v"], "a": valid["a"], "j": valid["v"] | valid["a"]}
        present = torch.stack([rows[q] & rows[s].any(-1, True) for q, s in JMT_TOKENS], dim=-1)
        has = {**rows}
    joined = torch.cat([X["v"], X["a"]], dim=-1) @ W["W_J"] + W["b_J"]
    out = {"j": silenced(joined, has["j"])}
    for m, x in (("v", X["v"]), ("a", X["a"]), ("j", out["j"])):
        out[f"encoded_{m}"] = silenced(encoder(x, _under(W, m), has[m])["x"], has[m])
    tokens: list[Tensor] = []
    for q, s in JMT_TOKENS:
        Q, E_s = out[f"encoded_{q}"] @ W[f"W_Q{q}"], out[f"encoded_{s}"]
        K, V = E_s @ W[f"W_K{q}{s}"], E_s @ W[f"W_V{q}{s}"]
        out[f"A_{q}{s}"], token = _attention(Q, K, V, has[s])
        tokens.append(token)
    six = silenced(torch.stack(tokens, dim=-2), present)
    out["tokens"] = six
    out["A_s"], mixed = _attention(six @ W["W_sq"], six @ W["W_sk"], six @ W["W_sv"], present)
    out["out"] = silenced(mixed, present).flatten(-2)
    return out


def _attention(
    Q: Tensor, K: Tensor, V: Tensor, keys: Tensor | None, *, causal: bool = False
) -> tuple[Tensor, Tensor]:
    """Softmax(Q K^T / sqrt(d)) over the keys that may be attended to, and the values it gives."""
    scores = Q @ K.mT / math.sqrt(Q.shape[-1])
    allowed = None if keys is None else keys[..., None, :]
    if causal:
        earlier = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        allowed = earlier if allowed is None else allowed & earlier
    A = masked_softmax(scores, allowed, dim=-1)
    return A, A @ V


def _under(W: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Weights of one part: `v.W_q` becomes `W_q`."""
    at = len(prefix) + 1
    return {name[at:]: weight for name, weight in W.items() if name.startswith(f"{prefix}.")}
