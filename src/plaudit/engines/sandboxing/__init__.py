"""The processes behind `plaudit.engines.sandbox`. Nothing here imports anything beyond the standard library.

server: the template process that forks one child an execution. isolation: namespaces, the small root, dropped privileges.
seccomp: system calls that judged code may not make. child: what runs the code.
"""
