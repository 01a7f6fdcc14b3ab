"""The command line on a Python that lacks what only POSIX has, as that of Windows does: `python other_system.py WORDS`.

What Python's own library needs stays; of the rest every module, function and constant goes that its documentation says
is not on Windows. Paths, file locking and line ends of Windows are not imitated.
"""

from __future__ import annotations

# The modules of the standard library choose by what there is while they are imported.
import asyncio  # noqa: F401  (chooses)
import multiprocessing  # noqa: F401  (chooses)
import os
import pathlib  # noqa: F401  (chooses)
import shutil  # noqa: F401  (chooses)
import signal
import subprocess  # noqa: F401  (chooses)
import sys
import tempfile  # noqa: F401  (chooses)
from typing import Any

MODULES = ("fcntl", "grp", "pwd", "resource", "termios", "tty", "pty", "readline")
OF_OS = (
    *(
        "geteuid",
        "getuid",
        "getegid",
        "getgid",
        "fork",
        "forkpty",
        "getxattr",
        "listxattr",
        "killpg",
        "setsid",
        "mkfifo",
    ),
    *("getpgid", "getpgrp", "tcgetpgrp", "sched_getaffinity", "preadv", "pread", "pwrite"),
    *("O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC"),
)
OF_SIGNAL = (
    *("SIGHUP", "SIGQUIT", "SIGALRM", "SIGUSR1", "SIGPIPE", "SIGSTOP", "SIGTSTP"),
    *("pthread_sigmask", "setitimer", "alarm"),
)


def leave_out() -> None:
    """Take away what is not on Windows."""
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]  # what makes an import fail
    for module, names in ((os, OF_OS), (signal, OF_SIGNAL)):
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    os.supports_dir_fd = os.supports_follow_symlinks = os.supports_fd = set()
    link = os.link

    def plain_link(source: Any, target: Any, *, follow_symlinks: bool = True) -> None:
        if not follow_symlinks:
            raise NotImplementedError("link: follow_symlinks unavailable on this platform")
        link(source, target)

    os.link = plain_link  # type: ignore[assignment]  # it takes names as they come


if __name__ == "__main__":
    leave_out()
    from normexport_cli.start import main

    main()
