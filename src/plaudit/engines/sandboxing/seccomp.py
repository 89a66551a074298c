"""A filter of system calls, installed in a process before judged code runs in it; it cannot be taken off again."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

NEEDS_NAMESPACES = 0x7E020000 | 0x80
"""Flags of clone that make namespaces (user, pid, net, ipc, uts, mount, cgroup, time)."""
DENIED: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (
        0xC000003E,
        {
            "socket": 41, "connect": 42, "execve": 59, "execveat": 322, "ptrace": 101, "process_vm_readv": 310,
            "process_vm_writev": 311, "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "unshare": 272,
            "setns": 308, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
            "mount_setattr": 442, "open_by_handle_at": 304, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323,
            "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "keyctl": 250, "add_key": 248,
            "request_key": 249, "kexec_load": 246, "init_module": 175, "finit_module": 313, "personality": 135,
            "memfd_create": 319, "mq_open": 240, "shmget": 29, "msgget": 68, "semget": 64, "pidfd_getfd": 438,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "socket": 198, "connect": 203, "execve": 221, "execveat": 281, "ptrace": 117, "process_vm_readv": 270,
            "process_vm_writev": 271, "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "unshare": 97,
            "setns": 268, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432,
            "mount_setattr": 442, "open_by_handle_at": 265, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282,
            "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "keyctl": 219, "add_key": 217,
            "request_key": 218, "kexec_load": 104, "init_module": 105, "finit_module": 273, "personality": 92,
            "memfd_create": 279, "mq_open": 180, "shmget": 194, "msgget": 186, "semget": 190, "pidfd_getfd": 438,
        },
    ),
}  # fmt: skip
"""Machine -> (its audit number, number of every system call that is refused by name)."""
_CLONE = {"x86_64": 56, "aarch64": 220}
_CLONE3 = 435
_X32 = 0x40000000

_LOAD, _JEQ, _JGE, _JSET, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _PR_GET_SECCOMP, _MODE_FILTER = 38, 22, 21, 2


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)


def program(machine: str) -> bytes:
    """The filter as classic BPF: another machine's calls kill, the denied ones give EPERM, clone3 ENOSYS (the C library then uses
    clone, whose flags can be read). Raises KeyError for a machine without a table."""
    audit, denied = DENIED[machine]
    refuse = _instruction(_RETURN, _ERRNO | errno.EPERM)
    parts = [
        _instruction(_LOAD, 4),
        _instruction(_JEQ, audit, 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, 0),
        _instruction(_JGE, _X32, 0, 1),
        refuse,
    ]
    for number in denied.values():
        parts += [_instruction(_JEQ, number, 0, 1), refuse]
    parts += [_instruction(_JEQ, _CLONE3, 0, 1), _instruction(_RETURN, _ERRNO | errno.ENOSYS)]
    parts += [_instruction(_JEQ, _CLONE[machine], 0, 3), _instruction(_LOAD, 16)]
    parts += [_instruction(_JSET, NEEDS_NAMESPACES, 0, 1), refuse]
    return b"".join([*parts, _instruction(_RETURN, _ALLOW)])


def available() -> bool:
    """Whether this machine has a table and this kernel takes filters."""
    if os.uname().machine not in DENIED:
        return False
    return bool(ctypes.CDLL(None).prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) >= 0)


def no_new_privileges() -> bool:
    """From now on no program can give this process or its children more rights than it has."""
    return bool(ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0)


def install() -> None:
    """Put the filter on this process and all that it will start. Raises OSError if the kernel refuses it."""
    code = program(os.uname().machine)
    buffer = ctypes.create_string_buffer(code, len(code))
    given = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    if not no_new_privileges() or libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(given), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the kernel takes no filter of system calls")
