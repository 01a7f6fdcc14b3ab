"""Whether a library may be loaded: nobody but this user and root can have written it, or can write it from now on.

As ssh does with its keys, every folder down to the file is looked at, on its real path. A folder that all may write is
taken where it is sticky, as /tmp is: in it none can remove or rename what is another's. So once a path is found good,
nobody else can exchange the file between this check and the loading of it. What remains: other processes of this very
user, and of root.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from normexport.errors import UsageError


def private(path: Path) -> Path:
    """The real path of `path`, a file or a folder that exists, once others can't change it.

    Raises:
        UsageError: others can; it names the part of the path by which. Or the system does not say (Windows).
    """
    if not hasattr(os, "geteuid"):
        raise UsageError(
            str(path), "is not loaded: this system does not say who owns a file", "do without: bodies serve"
        )
    try:
        real = Path(os.path.realpath(path, strict=True))
        for part in (real, *real.parents):
            reason = _weakness(part, part.lstat())
            if reason:
                cause = f"is not loaded: {'it' if part == real else part} {reason}"
                raise UsageError(str(path), cause, f"keep it where only you can write (chmod go-w {part})")
    except OSError as error:
        raise UsageError(str(path), f"can't be read ({error.strerror})", "check the path") from error
    return real


def _weakness(path: Path, found: os.stat_result) -> str:
    """By what somebody else can change a file or the entries of a folder; "" where nobody can."""
    if found.st_uid not in _trusted_owners():
        return f"belongs to {_user(found.st_uid)}"
    if stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX:
        return ""
    if found.st_mode & stat.S_IWOTH:
        return "can be written by everybody"
    if found.st_mode & stat.S_IWGRP and (_has_access_list(path) or not _is_own_group(found.st_gid)):
        return "can be written by a group"
    return ""


def _trusted_owners() -> set[int]:
    """root (whoever owns /, where user ids are mapped), this user, and the owner of the Python code that runs here."""
    return {0, os.geteuid(), os.stat("/").st_uid, os.stat(__file__).st_uid}


def _is_own_group(group: int) -> bool:
    """Whether only trusted users are in it: many systems give every user a group, and files that it may write."""
    import grp  # these two modules are not there on Windows
    import pwd

    try:
        members = set(grp.getgrgid(group).gr_mem)
    except KeyError:
        return False
    members |= {user.pw_name for user in pwd.getpwall() if user.pw_gid == group}
    return members <= {_user(user) for user in _trusted_owners()}


def _has_access_list(path: Path) -> bool:
    """Where there is one, what stat calls the group's rights are the most that anybody in the list has."""
    if not hasattr(os, "getxattr"):  # macOS has lists of another kind: taken to have one
        return True
    try:
        return bool(os.getxattr(path, "system.posix_acl_access"))
    except OSError:  # there is none, or the file system has no such thing
        return False


def _user(number: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
