"""The heads that there are, and what users need to know of each; light to import."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal

from ..cache import ConfigError
from ..cache.plugins import offered

GROUP = "concord.heads"
"""Entry points under which installed packages offer heads."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadInfo:
    """A head and what users need to know of it."""

    target: str
    """`module:Class` in concord.fuse; called with dims, length and settings."""
    paper: str
    variant: str = "paper"
    """`paper`: the published equations, well formed; `code`: numerically the authors' program."""
    length: Literal["any", "fixed"] = "any"
    causal: Literal["yes", "no", "optional"] = "no"
    least: int = 2
    """Modalities at least."""
    most: int = 3
    needs: tuple[str, ...] = ()
    """Modalities that it cannot do without."""
    settings: tuple[str, ...] = ()
    """Settings of its own, beside streams, width, encoder, hidden and dropout."""

    @property
    def modalities(self) -> str:
        """Say which modalities it joins."""
        if len(self.needs) == self.most:
            return " and ".join(self.needs)
        needs = f", {' and '.join(self.needs)} among them" if self.needs else ""
        return f"{('one', 'two')[self.least - 1]} or more{needs}"


BOTH = ("audio", "visual")
JCA, JMT, RJCMA = "arXiv 2203.14779", "arXiv 2403.10488", "arXiv 2403.13659"
LFAN = "arXiv 2107.01175"
CODE = HeadInfo(
    target="reference_head:ReferenceHead", paper=JMT, variant="code", most=2, needs=BOTH
)
LFAN_CODE = replace(
    CODE, paper=LFAN, causal="yes", most=3, needs=("visual",), settings=("attention_heads",)
)

HEADS: dict[str, HeadInfo] = {
    "concat": HeadInfo(target="concat:Concat", paper="none", causal="yes", least=1),
    "concat:jmt": replace(CODE, causal="yes"),
    "cross_attention": HeadInfo(
        target="cross:CrossAttention",
        paper="Praveen, FG 2021",
        most=2,
        needs=BOTH,
        settings=("temperature",),
    ),
    "leader_follower": HeadInfo(
        target="cross:LeaderFollower", paper=LFAN, causal="yes", needs=("visual",), settings=("d",)
    ),
    "leader_follower:encoder": LFAN_CODE,
    "leader_follower:model": LFAN_CODE,
    "jca": HeadInfo(target="joint:JointCrossAttention", paper=JCA, length="fixed", settings=("k",)),
    "jca:tbiom": replace(CODE, paper=JCA, length="fixed"),
    "jca:cvprw": replace(CODE, paper=JCA, length="fixed"),
    "jca_any": HeadInfo(
        target="joint:JointCrossAttentionOfAnyLength",
        paper="none, ours",
        causal="optional",
        least=1,
        settings=("k", "causal"),
    ),
    "rjcma": HeadInfo(
        target="joint:RecursiveJointAttention",
        paper=RJCMA,
        length="fixed",
        least=1,
        settings=("recursions",),
    ),
    "rjcma:code": replace(CODE, paper=RJCMA, length="fixed", most=3, needs=()),
    "jmt": HeadInfo(
        target="cross:JointMultimodalTransformer",
        paper=JMT,
        most=2,
        needs=BOTH,
    ),
    "jmt:block": replace(CODE, settings=("attention_heads",)),
    "jmt:self_attention": replace(CODE, settings=("attention_heads",)),
    "jmt:fc": replace(CODE, settings=("attention_heads",)),
}


def head_names() -> list[str]:
    """List the heads that are built in or offered by installed packages."""
    return [*HEADS, *(name for name in offered(GROUP) if name not in HEADS)]


def variant_of(name: str) -> str:
    """Say whose form of a method a head is: `paper`, `code`, or `own` for a user's."""
    return HEADS[name].variant if name in HEADS else "own"


def check_head(name: str, streams: Sequence[str]) -> None:
    """Check that there is such a head and, if it is built in, that it can join the streams.

    Args:
        name: A name of `head_names()`, or `module:Class`, which is imported later.
        streams: `modality/…` each.

    Raises:
        ConfigError: Unknown, or too few, too many or other modalities than it joins.
    """
    if name not in HEADS:
        _check_name(name)
        return
    info = HEADS[name]
    found = dict.fromkeys(stream.partition("/")[0] for stream in streams)
    if not info.least <= len(found) <= info.most or not all(need in found for need in info.needs):
        raise ConfigError(
            f"head {name!r}: expected modalities: {info.modalities}; found "
            f"{', '.join(streams) or 'none'}; add or leave out a stream, or use 'concat'"
        )


def _check_name(name: str) -> None:
    known = head_names()
    near = get_close_matches(name, known, 1)
    own = ":" in name and name.partition(":")[0] not in known
    if name not in known and not own:
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(
            f"unknown head {name!r}{meant}; known: {', '.join(known)}, or module:Class"
        )
