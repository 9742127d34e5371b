"""Folds: partitions of the tracks, the field's sizes, families that are kept together."""

import random
from collections import Counter
from itertools import combinations, pairwise

import pytest
from concord.cache import ConfigError, DataError, ManifestTrack
from concord.fuse.folds import FOLDS, Fold, check_fold, fold_of, straddling
from hypothesis import given, settings
from hypothesis import strategies as st

SIX = tuple(f"six:{k}" for k in range(6))
GROUPED = tuple(f"grouped:{k}" for k in range(6))


def track(name: str, split: str, family: str = "") -> ManifestTrack:
    return ManifestTrack(
        track=name, source=name, split=split, family=family or name, rows=9, rate=None
    )


def edition(train: int, val: int, test: int = 9) -> list[ManifestTrack]:
    """Tracks of a data set whose alphabetical order is no order of numbers, shuffled."""
    splits = ["train"] * train + ["val"] * val + ["test"] * test
    tracks = [track(f"{number * 7919 % 1000}", split) for number, split in enumerate(splits, 1)]
    random.Random(0).shuffle(tracks)
    return tracks


@st.composite
def manifests(draw: st.DrawFn) -> list[ManifestTrack]:
    """At least five families in training alone and one in validation; others where they fall."""
    splits = st.sampled_from(("train", "train", "train", "val", "test"))
    families = st.integers(0, 11).map(lambda i: f"family{i:02}")
    dealt = draw(st.lists(st.tuples(splits, families), max_size=40))
    alone = [("train", f"alone{i}") for i in range(5)] + [("val", "late")]
    names = draw(st.permutations([f"t{i}" for i in range(len(dealt) + 6)]))
    return [track(name, *where) for name, where in zip(names, dealt + alone, strict=True)]


def names(tracks: list[ManifestTrack], side: tuple[int, ...]) -> set[str]:
    return {tracks[i].track for i in side}


@pytest.mark.parametrize(
    ("train", "val", "sizes"),
    [(351, 71, [71, 71, 70, 70, 70, 70]), (356, 76, [76, 72, 71, 71, 71, 71])],
)
@pytest.mark.parametrize("kind", ["six", "grouped"])
def test_six_folds_have_the_sizes_of_the_field(
    train: int, val: int, sizes: list[int], kind: str
) -> None:
    tracks = edition(train, val)
    folds = [fold_of(tracks, f"{kind}:{k}") for k in range(6)]
    assert [len(fold.val) for fold in folds] == sizes
    assert {len(fold.val) + len(fold.train) for fold in folds} == {train + val}


def test_fold_1_trains_on_the_validation_tracks_and_validates_on_the_last_slice() -> None:
    tracks = edition(23, 3)
    train = sorted(t.track for t in tracks if t.split == "train")
    val = {t.track for t in tracks if t.split == "val"}
    parts = [*(set(train[i : i + 4]) for i in (0, 4, 8, 12)), set(train[16:]), val]
    for k, part in enumerate(reversed(parts)):
        fold = fold_of(tracks, f"six:{k}")
        assert names(tracks, fold.val) == part
        assert names(tracks, fold.train) == set().union(*parts) - part
    assert names(tracks, fold_of(tracks, "six:1").train) >= val


def test_fold_0_is_the_official_one() -> None:
    tracks = edition(23, 5)
    official = fold_of(tracks, "official")
    assert fold_of(tracks, "six:0") == official
    assert official == Fold(
        tuple(i for i, t in enumerate(tracks) if t.split == "train"),
        tuple(i for i, t in enumerate(tracks) if t.split == "val"),
    )


@settings(deadline=None)
@given(manifests())
def test_folds_partition_training_and_validation_tracks(tracks: list[ManifestTrack]) -> None:
    used = sorted(i for i, t in enumerate(tracks) if t.split != "test")
    for kind in (SIX, GROUPED):
        folds = [fold_of(tracks, name) for name in kind]
        for fold in folds:
            assert fold.train
            assert fold.val
            assert sorted(fold.train + fold.val) == used
            assert list(fold.train) == sorted(fold.train)
            assert list(fold.val) == sorted(fold.val)
        assert sorted(i for fold in folds for i in fold.val) == used


@settings(deadline=None)
@given(manifests())
def test_grouped_folds_keep_families_together(tracks: list[ManifestTrack]) -> None:
    official = {t.family for t in tracks if t.split == "val"}
    for k, name in enumerate(GROUPED):
        fold = fold_of(tracks, name)
        assert straddling(tracks, fold) == []
        validating = {tracks[i].family for i in fold.val}
        assert (validating == official) if k == 0 else validating.isdisjoint(official)
    # Slices follow each other in alphabetical order: fold 5 validates on the first.
    slices = [[tracks[i].family for i in fold_of(tracks, name).val] for name in GROUPED[:0:-1]]
    for before, after in pairwise(slices):
        assert max(before) < min(after)


@settings(deadline=None)
@given(manifests())
def test_grouped_slices_are_as_equal_as_cuts_between_families_allow(
    tracks: list[ManifestTrack],
) -> None:
    official = {t.family for t in tracks if t.split == "val"}
    counts = Counter(t.family for t in tracks if t.split == "train" and t.family not in official)
    sizes = [counts[family] for family in sorted(counts)]
    least = min(
        sum(sum(sizes[a:b]) ** 2 for a, b in zip((0, *cuts), (*cuts, len(sizes)), strict=True))
        for cuts in combinations(range(1, len(sizes)), 4)
    )
    found = [len(fold_of(tracks, name).val) for name in GROUPED[1:]]
    assert sum(size**2 for size in found) == least


def test_a_family_with_a_validation_track_validates_as_a_whole() -> None:
    tracks = [track(f"t{i}", "train") for i in range(5)]
    tracks += [track("v_left", "val", "v"), track("v_right", "train", "v")]
    assert names(tracks, fold_of(tracks, "grouped:0").val) == {"v_left", "v_right"}
    official = fold_of(tracks, "official")
    assert names(tracks, official.val) == {"v_left"}
    assert straddling(tracks, official) == ["v"]


def test_straddling_families_are_sorted() -> None:
    families = ("q", "c", "x", "a", "m")
    tracks = [track(f"{f}{split}", split, f) for split in ("train", "val") for f in families]
    assert straddling(tracks, fold_of(tracks, "official")) == ["a", "c", "m", "q", "x"]


def test_the_six_folds_part_families() -> None:
    # Fifteen training tracks in slices of three: rec1 and rec2 lie in the last but one.
    parts = [track(f"rec{part}", "train", "rec") for part in range(1, 6)]
    tracks = [*(track(f"a{i}", "train") for i in range(10)), *parts, track("v", "val")]
    assert straddling(tracks, fold_of(tracks, "six:1")) == ["rec"]
    assert straddling(tracks, fold_of(tracks, "six:2")) == ["rec"]
    assert straddling(tracks, fold_of(tracks, "six:3")) == []
    assert names(tracks, fold_of(tracks, "grouped:1").val) == {t.track for t in parts}


@pytest.mark.parametrize("name", FOLDS)
def test_known_names_pass(name: str) -> None:
    check_fold(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("oficial", "'official'"),
        ("six:6", "'six:"),
        ("six", "'six:"),
        ("group:3", "'grouped:3'"),
        ("six:01", "'six:"),
        ("Six:0", "'six:0'"),
    ],
)
def test_unknown_names_are_answered_with_the_near_one_and_the_list(name: str, meant: str) -> None:
    for check in (check_fold, lambda name: fold_of(edition(9, 2), name)):
        with pytest.raises(ConfigError) as caught:
            check(name)
        text = str(caught.value)
        assert f"unknown fold {name!r}; did you mean {meant}" in text
        assert "known: official, six:0, six:1, " in text
        assert text.endswith("grouped:5")


def test_far_names_are_answered_with_the_list_alone() -> None:
    with pytest.raises(ConfigError, match=r"^unknown fold 'xyz'; known: official, six:0"):
        check_fold("xyz")


def test_too_few_tracks_are_told() -> None:
    four, one = [track(f"t{i}", "train") for i in range(4)], [track("v", "val")]
    with pytest.raises(
        DataError, match=r"six:0 to six:5 .* expected 5 training tracks at least, found 4; use fold"
    ):
        fold_of(four + one, "six:2")
    three = [track(f"t{i}", "train", f"f{i % 3}") for i in range(9)]
    with pytest.raises(DataError, match=r"expected 5 families of .* found 3; use fold 'official'"):
        fold_of(three + one, "grouped:1")
    assert len(fold_of(four + one, "official").train) == 4
    five = [*four, track("t4", "train")]
    for name in ("official", "six:1", "grouped:2"):
        with pytest.raises(DataError, match=r"no track in split 'val' among 5 tracks; give"):
            fold_of(five, name)
    with pytest.raises(DataError, match="no track in split 'train' among 1 tracks"):
        fold_of(one, "official")
