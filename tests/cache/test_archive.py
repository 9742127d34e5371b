"""Archives: read by tar, unzip and Python's own modules; whatever is odd about one is refused."""

from __future__ import annotations

import hashlib
import io
import stat
import subprocess
import tarfile
import zipfile

import pytest
from concord.cache import StoreError
from concord.cache.archive import (
    BLANK,
    SEAL_BYTES,
    open_archive,
    seal_archive,
    unpack,
    write_archive,
)

KINDS = ("tar", "zip")
CONTENT = {"b.json": b"{}", "store/x/c/0/0": bytes(range(256)) * 9, "empty": b"", "a/1": b"1" * 512}


@pytest.fixture
def files(tmp_path):
    paths = {}
    for number, (name, content) in enumerate(CONTENT.items()):
        paths[name] = tmp_path / f"file{number}"
        paths[name].write_bytes(content)
    return paths


def read(path):
    with open_archive(path) as archive:
        return {name: b"".join(archive.blocks(name)) for name in archive.members}


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read(files, tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    write_archive(path, files)
    assert read(path) == CONTENT
    again = tmp_path / f"y.{kind}"
    write_archive(again, files)
    assert again.read_bytes() == path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) & 0o111 == 0
    with pytest.raises(StoreError, match="is there already"):
        write_archive(path, files)
    with pytest.raises(StoreError, match=r"\.tar or \.zip"):
        write_archive(tmp_path / "x.rar", files)
    assert not list(tmp_path.glob(".tmp-*"))


def test_other_programs_read_them(files, tmp_path):
    write_archive(tmp_path / "x.tar", files)
    write_archive(tmp_path / "x.zip", files)
    command = ["tar", "-xf", "x.tar", "--one-top-level=out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    assert done.stderr == b""
    with tarfile.open(tmp_path / "x.tar") as archive:
        assert archive.getnames() == list(CONTENT)
    with zipfile.ZipFile(tmp_path / "x.zip") as archive:
        assert archive.testzip() is None
        for name, content in CONTENT.items():
            assert (tmp_path / "out" / name).read_bytes() == content == archive.read(name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_byte_flipped_or_cut_anywhere_is_seen(files, tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    write_archive(path, files)
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(StoreError, match="damaged, or no bundle"), open_archive(path):
            pass
    for size in (0, 1, 63, 64, 600, len(whole) - 64, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(StoreError), open_archive(path):
            pass
    path.write_bytes(whole + b"\0")
    with pytest.raises(StoreError), open_archive(path):
        pass


def sealed(path, content):
    path.write_bytes(content)
    seal_archive(path)
    return path


def tar_of(path, *members, form=tarfile.USTAR_FORMAT):
    """A sealed tar of (TarInfo or name, content)."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form) as archive:
        for member, content in members:
            info = tarfile.TarInfo(member) if isinstance(member, str) else member
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return sealed(path, raw.getvalue() + BLANK)


def zip_of(path, *members, compression=zipfile.ZIP_STORED):
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", compression) as archive:
        archive.comment = BLANK
        for member, content in members:
            archive.writestr(member, content)
    return sealed(path, raw.getvalue())


NAMES = [
    ("/etc/x", "leads out"),
    ("a/../../x", "leads out"),
    ("..", "leads out"),
    ("a\\..\\x", "leads out"),
    ("c:/x", "leads out"),
    ("a//b", "empty or hidden"),
    ("./a", "empty or hidden"),
    (".tmp-x/a", "empty or hidden"),
    ("a\nb", "plain characters"),
    ("é", "plain characters|plain tar"),
]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("make", [tar_of, zip_of])
def test_names_that_lead_elsewhere_or_are_there_twice(tmp_path, make):
    for name, problem in [*NAMES, ("ok", None)]:
        path = make(tmp_path / "x", (name, b"1"))
        if problem is None:
            assert read(path) == {name: b"1"}
            continue
        with pytest.raises(StoreError, match=problem):
            read(path)
    with pytest.raises(StoreError, match="'a' is there twice"):
        read(make(tmp_path / "x", ("a", b"1"), ("a", b"2")))


@pytest.mark.parametrize(
    "kind",
    [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, b"S"],
)
def test_tars_with_what_is_no_plain_file(tmp_path, kind):
    member = tarfile.TarInfo("a")
    member.type, member.linkname = kind, "/etc/passwd"
    with pytest.raises(StoreError, match="expected a plain file"):
        read(tar_of(tmp_path / "x", (member, b"")))


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_tars_with_extensions_are_refused(tmp_path, form):
    with pytest.raises(StoreError, match="expected a plain file"):
        read(tar_of(tmp_path / "x", ("a" * 200, b""), form=form))


def test_a_tar_that_claims_more_than_it_has(tmp_path):
    for size in (1 << 40, 10_000_000, -512):
        member = tarfile.TarInfo("a")
        member.size = size
        header = member.tobuf(tarfile.GNU_FORMAT)
        path = sealed(tmp_path / "x", header + bytes(4096) + BLANK)
        with pytest.raises(StoreError, match="claims to have"):
            read(path)


def test_zips_with_what_is_no_plain_file(tmp_path):
    for kind in (stat.S_IFLNK, stat.S_IFDIR, stat.S_IFIFO):
        member = zipfile.ZipInfo("a")
        member.external_attr = (kind | 0o777) << 16
        with pytest.raises(StoreError, match="expected a plain file"):
            read(zip_of(tmp_path / "x", (member, b"x")))


def test_zip_bombs(tmp_path):
    path = zip_of(tmp_path / "x", ("a", bytes(1 << 20)), compression=zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 10_000
    with pytest.raises(StoreError, match="neither compressed"):
        read(path)
    # Many names for one stretch of bytes.
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        archive.comment = BLANK
        archive.writestr("a00", bytes(100_000))
        (first,) = archive.infolist()
        for number in range(1, 50):
            member = zipfile.ZipInfo(f"a{number:02d}")
            for name in ("header_offset", "file_size", "compress_size", "CRC"):
                setattr(member, name, getattr(first, name))
            archive.filelist.append(member)
            archive.NameToInfo[member.filename] = member
        archive._didModify = True
    with pytest.raises(StoreError, match=r"another file|claim to hold"):
        read(sealed(tmp_path / "x", raw.getvalue()))


def test_a_zip_with_a_directory_too_large_to_be_read(tmp_path):
    content = bytearray(zip_of(tmp_path / "x", ("a", b"1")).read_bytes())
    end = len(content) - SEAL_BYTES - 22
    content[end + 12 : end + 16] = (1 << 30).to_bytes(4, "little")
    with pytest.raises(StoreError, match="more than any may have"):
        read(sealed(tmp_path / "x", bytes(content)))


def test_a_zip_whose_directory_and_file_differ_in_name(tmp_path):
    content = zip_of(tmp_path / "x", ("name", b"1")).read_bytes()
    with pytest.raises(StoreError, match="another file"):
        read(sealed(tmp_path / "x", content.replace(b"name", b"nane", 1)))


def test_rubbish(tmp_path):
    for content in (b"", b"x" * 64, b"PK\x03\x04" * 300, b"\0" * 5000, b"y" * 5000):
        path = tmp_path / "x"
        path.write_bytes(content + BLANK)
        seal_archive(path)
        if content.strip(b"\0"):
            with pytest.raises(StoreError):
                read(path)
    with pytest.raises(StoreError, match="cannot be read"):
        read(tmp_path / "none")


def test_unpacking_compares_digests_and_replaces_nothing(files, tmp_path):
    write_archive(tmp_path / "x.tar", files)
    right = hashlib.sha256(CONTENT["a/1"]).hexdigest()
    with open_archive(tmp_path / "x.tar") as archive:
        unpack(archive, "a/1", tmp_path / "out" / "a", right)
        for target in ("out/a", "out/a/b"):
            with pytest.raises(StoreError, match="a file and a folder"):
                unpack(archive, "a/1", tmp_path / target, right)
        with pytest.raises(StoreError, match="SHA-256 differs"):
            unpack(archive, "a/1", tmp_path / "out" / "b", "0" * 64)
    assert (tmp_path / "out" / "a").read_bytes() == CONTENT["a/1"]
