"""Records of licences: who is covered, of which edition, until when."""

from __future__ import annotations

import json
from datetime import date

import pytest
from concord.cache import ConfigError, NotInStoreError
from concord.cache.licences import (
    FILE,
    Licence,
    add_licence,
    check_licensed,
    licences,
    remove_licence,
)

TODAY = date(2027, 3, 1)
DIGEST = "3fa9c1d2e4b5"


def licence(**changed):
    plain = {"dataset": "wild", "signed_by": "Ada", "covers": ("lab",)}
    return Licence(**{**plain, **changed})


@pytest.mark.parametrize(
    ("changed", "edition", "to", "allowed"),
    [
        ({}, DIGEST, ("lab", "s3://lab/x"), True),
        ({}, DIGEST, ("other", "s3://lab/x"), False),
        ({"covers": ("s3://lab/x",)}, DIGEST, ("lab", "s3://lab/x"), True),
        ({"covers": ("*",)}, DIGEST, ("anybody",), True),
        ({"covers": ("la",)}, DIGEST, ("lab",), False),
        ({"expires": "2027-03-01"}, DIGEST, ("lab",), True),
        ({"expires": "2027-02-28"}, DIGEST, ("lab",), False),
        ({"edition": "ABAW6"}, f"ABAW6-{DIGEST}", ("lab",), True),
        ({"edition": "ABAW6"}, f"ABAW60-{DIGEST}", ("lab",), False),
        ({"edition": "ABAW6"}, DIGEST, ("lab",), False),
        ({"edition": "AB"}, f"ABAW6-{DIGEST}", ("lab",), False),
        ({"edition": DIGEST[:6]}, DIGEST, ("lab",), True),
        ({"edition": DIGEST[:6]}, f"ABAW6-{DIGEST}", ("lab",), True),
        ({"edition": DIGEST[:5]}, DIGEST, ("lab",), False),
        ({"edition": "aaaaaa"}, DIGEST, ("lab",), False),
        ({"dataset": "wilder"}, DIGEST, ("lab",), False),
    ],
)
def test_what_a_record_covers(changed, edition, to, allowed):
    found = licence(**changed)
    found.check()
    if allowed:
        assert check_licensed(f"wild@{edition}", to, [found], TODAY) is found
        return
    with pytest.raises(ConfigError, match=f"wild@{edition}: no licence record"):
        check_licensed(f"wild@{edition}", to, [found], TODAY)


def test_the_error_says_what_every_record_lacks():
    known = [licence(expires="2020-01-01"), licence(signed_by="Bo", covers=("x", "y"))]
    with pytest.raises(ConfigError) as caught:
        check_licensed(f"wild@{DIGEST}", ("lab",), known, TODAY)
    for text in ("signed by Ada ended on 2020-01-01", "signed by Bo covers x, y", "--covers lab"):
        assert text in str(caught.value)
    assert check_licensed(f"wild@{DIGEST}", ("lab",), [*known, licence()], TODAY) == licence()


def test_adding_replacing_removing(tmp_path):
    assert licences(tmp_path) == ()
    full = licence(expires="2027-12-31", edition="ABAW6", note="no test rows", citation="Kollias")
    add_licence(tmp_path, full)
    add_licence(tmp_path, licence(dataset="b"))
    add_licence(tmp_path, licence(dataset="b", covers=("lab", "other")))
    assert licences(tmp_path) == (licence(dataset="b", covers=("lab", "other")), full)
    assert remove_licence(tmp_path, "b") == (licence(dataset="b", covers=("lab", "other")),)
    assert licences(tmp_path) == (full,)
    with pytest.raises(NotInStoreError, match="data sets there: wild"):
        remove_licence(tmp_path, "b")


@pytest.mark.parametrize(
    "changed",
    [
        {"dataset": "a b"},
        {"signed_by": ""},
        {"covers": ()},
        {"covers": ("a\nb",)},
        {"expires": "31.12.2027"},
        {"expires": "2027-02-30"},
        {"note": "\x1b[2J"},
    ],
)
def test_a_record_that_says_nothing_is_refused(tmp_path, changed):
    with pytest.raises((ConfigError, OSError)):
        add_licence(tmp_path, licence(**changed))
    assert not (tmp_path / FILE).exists()


@pytest.mark.parametrize(
    "record",
    [
        {"licences": {}},
        {"licences": ["wild"]},
        {"licences": [{"dataset": "wild", "signed_by": "Ada"}]},
        {"licences": [{"dataset": "wild", "covers": ["lab"]}]},
        {"licences": [{"dataset": "wild", "signed_by": "Ada", "covers": "lab"}]},
        {"licences": [{"dataset": "wild", "signed_by": "Ada", "covers": [1]}]},
        {"licences": [{"dataset": "wild", "signed_by": "Ada", "covers": ["lab"], "expires": 1}]},
        {"licences": [{"dataset": "wild", "signed_by": "Ada", "covers": ["lab"], "expired": ""}]},
    ],
)
def test_a_file_with_something_else_permits_nothing(tmp_path, record):
    (tmp_path / FILE).write_text(json.dumps({"version": 1, **record}))
    with pytest.raises(ConfigError, match=FILE):
        licences(tmp_path)
