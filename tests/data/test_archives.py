"""Image folders in zip and tar files: the same data set as the folder, and what is refused or left out."""

import bz2
import gzip
import io
import lzma
import os
import stat
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nasfast.data import load_data
from nasfast.data.archive import ARCHIVES
from nasfast.data.fingerprint import data_fingerprint
from nasfast.errors import DataError
from tests.data.test_data import expect, write_images

KINDS = ("data.zip", "data.tar", "data.tar.gz", "data.TGZ", "data.tar.bz2", "data.tar.xz")


def pack(folder, archive, around=""):
    """An archive of a folder's content, below ``around``."""
    files = sorted(folder.rglob("*"), reverse=True)  # in no order that anything could lean on
    if archive.name.endswith(".zip"):
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for file in files:
                packed.write(file, Path(around, file.relative_to(folder)))
        return archive
    ending = archive.name.lower().rpartition(".")[2]
    with tarfile.open(archive, "w:" + {"tgz": "gz", "tar": ""}.get(ending, ending)) as packed:
        for file in files:
            packed.add(file, Path(around, file.relative_to(folder)), recursive=False)
    return archive


def png(value=0):
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def members(count=3):
    """Contents of images of two classes by name."""
    return {f"{name}/{i}.png": png(i + 10 * (name == "dog")) for name in ("cat", "dog") for i in range(count)}


def write_zip(path, contents):
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in contents.items():
            packed.writestr(name, content)
    return path


def write_tar(path, contents, *infos):
    with tarfile.open(path, "w") as packed:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))
        for info in infos:
            packed.addfile(info)
    return path


def same(data, other):
    assert data.class_names == other.class_names
    assert data_fingerprint(data) == data_fingerprint(other)
    assert (data.repeated, len(data.skipped)) == (other.repeated, len(other.skipped))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of classes whose names sort in another order than their members' paths do."""
    folder = tmp_path_factory.mktemp("photos")
    write_images(folder, classes=["10", "9", "Zebra", "été"], count=12)
    write_images(folder, classes=["cat"], count=4)
    write_images(folder / "cat", classes=["deep", "deep-er"], count=4)
    (folder / "cat" / "notes.txt").write_text("no image")
    return folder


@pytest.mark.parametrize("around", ["", "photos", "./home/user/photos"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_is_the_same_data_set_as_its_folder(photos, tmp_path, kind, around):
    folder, archive = load_data(str(photos)), load_data(str(pack(photos, tmp_path / kind, around)))
    same(folder, archive)
    inside = [f"the images of {tmp_path / kind} are those in its folder photos"] if around else []
    assert archive.notes == inside + folder.notes
    assert folder.notes == ["left out 1 file whose names are not those of images: .txt (1)"]


@pytest.mark.parametrize("kind", ["data.zip", "data.tar.gz"])
def test_halves_in_an_archive(tmp_path, kind):
    for half in ("Train", "val"):
        write_images(tmp_path / "data" / half)
    for around in ("", "data"):
        same(load_data(str(tmp_path / "data")), load_data(str(pack(tmp_path / "data", tmp_path / kind, around))))


def test_a_folder_of_train_images_alone_is_its_classes(tmp_path):
    write_images(tmp_path / "data" / "train", count=10)
    same(load_data(str(tmp_path / "data")), load_data(str(pack(tmp_path / "data", tmp_path / "data.zip"))))


def test_nothing_is_left_on_the_disk(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    load_data(str(pack(photos, tmp_path / "data.tgz")))
    assert list((tmp_path / "temporary").iterdir()) == []
    (tmp_path / "temporary").rmdir()
    expect("cannot be unpacked to a temporary file: No such file.*TMPDIR", tmp_path / "data.tgz")


def test_compression_is_seen_in_the_file_and_not_in_its_name(photos, tmp_path):
    plain = pack(photos, tmp_path / "data.tar").read_bytes()
    expected = load_data(str(tmp_path / "data.tar"))
    for number, content in enumerate((plain, gzip.compress(plain), bz2.compress(plain), lzma.compress(plain))):
        path = tmp_path / f"{number}.tar.bz2"
        path.write_bytes(content)
        same(load_data(str(path)), expected)


@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.parametrize("name", ["/etc/cat/0.png", "cat/../../0.png", "..", "C:/cat/0.png"])
def test_names_that_lead_out_are_refused(tmp_path, write, name):
    path = write(tmp_path / f"data.{write.__name__[6:]}", members() | {name: png()})
    expect(rf"data\.\w+ holds a member {name}, which leads out of it; expected names within it", path)


@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.parametrize("name", ["/".join("a" * 70), "cat/" + "a" * 5000])
def test_names_without_bounds_are_refused(tmp_path, write, name):
    path = write(tmp_path / f"data.{write.__name__[6:]}", members() | {name: png()})
    expect("expected names of at most 4096 characters and 64 folders", path)


def test_backslashes_of_windows_separate_folders(tmp_path):
    write_zip(tmp_path / "plain.zip", members(8))
    with zipfile.ZipFile(tmp_path / "windows.zip", "w") as packed:
        for name, content in members(8).items():
            info = zipfile.ZipInfo(name)
            info.filename, info.create_system = name.replace("/", "\\"), 0
            packed.writestr(info, content)
    same(load_data(str(tmp_path / "windows.zip")), load_data(str(tmp_path / "plain.zip")))


def test_names_in_utf_8_that_do_not_say_so(tmp_path):
    contents = {f"{name}/{i}.png": png(i) for name in ("été", "dog") for i in range(3)}
    packed = write_zip(tmp_path / "data.zip", contents).read_bytes()
    flag = zipfile.ZipFile(tmp_path / "data.zip").infolist()[0].flag_bits
    assert flag == 0x800
    # The flag stands in each member's own header and in the one of the directory.
    bare = packed.replace(b"PK\3\4\x14\0\0\x08", b"PK\3\4\x14\0\0\0").replace(
        b"PK\1\2\x14\3\x14\0\0\x08", b"PK\1\2\x14\3\x14\0\0\0"
    )
    assert bare != packed
    (tmp_path / "bare.zip").write_bytes(bare)
    assert load_data(str(tmp_path / "bare.zip")).class_names == ["dog", "été"]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_name_that_stands_twice(tmp_path, kind):
    path = tmp_path / f"data.{kind}"
    if kind == "zip":
        write_zip(path, members())
        with zipfile.ZipFile(path, "a") as packed:
            packed.writestr("cat/1.png", png(99))
    else:
        write_tar(path, members())
        with tarfile.open(path, "a") as packed:
            info = tarfile.TarInfo("./cat/1.png")
            info.size = len(png(99))
            packed.addfile(info, io.BytesIO(png(99)))
    expect(r"holds cat/1.png twice; expected each name once", path)


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_a_name_that_is_a_file_and_a_folder(tmp_path, write):
    path = tmp_path / f"data.{write.__name__[6:]}"
    expect(r"holds .*cat/0.png both as a file and as a folder", write(path, members() | {"cat/0.png/1.png": png()}))
    expect(r"holds .*cat both as a file and as a folder", write(path, members() | {"cat": b""}))


def test_links_devices_and_pipes_of_a_tar_file_are_left_out(tmp_path):
    infos = []
    for name, kind in (("link.png", tarfile.SYMTYPE), ("pipe.png", tarfile.FIFOTYPE), ("disk.png", tarfile.BLKTYPE)):
        infos.append(tarfile.TarInfo(f"cat/{name}"))
        infos[-1].type, infos[-1].linkname = kind, "/etc/passwd"
    infos.append(tarfile.TarInfo("dog/nowhere.png"))
    infos[-1].type, infos[-1].linkname = tarfile.LNKTYPE, "../../etc/passwd"
    data = load_data(str(write_tar(tmp_path / "data.tar", members(), *infos)))
    same(data, load_data(str(write_tar(tmp_path / "plain.tar", members()))))
    assert data.notes == ["left out 4 files of special kinds: pipes, devices, links to nowhere or in an archive"]


def test_a_link_of_a_zip_file_is_left_out(tmp_path):
    write_zip(tmp_path / "data.zip", members())
    with zipfile.ZipFile(tmp_path / "data.zip", "a") as packed:
        link = zipfile.ZipInfo("cat/link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        packed.writestr(link, "/etc/passwd")
    data = load_data(str(tmp_path / "data.zip"))
    same(data, load_data(str(write_zip(tmp_path / "plain.zip", members()))))
    assert data.notes == ["left out 1 file of special kinds: pipes, devices, links to nowhere or in an archive"]


def test_a_second_name_of_a_file_is_an_image_too(tmp_path):
    paths = write_images(tmp_path / "data", count=6)
    os.link(paths[0], paths[0].with_name("again.png"))
    same(load_data(str(tmp_path / "data")), load_data(str(pack(tmp_path / "data", tmp_path / "data.tar"))))


def test_files_with_holes(tmp_path):
    """What GNU tar --sparse writes: parts of a file, and where they belong."""
    image = io.BytesIO()
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(image, "bmp")
    content = bytearray(image.getvalue())
    content[8192:8292] = bytes(range(100))
    write_tar(tmp_path / "plain.tar", members() | {"cat/holes.bmp": bytes(content)})
    info = tarfile.TarInfo("cat/holes.bmp")
    info.size = 1024
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[156:157] = tarfile.GNUTYPE_SPARSE
    for place, number in ((386, 0), (398, 512), (410, 8192), (422, 512)):
        header[place : place + 12] = b"%011o\0" % number
    header[482:483] = b"\0"
    header[483:495] = b"%011o\0" % len(content)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    begun = write_tar(tmp_path / "start.tar", members()).read_bytes()
    with tarfile.open(tmp_path / "start.tar") as packed:
        packed.getmembers()
        begun = begun[: packed.offset]
    parts = bytes(content[:512]) + bytes(content[8192:8704])
    (tmp_path / "data.tar").write_bytes(begun + bytes(header) + parts + bytes(1024))
    same(load_data(str(tmp_path / "data.tar")), load_data(str(tmp_path / "plain.tar")))


def test_copies_of_systems_and_hidden_members_are_no_images(tmp_path):
    hidden = {"__MACOSX/cat/._0.png": b"", "cat/.DS_Store": b"", "data/.git/cat/0.png": png(7), ".hidden": b""}
    path = write_zip(tmp_path / "data.zip", {f"data/{name}": content for name, content in members().items()} | hidden)
    same(load_data(str(path)), load_data(str(write_zip(tmp_path / "plain.zip", members()))))


def test_encrypted_zip_files(tmp_path):
    path = write_zip(tmp_path / "data.zip", members())
    content = path.read_bytes().replace(b"PK\1\2\x14\3\x14\0\0\0", b"PK\1\2\x14\3\x14\0\1\0")
    path.write_bytes(content)
    expect(r"data.zip is encrypted \(cat/0.png\); expected a zip file without a password", path)


@pytest.mark.parametrize("kind", [*KINDS[:3], *KINDS[4:]])
def test_a_cut_archive_is_refused_wherever_it_is_cut(tmp_path, kind):
    write_images(tmp_path / "data", count=4)
    path = pack(tmp_path / "data", tmp_path / kind)
    whole = path.read_bytes()
    with tarfile.open(pack(tmp_path / "data", tmp_path / "plain.tar")) as packed:
        ends = [packed.getmembers()[5].offset, packed.offset]  # between members: for tarfile that is an end like others
    for length in {0, 1, 100, len(whole) // 2, len(whole) - 1, *ends} - {len(whole)}:
        if length < len(whole) and not (kind == "data.tar" and length == len(whole) - 1):  # padding after the end mark
            path.write_bytes(whole[:length])
            expect(r"cannot be read as a \w+ file|is cut or damaged", path)


def test_damage_between_members_of_a_tar_file(tmp_path):
    path = write_tar(tmp_path / "data.tar", members())
    with tarfile.open(path) as packed:
        start = packed.getmembers()[4].offset
    content = bytearray(path.read_bytes())
    content[start : start + 200] = b"\xaa" * 200
    path.write_bytes(content)
    expect("is cut or damaged after 4 members; expected a whole tar file", path)


@pytest.mark.parametrize("size", [-1, -512, -1024, -4096])
def test_a_negative_size_in_a_tar_file(tmp_path, size):
    path = write_tar(tmp_path / "data.tar", members())
    with tarfile.open(path) as packed:
        start = packed.getmembers()[4].offset
    content = bytearray(path.read_bytes())
    header = content[start : start + 512]
    header[124:136] = b"\xff" + (size % 2**88).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    content[start : start + 512] = header
    path.write_bytes(content)
    expect("data.tar cannot be read as a tar file: a member has a negative size", path)


def test_a_damaged_member_is_an_unreadable_image(tmp_path):
    path = write_zip(tmp_path / "data.zip", members())
    content = path.read_bytes()
    place = content.index(png(1)) + 50
    path.write_bytes(content[:place] + b"\0\0" + content[place + 2 :])
    expect(r"cannot read image .*data.zip/cat/1.png: Bad CRC-32 for file 'cat/1.png'; --skip-bad", path)
    data = load_data(str(path), skip_bad=True)
    assert data.skipped == [f"{path}/cat/1.png"]


def test_an_unknown_compression_is_named(tmp_path):
    path = write_zip(tmp_path / "data.zip", members())
    path.write_bytes(path.read_bytes().replace(b"PK\1\2\x14\3\x14\0\0\0\0\0", b"PK\1\2\x14\3\x14\0\0\0\x09\0"))
    expect(r"cannot read image .*data.zip/cat/.*png: That compression method is not supported", path)


@pytest.mark.parametrize("kind", ["data.zip", "data.tar.gz", "data.tar.xz"])
def test_bombs_are_refused(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": 10, "SC_PAGE_SIZE": 2**12}[name])
    folder = tmp_path / "data"
    write_images(folder)
    load_data(str(pack(folder, tmp_path / kind)))
    (folder / "cat" / "bomb.png").write_bytes(bytes(2**24))
    expect(r"unpacks to more than 0.0 GiB, which is more than this machine's memory", pack(folder, tmp_path / kind))


def test_a_member_that_lies_about_its_size_is_not_unpacked(tmp_path):
    path = tmp_path / "data.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in (members() | {"cat/bomb.png": bytes(2**22)}).items():
            packed.writestr(name, content)
    path.write_bytes(path.read_bytes().replace((2**22).to_bytes(4, "little"), (100).to_bytes(4, "little")))
    expect(r"cannot read image .*data.zip/cat/bomb.png: Bad CRC-32", path)


def test_archives_of_something_else(tmp_path):
    expect(r"empty.zip holds no images; expected one folder of images per class", write_zip(tmp_path / "empty.zip", {}))
    expect(r"empty.tar holds no images; expected one folder of images per class", write_tar(tmp_path / "empty.tar", {}))
    loose = {name.replace("/", "-"): content for name, content in members().items()}
    expect(r"loose.zip holds images but no class folder", write_zip(tmp_path / "loose.zip", loose))
    one = {name: content for name, content in members().items() if name.startswith("cat")}
    expect(r"one.zip holds one class \(cat\)", write_zip(tmp_path / "one.zip", one))
    expect(r"class folder .*data.zip/cow holds no images", write_zip(tmp_path / "data.zip", members() | {"cow/": b""}))
    (tmp_path / "text.zip").write_text("no archive")
    expect(r"text.zip cannot be read as a zip file: File is not a zip file", tmp_path / "text.zip")
    (tmp_path / "text.tgz").write_text("no archive")
    expect(r"text.tgz cannot be read as a tar file", tmp_path / "text.tgz")
    (tmp_path / "data.rar").write_text("no archive")
    expect(rf"data.rar is a file; expected a folder .*{', '.join(ARCHIVES)}", tmp_path / "data.rar")
    os.mkfifo(tmp_path / "pipe.zip")
    expect(r"pipe.zip is a file; expected a folder", tmp_path / "pipe.zip")


@pytest.mark.parametrize("kind", ["data.zip", "data.tar", "data.tar.gz"])
def test_damaged_archives_end_in_one_line(tmp_path, kind):
    """Bytes anywhere, changed one at a time: an error in one line, or a data set."""
    write_images(tmp_path / "data", count=3)
    path = pack(tmp_path / "data", tmp_path / kind)
    whole, generator = path.read_bytes(), np.random.default_rng(0)
    errors = []
    for place in generator.integers(0, len(whole), 80).tolist():
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            load_data(str(path), skip_bad=True, threads=1)
        except DataError as error:
            errors.append(str(error))
    assert len(errors) > 3
    assert not any("\n" in error for error in errors)
