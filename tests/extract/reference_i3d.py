"""Inception-I3D once more, plainly: functions over a dictionary of tensors.

Written from the published description, not from the package, so that the two can disagree.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812

BLOCKS = {
    "Mixed_3b": (192, 64, 96, 128, 16, 32, 32),
    "Mixed_3c": (256, 128, 128, 192, 32, 96, 64),
    "Mixed_4b": (480, 192, 96, 208, 16, 48, 64),
    "Mixed_4c": (512, 160, 112, 224, 24, 64, 64),
    "Mixed_4d": (512, 128, 128, 256, 24, 64, 64),
    "Mixed_4e": (512, 112, 144, 288, 32, 64, 64),
    "Mixed_4f": (528, 256, 160, 320, 32, 128, 128),
    "Mixed_5b": (832, 256, 160, 320, 32, 128, 128),
    "Mixed_5c": (832, 384, 192, 384, 48, 128, 128),
}
"""Channels in; branch 0; branch 1 in the middle, out; branch 2 likewise; pool projection."""


def units():
    """Name, channels in, channels out, kernel of all 57 convolutions with batch norm."""
    yield "Conv3d_1a_7x7", 3, 64, 7
    yield "Conv3d_2b_1x1", 64, 64, 1
    yield "Conv3d_2c_3x3", 64, 192, 3
    for block, (width, b0, b1a, b1b, b2a, b2b, b3b) in BLOCKS.items():
        yield f"{block}.b0", width, b0, 1
        yield f"{block}.b1a", width, b1a, 1
        yield f"{block}.b1b", b1a, b1b, 3
        yield f"{block}.b2a", width, b2a, 1
        yield f"{block}.b2b", b2a, b2b, 3
        yield f"{block}.b3b", width, b3b, 1


def random_state(seed, classes=400):
    """Random tensors under piergiaj's names, with statistics that are far from 0 and 1."""
    g = torch.Generator().manual_seed(seed)
    state = {}
    for name, inputs, outputs, k in units():
        scale = (2 / (inputs * k**3)) ** 0.5
        state[f"{name}.conv3d.weight"] = scale * torch.randn(outputs, inputs, k, k, k, generator=g)
        state[f"{name}.bn.weight"] = 0.5 + torch.rand(outputs, generator=g)
        state[f"{name}.bn.bias"] = 0.2 * torch.randn(outputs, generator=g)
        state[f"{name}.bn.running_mean"] = 0.2 * torch.randn(outputs, generator=g)
        # Small variances, so that the epsilon matters.
        state[f"{name}.bn.running_var"] = 0.05 + 0.2 * torch.rand(outputs, generator=g)
        state[f"{name}.bn.num_batches_tracked"] = torch.tensor(7)
    state["logits.conv3d.weight"] = torch.randn(classes, 1024, 1, 1, 1, generator=g) / 32
    state["logits.conv3d.bias"] = torch.randn(classes, generator=g)
    return state


def tf_pad(x, kernel, stride):
    """SAME as TensorFlow has it: as many outputs as size / stride, rounded up."""
    flat = []
    for size, k, s in reversed(list(zip(x.shape[2:], kernel, stride, strict=True))):
        total = max((math.ceil(size / s) - 1) * s + k - size, 0)
        flat += [total // 2, total - total // 2]
    return F.pad(x, flat)


def port_pad(x, kernel, stride):
    """As the old port has it: the same zeros whatever the size."""
    flat = []
    for k, s in reversed(list(zip(kernel, stride, strict=True))):
        flat += [max(k - s, 0) // 2, max(k - s, 0) - max(k - s, 0) // 2]
    return F.pad(x, flat)


PADS = {"tf_exact": tf_pad, "video_features": port_pad}
EPSILONS = {"tf_exact": 0.001, "video_features": 0.00001}


def repeat_ends(x, kernel, stride, pad):
    """Pad time with the first and last frame: number the frames, pad the numbers, look them up."""
    counted = torch.arange(1.0, x.shape[2] + 1).view(1, 1, -1, 1, 1)
    numbers = pad(counted, (kernel, 1, 1), (stride, 1, 1)).flatten().long()
    front = int((numbers > 0).nonzero()[0])
    numbers[:front] = 1
    numbers[numbers == 0] = x.shape[2]
    return x[:, :, numbers - 1]


def maps(state, x, variant="tf_exact", *, replicate=False):
    """Mixed_5c of clips (B, 3, T, H, W)."""
    pad, eps = PADS[variant], EPSILONS[variant]

    def unit(name, x, stride=1):
        weight = state[f"{name}.conv3d.weight"]
        kernel = weight.shape[2:]
        if replicate:
            x = repeat_ends(x, kernel[0], stride, pad)
            # Space alone is left to pad: a frame at a time looks at no neighbours.
            frames = [pad(frame, (1, *kernel[1:]), (1, stride, stride)) for frame in x.split(1, 2)]
            x = torch.cat(frames, dim=2)
        else:
            x = pad(x, kernel, [stride] * 3)
        x = F.conv3d(x, weight, stride=stride)
        norm = [state[f"{name}.bn.{t}"] for t in ("running_mean", "running_var", "weight", "bias")]
        return F.batch_norm(x, *norm, training=False, eps=eps).clamp(min=0)

    def pool(x, kernel, stride):
        # The port's pools round up; after TF's padding there is nothing left to round.
        return F.max_pool3d(pad(x, kernel, stride), kernel, stride, ceil_mode=True)

    def mixed(name, x):
        return torch.cat(
            [
                unit(f"{name}.b0", x),
                unit(f"{name}.b1b", unit(f"{name}.b1a", x)),
                unit(f"{name}.b2b", unit(f"{name}.b2a", x)),
                unit(f"{name}.b3b", pool(x, (3, 3, 3), (1, 1, 1))),
            ],
            dim=1,
        )

    x = pool(unit("Conv3d_1a_7x7", x, stride=2), (1, 3, 3), (1, 2, 2))
    x = pool(unit("Conv3d_2c_3x3", unit("Conv3d_2b_1x1", x)), (1, 3, 3), (1, 2, 2))
    for name in BLOCKS:
        if name == "Mixed_4b":
            x = pool(x, (3, 3, 3), (2, 2, 2))
        if name == "Mixed_5b":
            x = pool(x, (2, 2, 2), (2, 2, 2))
        x = mixed(name, x)
    return x


def features(state, x, variant="tf_exact"):
    """(B, 1024), and logits (B, classes)."""
    pooled = F.avg_pool3d(maps(state, x, variant), (2, 7, 7), stride=1)
    weight, bias = state["logits.conv3d.weight"], state["logits.conv3d.bias"]
    logits = F.conv3d(pooled, weight, bias)
    return pooled.mean(dim=(2, 3, 4)), logits.mean(dim=(2, 3, 4))


def hassony_names(state):
    """The same tensors as hassony2's port and video_features call them."""
    branches = {"b0": "branch_0", "b1a": "branch_1.0", "b1b": "branch_1.1"}
    branches |= {"b2a": "branch_2.0", "b2b": "branch_2.1", "b3b": "branch_3.1"}
    renamed = {}
    for name, value in state.items():
        parts = name.split(".")
        if parts[0] == "logits":
            parts[0] = "conv3d_0c_1x1"
        parts[0] = parts[0][0].lower() + parts[0][1:]
        parts = [branches.get(part, "batch3d" if part == "bn" else part) for part in parts]
        renamed[".".join(parts)] = value
    return renamed


def tensorflow_names(state):
    """The same tensors as variables of DeepMind's graph, which has no scales and no counters."""
    kinds = {"b0": "Branch_0/Conv3d_0a_1x1", "b3b": "Branch_3/Conv3d_0b_1x1"}
    kinds |= {f"b{k}a": f"Branch_{k}/Conv3d_0a_1x1" for k in (1, 2)}
    kinds |= {f"b{k}b": f"Branch_{k}/Conv3d_0b_3x3" for k in (1, 2)}
    norms = {"bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    renamed = {}
    for name, value in state.items():
        *unit, kind, leaf = name.split(".")
        place = "/".join(kinds.get(part, part) for part in unit)
        if place == "Mixed_5b/Branch_2/Conv3d_0b_3x3":
            place = "Mixed_5b/Branch_2/Conv3d_0a_3x3"
        if place == "logits":
            place = "Logits/Conv3d_0c_1x1"
        place = f"RGB/inception_i3d/{place}"
        if kind == "conv3d" and leaf == "weight":
            renamed[f"{place}/conv_3d/w"] = value.permute(2, 3, 4, 1, 0).contiguous()
        elif kind == "conv3d":
            renamed[f"{place}/conv_3d/b"] = value
        elif leaf in norms:
            renamed[f"{place}/batch_norm/{norms[leaf]}"] = value.view(1, 1, 1, 1, -1)
    return renamed
