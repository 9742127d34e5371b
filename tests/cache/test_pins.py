"""Pins: what is kept whoever collects."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys

import pytest
from concord.cache import NotInStoreError, StoreError
from concord.cache.pins import Pin, pin, pins, unpin

from .collecting import plan, table

pytestmark = pytest.mark.usefixtures("streams")


class TestPins:
    def test_names_are_resolved_when_pinning(self, store, streams):
        store.save_manifest(table("demo@3fa9c1", {"t": {streams[0]: "k"}}))
        found = [pin(store, what) for what in ("visual/x", "demo", "audio/y@", "demo@3fa")]
        names = [streams[0].full_name, "demo@3fa9c1", streams[1].full_name]
        assert [p.what for p in found] == [*names, "demo@3fa9c1"]
        assert [p.is_stream for p in found] == [True, False, True, False]
        assert [p.what for p in pins(store)] == sorted(names)
        files = [path.name for path in (store.path / "pins").iterdir()]
        assert all(re.fullmatch(r"[0-9a-f]{24}\.json", name) for name in files)
        assert len(files) == 3

    def test_what_is_unknown_or_ambiguous_is_refused_with_the_choices(self, store):
        store.create_stream("visual/x", {"v": 2})
        store.save_manifest(table("demo@aa1", {}))
        store.save_manifest(table("demo@aa2", {}))
        for what, told in (
            ("visual/z", "audio/y@"),
            ("visual/x", "several recipes"),
            ("visual/x@ffffffff", "visual/x@"),
            ("demo", "demo@aa1, demo@aa2"),
            ("demo@aa", "demo@aa1, demo@aa2"),
            ("other", "demo@aa1"),
            ("../../etc@x", "no"),
        ):
            with pytest.raises(NotInStoreError, match=re.escape(told)):
                pin(store, what)
        assert pins(store) == ()

    def test_two_notes_are_two_pins(self, store, streams):
        full = streams[0].full_name
        for note in ("", "Ana's paper", "Ben's paper", "Ben's paper"):
            pin(store, "visual/x", note)
        assert pins(store) == tuple(Pin(full, n) for n in ("", "Ana's paper", "Ben's paper"))
        assert unpin(store, "visual/x", "Ana's paper") == (Pin(full, "Ana's paper"),)
        assert unpin(store, "visual/x") == (Pin(full), Pin(full, "Ben's paper"))
        assert pins(store) == ()
        with pytest.raises(NotInStoreError, match=r"nothing is pinned as 'visual/x'.*none"):
            unpin(store, "visual/x")

    def test_what_is_gone_can_be_unpinned(self, store, streams):
        pin(store, "visual/x")
        pin(store, "audio/y")
        shutil.rmtree(store.path / "streams")
        with pytest.raises(NotInStoreError, match=r"pins:\n  audio/y@[0-9a-f]{64}  \n  visual/x@"):
            unpin(store, "visual/other")
        unpin(store, "visual/x")
        assert [p.what for p in pins(store)] == [streams[1].full_name]

    def test_several_things_are_not_unpinned_at_once(self, store):
        for edition in ("aa1", "aa2"):
            store.save_manifest(table(f"demo@{edition}", {}))
            pin(store, f"demo@{edition}")
        with pytest.raises(NotInStoreError, match=r"several.*\n  demo@aa1  \n  demo@aa2"):
            unpin(store, "demo")
        assert len(pins(store)) == 2

    @pytest.mark.parametrize("note", ["\n", "x" * 4097, "\ud800"])
    def test_a_note_is_one_line(self, store, note):
        with pytest.raises(StoreError, match="note"):
            pin(store, "visual/x", note)
        assert pins(store) == ()

    def test_no_flipped_bit_makes_another_pin(self, store, streams):
        pin(store, "visual/x", "a note")
        (path,) = (store.path / "pins").iterdir()
        content = path.read_bytes()
        for bit in range(8 * len(content)):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            try:
                assert pins(store) == (Pin(streams[0].full_name, "a note"),)
            except StoreError as error:
                refused = path.name in str(error)
                assert refused
                with pytest.raises(StoreError, match=path.name):
                    plan(store, streams[0])

    def test_a_newer_pin_stops_collecting(self, store, streams):
        pin(store, "visual/x")
        (path,) = (store.path / "pins").iterdir()
        path.write_text(json.dumps({**json.loads(path.read_text()), "version": 2}))
        with pytest.raises(StoreError, match="newer than this program"):
            plan(store, streams[0])

    def test_many_processes_pin_at_once(self, store):
        code = (
            "import sys; from concord.cache import FeatureStore; from concord.cache.pins import pin"
            "\nfor i in range(20): pin(FeatureStore(sys.argv[1]), 'visual/x', f'{sys.argv[2]} {i}')"
        )
        started = [
            subprocess.Popen([sys.executable, "-c", code, store.path, str(k)]) for k in range(3)
        ]
        assert [each.wait(60) for each in started] == [0, 0, 0]
        assert {p.note for p in pins(store)} == {f"{k} {i}" for k in range(3) for i in range(20)}
