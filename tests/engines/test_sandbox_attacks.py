"""Code that means harm. The limits here are the outer ones: an attack must run into them, and the machine must not notice."""

import pytest

from plaudit.engines.sandbox import Limits, Sandbox
from tests.engines.processes import descendants, until

LIMITS = Limits(cpu_seconds=1.0, wall_seconds=3.0, memory_bytes=128 << 20, processes=8, file_bytes=1 << 20, output_bytes=20_000)


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(LIMITS, strict=False) as opened:
        missing = [name for name, guarantee in opened.guarantees().items() if not guarantee.given]
        if missing:
            pytest.skip(f"this machine cannot guarantee: {', '.join(missing)}")
        yield opened


def nothing_left(sandbox) -> bool:
    """Only the template is left below the launcher, and it works."""
    launcher = sandbox._template.pid
    return until(lambda: len(descendants(launcher)) == 1) and sandbox.run("print('alive')").stdout == "alive\n"


def test_a_fork_bomb_ends_with_its_limits(sandbox):
    done = sandbox.run("import os\nwhile True:\n  try: os.fork()\n  except OSError: pass")
    assert done.status in ("timeout", "error")
    assert nothing_left(sandbox)


def test_processes_and_threads_are_counted(sandbox):
    code = """
import os, time
made = 0
try:
    for _ in range(100):
        if os.fork() == 0:
            time.sleep(60)
        made += 1
except BlockingIOError:
    pass
print(made)
"""
    assert sandbox.run(code).stdout == f"{LIMITS.processes - 1}\n"
    assert nothing_left(sandbox)


def test_children_that_hide_are_killed_too(sandbox):
    code = """
import os, signal, time
for number in range(3):
    if os.fork() == 0:
        os.setsid()
        for sign in range(1, 65):
            try: signal.signal(sign, signal.SIG_IGN)
            except (OSError, ValueError): pass
        if os.fork() == 0:
            time.sleep(60)
        os._exit(0)
print('parent done')
"""
    done = sandbox.run(code)
    assert (done.status, done.stdout) == ("ok", "parent done\n"), "it ended with the first process, and waited for no other"
    assert nothing_left(sandbox)


@pytest.mark.parametrize(
    "code",
    [
        "x = bytearray(10**9)",
        "x = []\nwhile True: x.append(bytearray(10**6))",
        "x = 'a'\nwhile True: x += x",
        "import mmap; x = [mmap.mmap(-1, 10**7) for _ in range(100)]",
        "import os\nwhile True:\n  open(f'/tmp/{os.urandom(4).hex()}', 'wb').write(b'x' * 10**5)",
        "open('/tmp/x', 'wb').write(b'x' * 10**7)",
    ],
)
def test_memory_and_files_run_out_at_their_limit(sandbox, code):
    done = sandbox.run(code)
    assert done.status == "error", done
    assert any(word in done.detail for word in ("MemoryError", "OSError", "error", "SIGXFSZ", "SIGKILL")), done


def test_a_memory_bomb_of_many_processes(sandbox):
    code = """
import os
for _ in range(7): os.fork()
x = []
while True:
    try: x.append(bytearray(10**6))
    except MemoryError: pass
"""
    assert sandbox.run(code).status in ("timeout", "error")
    assert nothing_left(sandbox)


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "/etc/shadow", "/proc/1/environ", "/proc/self/maps", "/proc/1/mem", "/sys/kernel", "/home", "/var", __file__],
)
def test_files_outside_are_not_there(sandbox, path):
    done = sandbox.run(f"import os\nprint(os.listdir({path!r}) if os.path.isdir({path!r}) else open({path!r}).read())")
    assert done.status == "error"
    assert "FileNotFoundError" in done.detail or "NotADirectoryError" in done.detail or "PermissionError" in done.detail


def test_there_is_no_way_out_of_the_small_root(sandbox):
    escapes = """
import os
print(sorted(os.listdir('/')) == sorted(os.listdir('/../../..')))
found = [fd for fd in range(256) if fd not in (0, 1, 2, 3)]
for fd in found:
    try: print('open', fd, os.fstat(fd))
    except OSError: pass
for call in (lambda: os.chroot('/tmp'), lambda: os.mkdir('/new'), lambda: open('/lib/x', 'w'), lambda: os.setuid(0),
             lambda: os.mknod('/tmp/sda', 0o60600, os.makedev(8, 0)), lambda: os.setgroups([0]), lambda: os.nice(-5)):
    try: print('could', call())
    except OSError: pass
"""
    assert sandbox.run(escapes).stdout == "True\n"


SYSTEM_CALLS = """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for name, call in {
    'unshare': lambda: libc.unshare(0x10000000), 'mount': lambda: libc.mount(b'none', b'/tmp', b'tmpfs', 0, None),
    'setns': lambda: libc.setns(0, 0), 'ptrace': lambda: libc.ptrace(0, 0, 0, 0), 'umount': lambda: libc.umount2(b'/tmp', 2),
    'bpf': lambda: libc.syscall(321, 0, 0, 0),
    'io_uring': lambda: libc.syscall(425, 8, 0), 'keyctl': lambda: libc.syscall(250, 0),
    'clone a namespace': lambda: libc.syscall(56, 0x10000000 | 17, 0, 0, 0, 0), 'shm': lambda: libc.shmget(1, 4096, 0o1600),
    'filter off': lambda: libc.prctl(22, 0, 0, 0, 0), 'new privileges': lambda: libc.prctl(38, 0, 0, 0, 0),
    'file in memory': lambda: libc.memfd_create(b'x', 0),
    'bounding set': lambda: -1 if libc.prctl(23, 21, 0, 0, 0) == 0 else 0,
}.items():
    if call() >= 0:
        print(name)
"""


def test_system_calls_that_could_break_out_fail(sandbox):
    assert sandbox.run(SYSTEM_CALLS).stdout == ""


@pytest.mark.parametrize(
    "code",
    [
        "import socket; socket.create_connection(('127.0.0.1', 80), 1)",
        "import socket; socket.socket(socket.AF_UNIX)",
        "import socket; socket.getaddrinfo('example.org', 80)",
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1')",
        "import subprocess; subprocess.run(['/bin/sh', '-c', 'id'])",
        "import os; os.execv('/lib64/ld-linux-x86-64.so.2', ['ld'])",
    ],
)
def test_no_network_and_no_other_programs(sandbox, code):
    done = sandbox.run(code)
    assert done.status == "error"
    assert done.stdout == ""


@pytest.mark.parametrize(
    "code",
    [
        "while True: print('x' * 1000)",
        "import sys\nwhile True: sys.stderr.write('y' * 1000)",
        "import os\nwhile True: os.write(1, b'z' * 65536)",
        "import os\nif os.fork():\n  os.wait()\nwhile True: os.write(2, b'z' * 65536)",
    ],
)
def test_endless_output_is_cut_off(sandbox, code):
    done = sandbox.run(code)
    assert done.status == "refused"
    assert len(done.stdout) + len(done.stderr) <= 2 * LIMITS.output_bytes
    assert "20000 bytes" in done.detail


def test_a_flood_of_reports_is_not_read(sandbox):
    flood = "import os\nwhile True:\n  os.write(3, b'[' * 65536)"
    assert sandbox.run(flood).status == "timeout"
    with sandbox.session() as session:
        assert session.run(flood).status in ("timeout", "error")
        assert session.run("print(1)").stdout == "1\n"


@pytest.mark.parametrize(
    "said", ['{"error": null}', '{"refused": 5}', '{"error": ["a"]}', "[" * 5000, "NaN", "\\x00", '{"error": "x"}']
)
def test_a_forged_report_says_nothing_worse_than_its_own_outcome(sandbox, said):
    done = sandbox.run(f"import os; os.write(3, {said!r}.encode() + b'\\n'); os._exit(0)")
    assert done.status in ("ok", "error", "refused")


def test_signals_ignored_and_sent_to_everybody(sandbox):
    code = """
import os, signal
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
for target in (-1, 0, 1, os.getppid()):
    for sign in (signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL):
        try: os.kill(target, sign)
        except OSError: pass
while True: pass
"""
    assert sandbox.run(code).status == "timeout"
    assert nothing_left(sandbox)


def test_a_stopped_process_runs_into_the_clock(sandbox):
    done = sandbox.run("import os, signal\nif os.fork() == 0: os.kill(os.getppid(), signal.SIGSTOP)\nimport time; time.sleep(60)")
    assert done.status == "timeout"


def test_the_parent_cannot_be_written_to(sandbox):
    code = """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
class Piece(ctypes.Structure):
    _fields_ = (('base', ctypes.c_void_p), ('size', ctypes.c_size_t))
here = ctypes.create_string_buffer(8)
piece = Piece(ctypes.addressof(here), 8)
for target in {os.getppid(), 1, 2, 3}:
    print(libc.process_vm_writev(target, ctypes.byref(piece), 1, ctypes.byref(piece), 1, 0))
    for name in ('mem', 'fd/0', 'environ'):
        try: open(f'/proc/{target}/{name}', 'wb'); print('opened')
        except OSError: pass
for fd in range(3, 100):
    try: os.write(fd, b'garbage' * 100)
    except OSError: pass
"""
    done = sandbox.run(code)
    assert set(done.stdout.split()) <= {"-1"}
    assert nothing_left(sandbox)


def test_limits_cannot_be_raised(sandbox):
    code = """
import resource
for name in ('RLIMIT_AS', 'RLIMIT_NPROC', 'RLIMIT_CPU', 'RLIMIT_FSIZE', 'RLIMIT_NOFILE'):
    try: resource.setrlimit(getattr(resource, name), (resource.RLIM_INFINITY,) * 2); print(name)
    except ValueError: pass
"""
    assert sandbox.run(code).stdout == ""


def test_one_execution_cannot_leave_anything_to_the_next(sandbox):
    leave = "open('/tmp/note', 'w').write('x'); import sys, random; sys.modules['math'] = None; random.seed(5)"
    assert sandbox.run(leave).ok
    assert sandbox.run("import os, math; print(os.listdir('/tmp'), math.pi > 3)").stdout == "[] True\n"
