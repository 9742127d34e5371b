"""Heads under torch.compile give what they give without."""

import shutil

import pytest
import torch
from concord.fuse.catalogue import HEADS

from .test_heads import batch, make, still

COMPILER = shutil.which("g++") or shutil.which("clang++")


@pytest.mark.slow
@pytest.mark.skipif(COMPILER is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.parametrize("name", list(HEADS))
def test_compiled(name):
    head = still(make(name)).eval()
    given = batch()
    expected = head(*given)
    torch.testing.assert_close(torch.compile(head)(*given), expected, rtol=1e-4, atol=1e-5)
