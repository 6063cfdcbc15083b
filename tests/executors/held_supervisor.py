"""A supervisor that stops itself (SIGSTOP) at a point on its way with an execution, once, and goes on when it is told to.

python -I -S -X utf8 held_supervisor.py FOLDER_OF_THE_SUPERVISOR POINT SIGN, and the supervisor's own arguments

It is the real one; the functions around the point are wrapped.  Its pid is in the file SIGN when it stands.
"""

# ruff: noqa: PTH104, PTH110, PTH123 - as in the supervisor itself, which does without pathlib

import os
import signal
import sys
import types

folder, point, sign = sys.argv[1:4]
del sys.argv[1:4]
package = types.ModuleType("jobledger_supervisor")
package.__path__ = [folder]
sys.modules[package.__name__] = package

from jobledger_supervisor import records, spawn, supervised, supervisor  # noqa: E402


def stand(here):
    if here == point and not os.path.exists(sign):
        with open(f"{sign}.new", "w") as file:
            file.write(str(os.getpid()))
        os.rename(f"{sign}.new", sign)
        os.kill(os.getpid(), signal.SIGSTOP)


def before(owner, name, here):
    inner = getattr(owner, name)

    def wrapper(*arguments, **options):
        stand(here)
        return inner(*arguments, **options)

    setattr(owner, name, wrapper)


def after(owner, name, here):
    inner = getattr(owner, name)

    def wrapper(*arguments, **options):
        result = inner(*arguments, **options)
        stand(here)
        return result

    setattr(owner, name, wrapper)


def stand_at_the_dead(reap):
    def wrapper(table):
        try:
            if os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                stand("exited")
        except ChildProcessError:
            pass
        reap(table)

    return wrapper


after(records, "claim", "claimed")
after(spawn, "spawn", "started")
before(supervised.Table, "_tell_started", "start recorded")
before(supervised.Table, "_leader_ended", "reaped")
before(supervised.Table, "_report_end", "exit recorded")
supervised.Table.reap = stand_at_the_dead(supervised.Table.reap)
sys.exit(supervisor.main())
