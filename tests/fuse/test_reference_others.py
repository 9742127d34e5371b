"""Code variants of other sizes against the programs written anew in NumPy, and what is refused."""

from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from concord.cache import ConfigError
from concord.fuse.reference import REFERENCES, from_reference
from concord.fuse.variant import CodeVariant
from numpy.typing import NDArray
from torch import Tensor, nn

from . import programs
from .programs import Program

Array = NDArray[Any]

BATCH = 3


class Case(NamedTuple):
    """A variant of unusual sizes."""

    name: str
    program: Program
    widths: dict[str, int]
    rows: int
    sizes: dict[str, Any]
    heads: int | None = None


JCA = {"width": 4, "k": 3, "hidden": 9}
EQUAL, THREE = {"visual": 6, "audio": 6}, {"video": 6, "audio": 4, "text": 3}
TWO, FOUR = {"video": 7, "text": 5}, {"video": 4, "egemaps": 3, "bert": 5, "vggish": 2}
LEVELS = {"video": (5, 4, 6), "text": (2, 3)}
CASES = [
    Case("jca:tbiom", programs.jca_tbiom, {"audio": 7, "visual": 5}, 6, {**JCA, "length": 6}),
    Case("jca:cvprw", programs.jca_cvprw, {"audio": 4, "visual": 8}, 5, {**JCA, "length": 5}),
    Case("rjcma:code", programs.rjcma, THREE, 7, {"length": 7, "recursions": 3, "hidden": 5}),
    Case("jmt:block", programs.jmt_block, EQUAL, 5, {"dim": 6, "inner": 4, "layers": 1}),
    Case("jmt:block", programs.jmt_block, EQUAL, 4, {"dim": 6, "inner": 7, "layers": 2}, 3),
    Case(
        "jmt:self_attention",
        programs.jmt_self_attention,
        EQUAL,
        5,
        {"dim": 6, "inner": 3, "layers": 2, "hidden": 5},
        2,
    ),
    Case(
        "jmt:fc",
        programs.jmt_fc,
        EQUAL,
        4,
        {"dim": 6, "inner": 5, "layers": 1, "fused": 7, "hidden": 4},
        2,
    ),
    Case(
        "concat:jmt",
        programs.concat_jmt,
        {"audio": 4, "visual": 6},
        5,
        {"joined": 10, "fused": 3, "hidden": 4},
    ),
    Case("leader_follower:encoder", programs.lfan_encoder, TWO, 4, {"d": 6}),
    Case("leader_follower:encoder", programs.lfan_encoder, FOUR, 5, {"d": 9}, 3),
    Case(
        "leader_follower:model",
        programs.lfan_model,
        TWO,
        9,
        {"channels": LEVELS, "kernel": 3, "d": 8},
        4,
    ),
    Case(
        "tcn",
        programs.tcn_alone,
        {"x": 4},
        8,
        {"dim": 4, "channels": (3, 3, 5), "kernel": 2, "norm": True},
    ),
    Case(
        "tcn",
        programs.tcn_alone,
        {"x": 3},
        8,
        {"dim": 3, "channels": (2,), "kernel": 5, "norm": False},
    ),
]
FIRST = {case.name: case for case in reversed(CASES)}
every = pytest.mark.parametrize("case", CASES, ids=[f"{c.name}-{n}" for n, c in enumerate(CASES)])
one_each = pytest.mark.parametrize("case", FIRST.values(), ids=list(FIRST))


def sizes_of(case: Case) -> dict[str, Any]:
    """All sizes, input widths and heads among them."""
    heads = case.heads or REFERENCES[case.name].HEADS
    sizes = {**case.sizes, **({"heads": heads} if heads else {})}
    if case.name.startswith("jca"):
        return {**sizes, **case.widths}
    if case.name == "rjcma:code":
        return {**sizes, "widths": case.widths}
    return {**sizes, "dims": case.widths} if case.name.startswith("leader") else sizes


def built(case: Case) -> CodeVariant:
    """A variant in float64 with no tensor at its usual start."""
    torch.manual_seed(5)
    model = REFERENCES[case.name](**sizes_of(case)).double()
    for tensor in model.state_dict().values():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.1, 0.9)
            tensor -= 0.5 * (tensor.ndim > 1)
    return model.eval()


def rows_of(case: Case) -> dict[str, Tensor]:
    random = np.random.default_rng(1)
    x = {m: torch.tensor(random.normal(size=(BATCH, case.rows, d))) for m, d in case.widths.items()}
    return {m: rows.mT for m, rows in x.items()} if case.name == "tcn" else x


def loadable(name: str) -> tuple[dict[str, Tensor], int | None]:
    """A state dict of a variant, and its heads."""
    return dict(built(FIRST[name]).state_dict()), FIRST[name].heads


@every
def test_equals_the_program(case: Case) -> None:
    model, X = built(case), rows_of(case)
    with torch.no_grad():
        out = model(**X)
    W = {n: x.numpy() for n, x in model.state_dict().items()}
    for item in range(BATCH):
        one = {m: x[item].numpy() for m, x in X.items()}
        expected = case.program(one, W, case.heads or REFERENCES[case.name].HEADS)
        assert expected.keys() == out.keys()
        for output, numbers in expected.items():
            time_first = model.TIME_FIRST and output in ("fused", "valence", "arousal")
            ours = (out[output][:, item] if time_first else out[output][item]).numpy()
            np.testing.assert_allclose(ours, numbers, rtol=0, atol=1e-9, err_msg=output)
            assert np.abs(numbers).max() > 1e-3, output


@every
def test_sizes_are_read_from_the_tensors(case: Case) -> None:
    model, X = built(case), rows_of(case)
    state = model.state_dict()
    assert REFERENCES[case.name].sizes(state, case.heads) == sizes_of(case)
    loaded = from_reference(case.name, state, case.heads)
    for output, numbers in model(**X).items():
        assert torch.equal(loaded(**X)[output], numbers), output


NORMED = [case for name, case in FIRST.items() if REFERENCES[name].NORM]


@pytest.mark.parametrize("case", NORMED, ids=[case.name for case in NORMED])
def test_rows_of_statistics(case: Case) -> None:
    model, X = built(case), rows_of(case)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    rows = torch.ones(BATCH, case.rows, dtype=torch.bool)
    rows[0] = rows[1, 2:] = False
    output = "y_batchnorm" if case.name == "tcn" else "prediction"
    model.train()
    of_all, of_some = model(**X)[output], model(**X, rows=rows)[output]
    assert not torch.allclose(of_all, of_some)
    torch.testing.assert_close(model(**X, rows=torch.ones_like(rows))[output], of_all)
    moved = {m: x.clone() for m, x in X.items()}
    for x in moved.values():
        x[0] += 9
    torch.testing.assert_close(model(**moved, rows=rows)[output][2], of_some[2])


RATES = {
    **dict.fromkeys(["jca:tbiom", "jca:cvprw", "rjcma:code"], 0.6),
    **dict.fromkeys(["leader_follower:encoder", "leader_follower:model", "tcn"], 0.1),
}


@pytest.mark.parametrize("name", RATES)
def test_every_dropout_is_for_training(name: str) -> None:
    model, X = built(FIRST[name]), rows_of(FIRST[name])
    output = REFERENCES[name].OUTPUTS[0]
    assert torch.equal(model(**X)[output], model(**X)[output])
    model.train()
    dropouts = {n: module for n, module in model.named_modules() if isinstance(module, nn.Dropout)}
    assert {module.p for module in dropouts.values()} == {RATES[name]}
    for path, module in dropouts.items():
        if "aregressor" not in path:
            for each in dropouts.values():
                each.p = 0.9 * (each is module)
            assert not torch.equal(model(**X)[output], model(**X)[output]), path


@one_each
def test_heads(case: Case) -> None:
    state, X = built(case).state_dict(), rows_of(case)
    own = {"jmt": 1, "leader_follower": 2}.get(case.name.partition(":")[0], 0)
    if not own:
        with pytest.raises(ConfigError, match=r"heads=2, but this variant has no attention heads"):
            from_reference(case.name, state, 2)
        return
    for wrong in (5, -1):
        with pytest.raises(ConfigError, match=rf"of width \d+: {wrong} heads do not divide it"):
            from_reference(case.name, state, wrong)
    output = REFERENCES[case.name].OUTPUTS[0]
    by_heads = {n: from_reference(case.name, state, n)(**X)[output] for n in (1, 2, None)}
    assert not torch.allclose(by_heads[1], by_heads[2])
    assert torch.equal(by_heads[None], by_heads[own])


@one_each
def test_refuses_what_is_not_the_programs(case: Case) -> None:
    state = dict(built(case).state_dict())
    for missing in state:
        fewer = {n: x for n, x in state.items() if n != missing}
        with pytest.raises(ConfigError, match=rf"{missing}.* is missing"):
            from_reference(case.name, fewer, case.heads)
    for wrong, tensor in state.items():
        with pytest.raises(ConfigError, match=rf"{wrong}.* has shape \(1, 1"):
            from_reference(case.name, {**state, wrong: tensor[None, None]}, case.heads)
    extra = {f"visual.conv1.{name}": torch.ones(2) for name in ("weight", "bias")}
    match = r"visual.conv1.weight, visual.conv1.bias; drop them if they belong to backbones"
    with pytest.raises(ConfigError, match=match):
        from_reference(case.name, {**state, **extra}, case.heads)


def test_lists_all_that_is_wrong() -> None:
    state, _ = loadable("jca:tbiom")
    del state["W_v.weight"], state["vregressor.2.bias"]
    state["W_hv.weight"] = torch.ones(2, 3)
    with pytest.raises(ConfigError) as caught:
        from_reference("jca:tbiom", state)
    assert str(caught.value) == (
        "state dict of 'jca:tbiom': W_v.weight is missing; vregressor.2.bias is missing; "
        "W_hv.weight has shape (2, 3), expected (6, 3)"
    )


def test_dead_tensors_of_one_program_are_unknown_to_another() -> None:
    state, heads = loadable("jmt:self_attention")
    with pytest.raises(ConfigError, match=r"not known: final_encoder\.layers\.0\.x"):
        from_reference(
            "jmt:self_attention", {**state, "final_encoder.layers.0.x": torch.ones(1)}, heads
        )


def test_refuses_a_whole_checkpoint() -> None:
    state, _ = loadable("tcn")
    checkpoint: Any = {"epoch": 3, "model": state}
    with pytest.raises(ConfigError, match=r"'epoch' is int, expected a tensor.*alone"):
        from_reference("tcn", checkpoint)


def test_refuses_a_lost_order_of_modalities() -> None:
    for name in ("leader_follower:encoder", "leader_follower:model"):
        state, heads = loadable(name)
        with pytest.raises(ConfigError, match=r"alphabetical order \(\w+, \w+\).*leader first"):
            from_reference(name, {n: state[n] for n in sorted(state)}, heads)


def test_unknown_name() -> None:
    with pytest.raises(ConfigError, match=r"unknown code variant 'jca:tbion'; known: jca:tbiom, "):
        from_reference("jca:tbion", {})


def test_nothing_at_all() -> None:
    for name in REFERENCES:
        with pytest.raises(ConfigError, match=r"state dict: "):
            from_reference(name, {})
