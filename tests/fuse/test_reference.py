"""Code variants against numbers that the authors' programs computed."""

import re
from typing import Any

import numpy as np
import pytest
import torch
from concord.fuse.reference import REFERENCES, from_reference
from concord.fuse.reference_jmt import JmtBlock, JmtConcat, JmtFc, JmtSelfAttention
from concord.fuse.reference_lfan import LfanEncoder, LfanModel
from concord.fuse.reference_rjcma import RjcmaCode
from concord.fuse.tcn import CausalConv
from concord.fuse.variant import CodeVariant
from numpy.typing import NDArray
from torch import Tensor

from .published import published

Array = NDArray[Any]

CASES = {
    # variant: file, attention heads
    "jca:tbiom": ("jca", None),
    "jca:cvprw": ("jca_first", None),
    "rjcma:code": ("rjcma", None),
    "jmt:block": ("jmt", None),
    "jmt:self_attention": ("jmt_small", 4),
    "jmt:fc": ("jmt_small_fc", 4),
    "concat:jmt": ("jmt_concat", None),
    "leader_follower:encoder": ("lfan", None),
    "leader_follower:model": ("lfan_model", 3),
    "tcn": ("tcn", None),
}
TOLERANCES = [(torch.float32, 1e-4), (torch.float64, 2e-5)]
OF_OTHER_INPUTS = {"y_edited": "x_edited", "y_short": "x_short"}
EFFECTIVE = "effective_weight."


def part(name: str, prefix: str) -> dict[str, Array]:
    found = published(CASES[name][0])
    return {n.removeprefix(prefix): x for n, x in found.items() if n.startswith(prefix)}


def state(name: str, dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    tensors = {n: torch.tensor(x) for n, x in part(name, "param.").items()}
    return {n: x.to(dtype if x.is_floating_point() else None) for n, x in tensors.items()}


def load(name: str, dtype: torch.dtype | None = None) -> CodeVariant:
    return from_reference(name, state(name, dtype), CASES[name][1])


def inputs(name: str, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {n: torch.tensor(x).to(dtype) for n, x in part(name, "in.").items()}


def computed(name: str, model: CodeVariant, dtype: torch.dtype) -> dict[str, Tensor]:
    """All that a variant computes of the published inputs, under the published names."""
    given = inputs(name, dtype)
    with torch.no_grad():
        if name != "tcn":
            return model(**given)
        out = model(x=given["x"])
        out |= {y: model(x=given[x])["y"] for y, x in OF_OTHER_INPUTS.items()}
        for path, module in model.get_submodule("tcn").named_modules():
            if isinstance(module, CausalConv) and ".net." not in path:
                out[EFFECTIVE + path] = module.weight()
        return out


def same_part(name: str, out: dict[str, Tensor]) -> Tensor:
    """The part that was published: `…_item0`, and of that `_first60` or `_first32rows`."""
    found = re.fullmatch(r"(.+?)(_item0)?(?:_first(\d+)(?:rows)?)?", name)
    assert found is not None
    x = out[found[1]]
    x = x[0] if found[2] else x
    return x[: int(found[3])] if found[3] else x


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES)
def test_computes_what_the_program_computed(
    name: str, dtype: torch.dtype, tolerance: float
) -> None:
    out = computed(name, load(name, dtype), dtype)
    expected = part(name, "out.")
    assert expected
    for output, numbers in expected.items():
        ours = same_part(output, out)
        assert ours.dtype == dtype
        assert ours.shape == numbers.shape, output
        np.testing.assert_allclose(ours.numpy(), numbers, rtol=0, atol=tolerance, err_msg=output)
    assert set(REFERENCES[name].OUTPUTS) <= set(expected)


@pytest.mark.parametrize("name", CASES)
def test_loads_every_live_tensor(name: str) -> None:
    given, model = state(name), load(name)
    held = model.state_dict()
    assert {*held, *model.unused} == set(given)
    assert not {*held} & {*model.unused}
    for key, tensor in held.items():
        assert torch.equal(tensor, given[key].to(tensor.dtype)), key


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_is_used(name: str) -> None:
    model = load(name, torch.float32)
    given = {n: x[:1] for n, x in inputs(name).items() if name != "tcn" or n == "x"}
    with torch.no_grad():
        before = model(**given)
    running = {n: b for n, b in model.named_buffers() if b.is_floating_point()}
    torch.manual_seed(0)
    for key, tensor in {**dict(model.named_parameters()), **running}.items():
        kept = tensor.detach().clone()
        tensor.data += 0.5 * torch.rand_like(tensor)
        with torch.no_grad():
            after = model(**given)
        tensor.data = kept
        change = max(float((after[n] - x).abs().max()) for n, x in before.items())
        assert change > 1e-3, key


def test_attended_audio_of_jca_reaches_no_prediction() -> None:
    for name in ("jca:tbiom", "jca:cvprw"):
        model = load(name)
        model(**inputs(name))[REFERENCES[name].OUTPUTS[0]].sum().backward()
        for layer in ("affine_", "W_", "W_c", "W_h"):
            assert model.get_parameter(f"{layer}a.weight").grad is None, layer
            assert model.get_parameter(f"{layer}v.weight").grad is not None, layer


def test_later_rows_do_not_matter_to_the_tcn() -> None:
    out = computed("tcn", load("tcn"), torch.float32)
    torch.testing.assert_close(out["y_edited"][..., :70], out["y"][..., :70])
    assert (out["y_edited"] - out["y"])[..., 70:].abs().max() > 0.1


def test_what_the_program_never_uses_is_reported() -> None:
    of_layers = [f"coattn.dcn_layers.{n}.dense_coattn.query_linear" for n in (0, 1)]
    assert load("rjcma:code").unused == tuple(
        f"{layer}.{tensor}" for layer in of_layers for tensor in ("weight", "bias")
    )
    for name, prefix in (("jmt:block", ""), ("jmt:fc", "mm_transformer.")):
        dead = f"{prefix}final_encoder.layers.0.layer_norm1.weight"
        model = from_reference(name, {**state(name), dead: torch.ones(4)}, CASES[name][1])
        assert model.unused == (dead,)
    assert load("leader_follower:model").unused == ()


@pytest.mark.parametrize(
    ("stored", "loaded"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_dtypes(stored: torch.dtype, loaded: torch.dtype) -> None:
    tensors = load("leader_follower:model", stored).state_dict()
    assert {x.dtype for x in tensors.values()} == {loaded, torch.int64}


def test_prefix_of_data_parallel() -> None:
    wrapped = {f"module.{n}": x for n, x in state("rjcma:code").items()}
    model = from_reference("rjcma:code", wrapped)
    assert model.unused == load("rjcma:code").unused
    given = inputs("rjcma:code")
    assert torch.equal(model(**given)["prediction"], load("rjcma:code")(**given)["prediction"])


def test_shares_no_memory_with_the_state_dict() -> None:
    for name in CASES:
        given = state(name, torch.float32)
        model = from_reference(name, given, CASES[name][1])
        theirs = {x.untyped_storage().data_ptr() for x in given.values()}
        ours = {x.untyped_storage().data_ptr() for x in model.state_dict().values()}
        assert not theirs & ours


def test_is_in_evaluation_mode() -> None:
    for name in CASES:
        assert not any(module.training for module in load(name).modules())


def live(model: torch.nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_parameter_counts() -> None:
    assert live(load("jca:tbiom")) == 314_626
    # Windows of 8 rows, and one regressor of 640 x 128 + 128 + 128 + 1 parameters less.
    regressor = 640 * 128 + 128 + 128 + 1
    time = 2 * (16 * 16 - 8 * 8 + 2 * 32 * 8)
    assert live(load("jca:cvprw")) == 231_041 == 314_626 - regressor - time
    assert live(RjcmaCode().coattn) == 1_790_056 - 525_312
    assert live(JmtSelfAttention()) == 11_170_818 == 52_093_442 - 40_922_624
    assert live(JmtFc()) == 52_742_658 - 40_922_624
    encoder, attention = 1_577_984, 1_050_624
    assert live(JmtBlock()) == 4 * encoder + 4 * attention + 524_800
    assert live(JmtConcat()) == 656_386
    assert live(LfanEncoder()) == 28_224
    assert live(LfanModel()) == 2_436_513
