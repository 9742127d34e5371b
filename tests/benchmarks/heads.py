"""What a head costs beside its equations written naively, and what it holds in memory.

    python tests/benchmarks/heads.py [--pairs N] [--batch B]

Both sides take the same training step (forward, CCC loss, backward, Adam) with the same weights and
masks, in turns; the figure is the median of the pairs' ratios. Memory is the highest resident
memory of a process that takes three steps, beyond what it held before them.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
from concord.fuse import build_head, ccc_loss
from concord.fuse.settings import ExperimentSettings
from concord.pipelines.device import keep_memory

RETURNED = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
"""Gives a tensor's memory back with the tensor, so that the peak is what lived at once."""
DIMS = {"audio/resnet18": 512, "visual/resnet18": 512}


def softmax(scores, keys):
    """Softmax over the last axis where `keys` say so; 0 where none is left."""
    filled = scores.masked_fill(~keys, float("-inf"))
    return torch.nan_to_num(torch.softmax(filled, -1))


def masked(x, valid):
    return x * valid[..., None]


def attend(q, k, v, keys):
    return softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), keys[..., None, :]) @ v


def norm(x, scale, shift):
    return torch.nn.functional.layer_norm(x, x.shape[-1:], scale, shift)


def jca(head, a, v, ok_a, ok_v):
    W = head.W
    joint = torch.cat([a, v], -1)
    out = []
    for m, x in (("a", a), ("v", v)):
        c = torch.tanh(x.transpose(-1, -2) @ W[f"W_j{m}"] @ joint / math.sqrt(joint.shape[-1]))
        h = torch.relu(W[f"W_{m}"] @ x + W[f"W_c{m}"] @ c.transpose(-1, -2))
        out.append(W[f"W_h{m}"] @ h + x)
    return torch.cat(out, -1)


def rjcma(head, a, v, ok_a, ok_v):
    for W in head.recursions:
        joint = masked(torch.cat([a, v], -1) @ W["W_J"] + W["b_J"], ok_a | ok_v)
        out = []
        for m, x in (("a", a), ("v", v)):
            c = torch.tanh(x.transpose(-1, -2) @ W[f"W_j{m}"] @ joint / math.sqrt(joint.shape[-1]))
            h = torch.relu(x @ W[f"W_c{m}"] @ c)
            out.append(h @ W[f"W_h{m}"] + x)
        a, v = out
    return torch.cat([a, v], -1)


def jca_any(head, a, v, ok_a, ok_v):
    W = head.W
    joint = torch.cat([a, v], -1)
    some = (ok_a | ok_v)[:, None, :].to(a.dtype)
    out = []
    for m, x in (("a", a), ("v", v)):
        c = torch.tanh(x @ W[f"W_j{m}"] @ joint.transpose(-1, -2) / math.sqrt(joint.shape[-1]))
        c = c * some / some.sum(-1, keepdim=True).clamp(min=1)
        h = torch.relu(x @ W[f"W_{m}"] + c @ joint @ W[f"W_c{m}"])
        out.append(h @ W[f"W_h{m}"] + x)
    return torch.cat(out, -1)


def cross_attention(head, a, v, ok_a, ok_v):
    z = a @ head.W @ v.transpose(-1, -2)
    over_a = softmax(z.transpose(-1, -2) / head.temperature, ok_a[:, None, :])
    over_v = softmax(z / head.temperature, ok_v[:, None, :])
    return torch.cat([torch.tanh(a + over_a @ a), torch.tanh(v + over_v @ v)], -1)


def leader_follower(head, a, v, ok_a, ok_v):
    W = head.W
    rows = (("a", a), ("v", v))
    q, k, values = (
        torch.stack([x @ W[f"W_{part}{m}"] + W[f"b_{part}{m}"] for m, x in rows], -2)
        for part in "qkv"
    )
    ok = torch.stack([ok_a, ok_v], -1)
    values = masked(values, ok)
    follower = (attend(q, k, values, ok) + values).flatten(-2)
    return torch.cat([v, norm(follower, W["gamma"], W["beta"])], -1)


def jmt(head, a, v, ok_a, ok_v):
    W = head.W
    ok = {"a": ok_a, "v": ok_v, "j": ok_a | ok_v}
    x = {"a": a, "v": v}
    x["j"] = masked(torch.cat([v, a], -1) @ W["W_J"] + W["b_J"], ok["j"])
    for m in "vaj":
        E = head.encoder_weights[m]
        q, k = x[m] @ E["W_q"] + E["b_q"], x[m] @ E["W_k"]
        y = attend(q, k, x[m] @ E["W_v"] + E["b_v"], ok[m]) @ E["W_o"] + E["b_o"]
        y = norm(x[m] + y, E["g_1"], E["s_1"])
        y = norm(y + torch.relu(y @ E["W_1"] + E["b_1"]) @ E["W_2"] + E["b_2"], E["g_2"], E["s_2"])
        x[m] = masked(y, ok[m])
    tokens, there = [], []
    for q, s in ("va", "av", "jv", "vj", "ja", "aj"):
        query, key = x[q] @ W[f"W_Q{q}"], x[s] @ W[f"W_K{q}{s}"]
        there.append(ok[q] & ok[s].any(-1, keepdim=True))
        tokens.append(masked(attend(query, key, x[s] @ W[f"W_V{q}{s}"], ok[s]), there[-1]))
    six, there = torch.stack(tokens, -2), torch.stack(there, -1)
    mixed = attend(six @ W["W_sq"], six @ W["W_sk"], six @ W["W_sv"], there)
    return masked(mixed, there).flatten(-2)


def concat(head, a, v, ok_a, ok_v):
    return torch.cat([a, v], -1)


NAIVE = {
    f.__name__: f for f in (jca, rjcma, jca_any, cross_attention, leader_follower, jmt, concat)
}


def naive(head, features, valid, rows):
    """The head's output by plain equations."""
    x = []
    for layer, stream in zip(head.project.layers, DIMS, strict=True):
        ok = valid[stream] & rows
        x.append((masked(layer(masked(features[stream], ok)), ok), ok))
    (a, ok_a), (v, ok_v) = x
    return head.readout(NAIVE[head.name](head, a, v, ok_a, ok_v))


def made(name, length, batch, width):
    torch.manual_seed(0)
    settings = ExperimentSettings(head=name, streams=tuple(DIMS), width=width, dropout=0.0)
    head = build_head(DIMS, length, settings)
    features = {n: torch.randn(batch, length, d) for n, d in DIMS.items()}
    valid = {n: torch.rand(batch, length) > 0.1 for n in DIMS}
    rows = torch.ones(batch, length, dtype=torch.bool)
    return head, (features, valid, rows), torch.rand(batch, length, 2) * 2 - 1


def stepper(head, given, labels, forward):
    optimiser = torch.optim.Adam(head.parameters(), lr=1e-4)

    def step():
        out = forward(head, *given)
        loss = (ccc_loss(out[..., 0], labels[..., 0]) + ccc_loss(out[..., 1], labels[..., 1])) / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def timed(step, count):
    begun = time.perf_counter()
    for _ in range(count):
        step()
    return time.perf_counter() - begun


def ours(head, *given):
    return head(*given)


def ratio(name, length, batch, width, pairs):
    """Median time of our step over that of the naive one, milliseconds of ours, and agreement."""
    head, given, labels = made(name, length, batch, width)
    head.train()
    with torch.no_grad():
        away = (head(*given) - naive(head, *given)).abs().max().item()
    steps = [stepper(copy.deepcopy(head), given, labels, way) for way in (ours, naive)]
    count = max(1, int(0.3 / max(timed(steps[0], 3) / 3, 1e-4)))
    timed(steps[1], 3)
    found = []
    for pair in range(pairs):
        order = (0, 1) if pair % 2 == 0 else (1, 0)
        spent = {which: timed(steps[which], count) for which in order}
        found.append((spent[0] / spent[1], spent[0] / count * 1e3))
    return statistics.median(r for r, _ in found), statistics.median(t for _, t in found), away


def resident(field):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def memory(way, batch):
    """Print the memory of three steps of rjcma at L = 300, code that they load left out."""
    small = made("rjcma", 300, 1, 128)
    stepper(*small, ours if way == "ours" else naive)()
    head, given, labels = made("rjcma", 300, batch, 128)
    step = stepper(head, given, labels, ours if way == "ours" else naive)
    Path("/proc/self/clear_refs").write_text("5")
    before = resident("VmRSS")
    for _ in range(3):
        step()
    print(resident("VmHWM") - before)


def main() -> None:
    """Run all and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--memory")
    options = parser.parse_args()
    if options.memory:
        memory(options.memory, options.batch)
        return
    keep_memory()
    for name in NAIVE:
        for length, width in ((16, 64), (16, 128)):
            middle, spent, away = ratio(name, length, options.batch, width, options.pairs)
            print(
                f"{name}, L {length}, width {width}: {middle:.2f} of the naive step's time "
                f"({spent:.1f} ms, outputs apart by {away:.0e})",
                flush=True,
            )
    command = [sys.executable, __file__, "--batch", str(options.batch), "--memory"]
    held = {}
    for way in ("ours", "naive"):
        runs = [
            subprocess.run([*command, way], check=True, capture_output=True, env=RETURNED)
            for _ in range(3)
        ]
        held[way] = statistics.median(float(run.stdout) for run in runs)
    print(f"rjcma, L 300, width 128: {held['ours']:.0f} MiB, naive {held['naive']:.0f} MiB")


if __name__ == "__main__":
    main()
