"""Namespaces, a small root folder, and dropped privileges: the Linux calls behind the sandbox, by ctypes.

A process that is root uses its own rights; any other makes a user namespace first. Where neither is allowed the sandbox still
has process limits, the system call filter and, from root, an unprivileged user; what is missing is said, never assumed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Sequence

NEW_MOUNT, NEW_UTS, NEW_IPC, NEW_USER, NEW_PID, NEW_NET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
ALL = NEW_MOUNT | NEW_UTS | NEW_IPC | NEW_PID | NEW_NET
_READ_ONLY, _NO_SUID, _NO_DEVICES, _REMOUNT, _BIND, _RECURSIVE, _PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
_DETACH, _MOVE = 2, 8192
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_CAPBSET_DROP = 1, 36, 24
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_CAPABILITIES_3 = 0x20080522
FIRST_USER, USERS = 61184, 4000
"""Unprivileged user ids: one an execution, so that processes and files of two executions never belong to one user."""
FRESH = "/fresh"
"""Where the temporary folder of an execution is put together, before it is moved to /tmp."""
ROOT = "/sys"
"""Where the small root is put together: a folder of every Linux system in which no program lives."""


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def unshare(flags: int) -> None:
    """Leave the caller's namespaces. Raises OSError where that is not allowed."""
    _check(_libc().unshare(flags), "unshare")


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    """mount(2). Raises OSError."""
    encoded = [None if text is None else os.fsencode(text) for text in (source, target, kind, options)]
    _check(_libc().mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3]), f"mount {target}")


def die_with_parent(signal_number: int = 9) -> None:
    """Be killed when the process that started this one ends."""
    _libc().prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ended, so that they can be found and killed."""
    _libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def leave_namespaces() -> bool:
    """Own namespaces for everything, as root, or else behind a user namespace. False where neither is allowed.

    Process ids change for children only: fork after this.
    """
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            unshare(ALL)
            return True
    user, group = os.geteuid(), os.getegid()
    try:
        unshare(NEW_USER | ALL)
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {user} 1"), ("gid_map", f"0 {group} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)
    except OSError:
        return False
    return True


def identity() -> tuple[bool, bool]:
    """(whether this process can become any of the unprivileged users, whether it is root of the machine as far as can be seen).

    Root of a user namespace may know no other users, and is somebody else outside.
    """
    user = os.geteuid()
    with open("/proc/self/uid_map", encoding="ascii") as file:
        spans = [tuple(map(int, line.split())) for line in file]
    with open("/proc/self/setgroups", encoding="ascii") as file:
        groups = file.read().strip() == "allow"
    known = any(first <= FIRST_USER and first + count >= FIRST_USER + USERS for first, _, count in spans)
    return user == 0 and groups and known, any(outside + user - first == 0 for first, outside, _ in spans)


def small_root(sources: Sequence[str], links: Sequence[tuple[str, str]]) -> None:
    """Make everything outside of `sources` (each at its own path, read-only) disappear: an empty root in memory, and no way back.

    links: (path, target) symbolic links of the old root that libraries are found by. Raises OSError.
    """
    mount(None, "/", None, _RECURSIVE | _PRIVATE)
    mount("none", ROOT, "tmpfs", _NO_SUID | _NO_DEVICES, "size=1m,mode=755")
    for path in sources:
        if os.path.exists(path):
            _show(path)
    for path, target in links:
        with contextlib.suppress(FileExistsError):
            os.symlink(target, ROOT + path)
    for folder in ("/tmp", "/old", FRESH):
        os.makedirs(ROOT + folder, exist_ok=True)
    os.chdir(ROOT)
    number = _PIVOT_ROOT[os.uname().machine]
    _check(_libc().syscall(ctypes.c_long(number), b".", b"old"), "pivot_root")
    os.chdir("/")
    _check(_libc().umount2(b"/old", _DETACH), "umount")
    os.rmdir("/old")
    mount(None, "/", None, _REMOUNT | _READ_ONLY | _NO_SUID | _NO_DEVICES)


def _show(path: str) -> None:
    """One folder or device of the old root at its path in the new one; folders read-only."""
    target = ROOT + path
    if os.path.isdir(path):
        os.makedirs(target, exist_ok=True)
        mount(path, target, None, _BIND | _RECURSIVE)
        kept = os.statvfs(target).f_flag & 0xE  # a user namespace may not take nosuid, nodev, noexec off
        mount(None, target, None, _BIND | _REMOUNT | _READ_ONLY | _NO_SUID | kept)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "w", encoding="ascii"):
            pass
        mount(path, target, None, _BIND)


def empty_temporary_folder(size: int, kept: Sequence[str] = ()) -> None:
    """A new empty /tmp of at most `size` bytes for the namespace of this process, gone with it. Raises OSError.

    kept: folders of the small root below /tmp (an environment may have been made there); they stay in sight, read-only.
    """
    mount("none", FRESH, "tmpfs", _NO_SUID | _NO_DEVICES, f"size={size},nr_inodes=4096,mode=1777")
    for path in kept:
        if os.path.isdir(path):
            place = FRESH + path.removeprefix("/tmp")
            os.makedirs(place, exist_ok=True)
            mount(path, place, None, _BIND | _RECURSIVE)
    mount(FRESH, "/tmp", None, _MOVE)


def become_nobody(user: int | None) -> None:
    """Give up every right for good: become `user`, where one is given, and keep no capability. Raises OSError if that fails."""
    libc = _libc()
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
    for capability in range(64):
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break
    if user is not None:
        os.setresuid(user, user, user)
    header = ctypes.create_string_buffer(struct.pack("Ii", _CAPABILITIES_3, 0))
    _check(libc.capset(header, ctypes.create_string_buffer(24)), "capset")
    die_with_parent()  # setresuid cleared it
