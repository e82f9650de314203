"""The `file:` store: content-addressed blobs in a folder, safe against crashes, races and strangers' files.

Opened by `runtime`. A blob lies at `blobs/<2 hex>/<sha256>`; it is written to `tmp/`, synced, renamed into place and
its folder synced, so a blob is whole or absent whatever kills the writer, and any number of processes may share the
folder. Symbolic links below the root are never followed and nothing but a 64-digit digest names a file. What a killed
writer leaves lies in `tmp/` alone, where `sweep` finds it.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import secrets
import stat
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

from tracemend.kit.errors import CorruptBlob, Retry, SetupError

_DIGEST = re.compile(r"[0-9a-f]{64}")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe that somebody put there must not block us
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_NOT_OURS = {errno.ELOOP, errno.ENOTDIR, errno.ENXIO}
_FULL_AFTER_S = 30.0


class FolderStore:
    """`kit.ports.Store` in the folder `root`, which is made if it is missing. File work runs in threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            for folder in (root / "blobs", root / "tmp"):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SetupError(f"cannot keep blobs in {root}: {error.strerror}; choose a folder to write to") from error

    async def put(self, content: bytes) -> str:
        return await asyncio.to_thread(self._put, content)

    async def get(self, digest: str) -> bytes:
        return await asyncio.to_thread(self._get, _checked(digest))

    async def get_range(self, digest: str, *, offset: int, length: int) -> bytes:
        """`CorruptBlob` where the blob ends before `offset + length`."""
        if offset < 0 or length < 0:
            raise ValueError(f"a range starts and extends forwards, not at {offset} by {length}")
        return await asyncio.to_thread(self._get_range, _checked(digest), offset, length)

    async def has(self, digest: str) -> bool:
        return await asyncio.to_thread(self._has, _checked(digest))

    async def digests(self) -> AsyncIterator[str]:
        for folder in sorted(await asyncio.to_thread(os.listdir, self.root / "blobs")):
            for name in await asyncio.to_thread(self._names, folder):
                yield name

    async def delete(self, digest: str) -> None:
        await asyncio.to_thread(self._delete, _checked(digest))

    async def sweep(self, *, older_than_s: float = 3600.0) -> int:
        """Remove what killed writers left; a younger file may still be being written. Returns how many."""
        return await asyncio.to_thread(self._sweep, older_than_s)

    # --------------------------------------------------------------------------------------- in threads

    def _put(self, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        with _explained(self.root), self._folder(digest, create=True) as folder:
            if not self._holds(folder, digest, content):
                self._write(folder, digest, content)
            os.fsync(folder)  # also where another writer renamed the blob: it may not have come to its sync yet
        return digest

    def _holds(self, folder: int, digest: str, content: bytes) -> bool:
        """Whether the blob is there and whole; a damaged one is written again."""
        try:
            with _opened(folder, digest) as file:
                return os.fstat(file).st_size == len(content) and _read(file, 0, len(content)) == content
        except (KeyError, CorruptBlob):
            return False

    def _write(self, folder: int, digest: str, content: bytes) -> None:
        temporary = self.root / "tmp" / f"{digest[:8]}-{secrets.token_hex(8)}"
        file = os.open(temporary, _CREATE, 0o666)
        try:
            try:
                view = memoryview(content)
                while view:
                    view = view[os.write(file, view) :]
                os.fsync(file)
            finally:
                os.close(file)
            os.replace(temporary, digest, dst_dir_fd=folder)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise

    def _get(self, digest: str) -> bytes:
        with self._folder(digest) as folder, _opened(folder, digest) as file:
            content = _read(file, 0, os.fstat(file).st_size)
        if hashlib.sha256(content).hexdigest() != digest:
            raise CorruptBlob(
                f"blob {digest} in {self.root} has changed since it was stored: restore it from a copy, or delete it "
                "and run what made it again"
            )
        return content

    def _get_range(self, digest: str, offset: int, length: int) -> bytes:
        with self._folder(digest) as folder, _opened(folder, digest) as file:
            content = _read(file, offset, length)
        if len(content) < length:
            raise CorruptBlob(f"blob {digest} in {self.root} ends before {offset} + {length} bytes: it was cut off")
        return content

    def _has(self, digest: str) -> bool:
        try:
            with self._folder(digest) as folder:
                return stat.S_ISREG(os.stat(digest, dir_fd=folder, follow_symlinks=False).st_mode)
        except (KeyError, CorruptBlob, FileNotFoundError):
            return False

    def _names(self, folder: str) -> list[str]:
        try:
            names = os.listdir(self.root / "blobs" / folder)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(name for name in names if _DIGEST.fullmatch(name) and name.startswith(folder))

    def _delete(self, digest: str) -> None:
        try:
            with self._folder(digest) as folder:
                os.unlink(digest, dir_fd=folder)
        except (KeyError, FileNotFoundError):
            return

    def _sweep(self, older_than_s: float) -> int:
        num_removed = 0
        for path in (self.root / "tmp").iterdir():
            try:
                if time.time() - path.lstat().st_mtime >= older_than_s:
                    path.unlink()
                    num_removed += 1
            except FileNotFoundError:
                continue  # its writer has just renamed it
        return num_removed

    @contextmanager
    def _folder(self, digest: str, *, create: bool = False) -> Iterator[int]:
        """The open folder that `digest` belongs in; `KeyError` if there is none."""
        blobs = os.open(self.root / "blobs", _FOLDER)
        try:
            if create:
                self._make(blobs, digest[:2])
            folder = _open(digest[:2], _FOLDER, blobs, digest)
        finally:
            os.close(blobs)
        try:
            yield folder
        finally:
            os.close(folder)

    @staticmethod
    def _make(blobs: int, name: str) -> None:
        try:
            os.mkdir(name, dir_fd=blobs)
        except FileExistsError:
            return
        os.fsync(blobs)


def _checked(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"{digest!r} is no digest: 64 lower-case hexadecimal digits name a blob")
    return digest


def _open(name: str, flags: int, folder: int, digest: str) -> int:
    try:
        return os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        raise KeyError(digest) from None
    except OSError as error:
        if error.errno in _NOT_OURS:
            raise CorruptBlob(f"{name} on the way to blob {digest} is a link or no plain file; remove it") from None
        raise


@contextmanager
def _opened(folder: int, digest: str) -> Iterator[int]:
    """The blob's open file; `KeyError` if there is none, `CorruptBlob` if it is not a plain file."""
    file = _open(digest, _READ, folder, digest)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise CorruptBlob(f"blob {digest} is no plain file; remove what lies there")
        yield file
    finally:
        os.close(file)


def _read(file: int, offset: int, length: int) -> bytes:
    parts = []
    while length > 0:
        part = os.pread(file, length, offset)
        if not part:
            break
        parts.append(part)
        offset, length = offset + len(part), length - len(part)
    return b"".join(parts)


@contextmanager
def _explained(root: Path) -> Iterator[None]:
    """Turns what a full or read-only disk says into what to do about it."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise Retry(f"no room for a blob in {root} ({error.strerror}): free some", after_s=_FULL_AFTER_S) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise SetupError(f"cannot write blobs in {root}: {error.strerror}; make it writable") from error
        raise
