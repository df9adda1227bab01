"""The members of a zip file."""

from __future__ import annotations

import stat
import zipfile
from contextlib import suppress
from pathlib import Path

from nasfast.data.unpacking import Member
from nasfast.errors import DataError
from nasfast.utils.shown import shown

_ENCRYPTED, _UTF8 = 0x1, 0x800  # bits of a member's flags
_WINDOWS = 0  # what made the file


def zip_members(path: Path) -> list[Member]:
    """What the file holds, in its order.

    Raises:
        DataError: It is damaged, or encrypted.
    """
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, EOFError) as error:
        raise DataError(f"{shown(path)} cannot be read as a zip file: {shown(error)}; expected a whole one") from error
    return [_member(path, archive, info) for info in archive.infolist()]


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    name = _name(info)
    if info.is_dir() or name.endswith("/"):
        return Member(name, folder=True)
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return Member(name)
    if info.flag_bits & _ENCRYPTED:
        raise DataError(f"{shown(path)} is encrypted ({shown(name)}); expected a zip file without a password")

    def read() -> bytes:
        try:
            with archive.open(info) as file:
                # By its size: without, one that lies about it would be unpacked as a whole.
                return file.read(info.file_size)
        except Exception as error:  # zipfile raises nearly anything on damaged files
            raise OSError(str(error) or type(error).__name__) from error

    return Member(name, info.file_size, read=read)


def _name(info: zipfile.ZipInfo) -> str:
    name = info.filename
    if not info.flag_bits & _UTF8:
        # Without the flag zipfile takes code page 437, but most programs write UTF-8.
        with suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/") if info.create_system == _WINDOWS else name
