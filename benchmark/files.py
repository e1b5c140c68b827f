"""Files that are there whole or not at all."""

import errno
import os
import uuid
from pathlib import Path

from benchmark.errors import CdnerError


def sync(path: Path) -> None:
    """Force a file or a folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_target(path: Path) -> None:
    """Raise CdnerError where no file can be written: before the work is done that is to be written there."""
    if path.is_dir():
        raise CdnerError(f"{path}: this is a folder, expected the name of a file to write. Name one in it.")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise CdnerError(f"{path}: {above} is a file, so nothing can be written below it. Name another place.")
    if not os.access(above, os.W_OK | os.X_OK):
        raise CdnerError(f"{path}: {above} cannot be written to. Name another place, or mend its permissions.")


def write_whole(path: Path, text: str | bytes) -> None:
    """Write a file that is there whole or not at all. An OSError names this file, and no other."""
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            scratch.write_bytes(text.encode() if isinstance(text, str) else text)
            sync(scratch)
            scratch.replace(path)
        except BaseException:
            scratch.unlink(missing_ok=True)
            raise
    except FileExistsError as error:  # what should be a folder is a file
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path)) from error
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
