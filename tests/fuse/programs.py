"""What the authors' programs compute, item by item in NumPy: X maps modality to rows (L, d_m).

W maps their tensor names to float64 arrays. Linear weights are (out, in). No torch here.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Weights = Mapping[str, Array]
Program = Callable[[Mapping[str, Array], Weights, int], dict[str, Array]]
"""Rows, weights, attention heads."""


def jca(X: Mapping[str, Array], W: Weights, targets: Mapping[str, str]) -> dict[str, Array]:
    E = {"audio": linear(X["audio"], W, "encoder1"), "visual": linear(X["visual"], W, "encoder2")}
    J = np.concatenate([E["audio"], E["visual"]], axis=1)
    out: dict[str, Array] = {}
    for modality, x in E.items():
        m = modality[0]
        maps = np.einsum("ti,ts,sj->ij", x, W[f"affine_{m}.weight"], J)
        C = np.tanh(maps / np.sqrt(J.shape[1]))
        before = C @ W[f"W_c{m}.weight"].T + np.einsum("ti,kt->ik", x, W[f"W_{m}.weight"])
        H = np.maximum(before, 0)
        out[f"encoded_{modality}"], out[f"corr_{modality}"], out[f"hidden_{modality}"] = x, C, H
        out[f"attended_{modality}"] = np.einsum("ik,tk->ti", H, W[f"W_h{m}.weight"]) + x
    read = np.concatenate([X["visual"], out["attended_visual"]], axis=1)
    for target, regressor in targets.items():
        out[target] = linear(linear(read, W, f"{regressor}.0"), W, f"{regressor}.2")[:, 0]
    return out


def jca_tbiom(X: Mapping[str, Array], W: Weights, heads: int) -> dict[str, Array]:
    return jca(X, W, {"valence": "vregressor", "arousal": "aregressor"})


def jca_cvprw(X: Mapping[str, Array], W: Weights, heads: int) -> dict[str, Array]:
    return jca(X, W, {"prediction": "regressor"})


def rjcma(X: Mapping[str, Array], W: Weights, heads: int) -> dict[str, Array]:
    out: dict[str, Array] = {}
    x, recursion = dict(X), 0
    while f"coattn.dcn_layers.{recursion}.linears.0.0.weight" in W:
        layer = f"coattn.dcn_layers.{recursion}."
        recursion += 1
        J = np.concatenate(list(x.values()), axis=1)
        for number, (m, x_m) in enumerate(x.items()):
            K = linear(x_m.T, W, f"{layer}dense_coattn.key{number + 1}_linear")
            S = np.tanh(K @ J / np.sqrt(J.shape[1]))
            V = linear(x_m, W, f"{layer}dense_coattn.value{number + 1}_linear")
            Z = np.maximum(np.tanh(V @ S), 0)
            out[m] = x_m + np.maximum(linear(Z, W, f"{layer}linears.{number}.0"), 0)
            out[f"recursion{recursion}_{m}"] = out[m]
        x = {m: out[m] for m in X}
    hidden = linear(np.concatenate(list(x.values()), axis=1), W, "regressor1")
    hidden = leaky(batch_norm(hidden, W, "bn1"))
    return {**out, "prediction": np.tanh(linear(hidden, W, "regressor2"))[:, 0]}


def jmt_tokens(
    X: Mapping[str, Array], W: Weights, heads: int, inside: str = ""
) -> dict[str, Array]:
    joint = linear(np.concatenate([X["visual"], X["audio"]], axis=1), W, f"{inside}out_layer_pv")
    E = {
        "v": transformer(X["visual"], W, f"{inside}visual_encoder", heads),
        "p": transformer(X["audio"], W, f"{inside}physiological_encoder", heads),
        "pv": transformer(joint, W, f"{inside}joint_representation_encoder", heads),
    }
    pairs = [("v", "p"), ("p", "v"), ("pv", "v"), ("v", "pv"), ("pv", "p"), ("p", "pv")]
    cross = [attention(E[q], E[s], W, f"{inside}cross_attention_{q}", heads) for q, s in pairs]
    return {
        "joint": joint,
        "encoded_visual": E["v"],
        "encoded_audio": E["p"],
        "encoded_joint": E["pv"],
        "cross": np.stack(cross, axis=1),
    }


def jmt_block(X: Mapping[str, Array], W: Weights, heads: int, inside: str = "") -> dict[str, Array]:
    out = jmt_tokens(X, W, heads, inside)
    fused: list[Array] = []
    for six in out["cross"]:
        encoded = transformer(six, W, f"{inside}final_visual_encoder", heads)
        mixed = attention(encoded, encoded, W, f"{inside}final_self_attention", heads)
        fused.append(mixed[5])
    return {**out, "fused": np.stack(fused)}


def jmt_regressors(out: dict[str, Array], W: Weights) -> dict[str, Array]:
    for target, regressor in (("valence", "vregressor"), ("arousal", "aregressor")):
        hidden = np.maximum(linear(out["fused"], W, f"{regressor}.0"), 0)
        out[target] = linear(hidden, W, f"{regressor}.3")[..., 0]
    return out


def jmt_self_attention(X: Mapping[str, Array], W: Weights, heads: int) -> dict[str, Array]:
    return jmt_regressors(jmt_block(unit(X), W, heads, "mm_transformer."), W)


def jmt_fc(X: Mapping[str, Array], W: Weights, heads: int) -> dict[str, Array]:
    out = jmt_tokens(unit(X), W, heads, "mm_transformer.")
    six = out["cross"].reshape(len(out["cross"]), -1)
    out["fused"] = linear(six, W, "mm_transformer.out_layer1")
    return jmt_regressors(out, W)


def concat_jmt(X: Mapping[str, Array], W: Weights, heads: int) -> dict[str, Array]:
    x = unit(X)
    joined = np.concatenate([x["visual"], x["audio"]], axis=1)
    return jmt_regressors({"fused": linear(joined, W, "mm_transformer.fc")}, W)


def lfan_encoder(
    X: Mapping[str, Array], W: Weights, heads: int, inside: str = ""
) -> dict[str, Array]:
    rows, M = len(next(iter(X.values()))), len(X)
    qkv = [linear(x, W, f"{inside}layers.self_attn.qkv_proj.{m}") for m, x in X.items()]
    width = qkv[0].shape[1] // 3 // heads
    maps, mixed = np.zeros((heads, rows, M, M)), np.zeros((rows, heads, M, width))
    for t in range(rows):
        for h in range(heads):
            at = 3 * width * h
            Q, K, V = (
                np.stack([x[t, at + n * width : at + (n + 1) * width] for x in qkv])
                for n in range(3)
            )
            maps[h, t] = softmax(Q @ K.T / np.sqrt(width))
            mixed[t, h] = maps[h, t] @ V + V
    before = linear(mixed.reshape(rows, -1), W, f"{inside}layers.self_attn.o_proj")
    fused = layer_norm(before, W, f"{inside}layers.norm1")
    return {"attention": maps, "before_norm": before, "fused": fused}


def lfan_model(X: Mapping[str, Array], W: Weights, heads: int) -> dict[str, Array]:
    out: dict[str, Array] = {}
    for m, x in X.items():
        out[f"tcn_{m}"] = tcn(x, W, f"temporal.{m}.")[-1]
        out[f"bn_{m}"] = batch_norm(out[f"tcn_{m}"], W, f"bn.{m}")
    normed = {m: out[f"bn_{m}"] for m in X}
    out["follower"] = lfan_encoder(normed, W, heads, "fusion.")["fused"]
    read = np.concatenate([next(iter(normed.values())), out["follower"]], axis=1)
    out["prediction"] = np.tanh(linear(read, W, "regressor"))[:, 0]
    return out


def tcn_alone(X: Mapping[str, Array], W: Weights, heads: int) -> dict[str, Array]:
    levels = tcn(X["x"].T, W, "tcn.")
    out = {f"level{number}": y.T for number, y in enumerate(levels)}
    out["y"] = levels[-1].T
    if "bn.weight" in W:
        out["y_batchnorm"] = batch_norm(levels[-1], W, "bn").T
    return out


def tcn(x: Array, W: Weights, inside: str) -> list[Array]:
    """Rows (T, d) after every level."""
    out: list[Array] = []
    while f"{inside}network.{len(out)}.conv1.bias" in W:
        level = f"{inside}network.{len(out)}."
        y = x
        for conv in ("conv1", "conv2"):
            v = W[f"{level}{conv}.weight_v"]
            w = W[f"{level}{conv}.weight_g"] * v / np.sqrt((v**2).sum((1, 2), keepdims=True))
            kernel, dilation = v.shape[2], 2 ** len(out)
            padded = np.concatenate([np.zeros(((kernel - 1) * dilation, y.shape[1])), y])
            y = W[f"{level}{conv}.bias"] + sum(
                padded[j * dilation : j * dilation + len(y)] @ w[:, :, j].T for j in range(kernel)
            )
            y = leaky(y)
        if f"{level}downsample.weight" in W:
            x = x @ W[f"{level}downsample.weight"][:, :, 0].T + W[f"{level}downsample.bias"]
        x = leaky(x + y)
        out.append(x)
    return out


def transformer(x: Array, W: Weights, encoder: str, heads: int) -> Array:
    number = 0
    while f"{encoder}.layers.{number}.layer_norm1.weight" in W:
        layer = f"{encoder}.layers.{number}."
        x = layer_norm(x + attention(x, x, W, f"{layer}attention", heads), W, f"{layer}layer_norm1")
        inner = np.maximum(linear(x, W, f"{layer}feed_forward.0"), 0)
        x = layer_norm(x + linear(inner, W, f"{layer}feed_forward.2"), W, f"{layer}layer_norm2")
        number += 1
    return x


def attention(query: Array, source: Array, W: Weights, name: str, heads: int) -> Array:
    packed, biases = (np.split(W[f"{name}.in_proj_{part}"], 3) for part in ("weight", "bias"))
    Q, K, V = (x @ w.T + b for x, w, b in zip((query, source, source), packed, biases, strict=True))
    width = Q.shape[1] // heads
    parts = [slice(h * width, (h + 1) * width) for h in range(heads)]
    mixed = [softmax(Q[:, p] @ K[:, p].T / np.sqrt(width)) @ V[:, p] for p in parts]
    return linear(np.concatenate(mixed, axis=1), W, f"{name}.out_proj")


def linear(x: Array, W: Weights, name: str) -> Array:
    return x @ W[f"{name}.weight"].T + W[f"{name}.bias"]


def unit(X: Mapping[str, Array]) -> dict[str, Array]:
    return {m: x / np.sqrt((x**2).sum(1, keepdims=True)) for m, x in X.items()}


def softmax(scores: Array) -> Array:
    powers = np.exp(scores - scores.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def layer_norm(x: Array, W: Weights, name: str) -> Array:
    off = x - x.mean(-1, keepdims=True)
    scaled = off / np.sqrt((off**2).mean(-1, keepdims=True) + 1e-5)
    return scaled * W[f"{name}.weight"] + W[f"{name}.bias"]


def batch_norm(x: Array, W: Weights, name: str) -> Array:
    scaled = (x - W[f"{name}.running_mean"]) / np.sqrt(W[f"{name}.running_var"] + 1e-5)
    return scaled * W[f"{name}.weight"] + W[f"{name}.bias"]


def leaky(x: Array) -> Array:
    return np.where(x > 0, x, 0.01 * x)
