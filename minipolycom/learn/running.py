"""Run a learner's function: its result, its exception with the learner's own line, or a stop after a stated time.

The call runs in a thread of its own, so it can be left behind from a notebook's main thread and from any other. When
its time is up, an exception is raised inside it, and raised again wherever it is caught, so that `except:` in a loop
does not hold it off. Python delivers it between two of its instructions, so one long operation in C (a huge product,
`time.sleep`) is not interrupted: then the caller goes on, the operation goes on in the background, and the result says
so. A C operation that never lets go of the interpreter (`10**10**10`) cannot be stopped by any of this.
"""

import contextlib
import contextvars
import ctypes
import dis
import functools
import inspect
import linecache
import os
import sys
import sysconfig
import threading
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

TIME_LIMIT = 10.0
"""Seconds that one call of a learner's function may take."""

GRACE = 2.0
"""Seconds that a call has for ending once it is stopped, before it is left to run on in the background."""


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line of the learner's code: `where` is "line 3 of your cell"."""

    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.where}: `{self.text}`" if self.text else self.where


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What one call came to: a value, an error, or a stop (`timed_out`; `left_running` if it could not be ended)."""

    value: object = None
    error: BaseException | None = None
    line: Line | None = None
    timed_out: bool = False
    left_running: bool = False

    @property
    def returned(self) -> bool:
        return self.error is None and not self.timed_out


def run(function: Callable, args: tuple, seconds: float | None = None) -> Ran:
    """Call function(*args) in a thread and wait at most `seconds` (TIME_LIMIT when None)."""
    box: dict[str, object] = {}
    done = threading.Event()  # Thread.join will not do: interrupted, it takes a running thread for an ended one
    context = contextvars.copy_context()  # a notebook sends what is printed to the cell that is named in it

    def work() -> None:
        call_off = functools.partial(_raise_in_thread, ctypes.c_ulong(threading.get_ident()), None)
        try:
            box["value"] = context.run(function, *args)
        except BaseException as error:
            call_off()  # before any other step, at which the next would be raised
            box["error"] = error
        finally:
            done.set()

    thread = threading.Thread(target=work, name="learner's code", daemon=True)
    thread.start()
    try:
        done.wait(TIME_LIMIT if seconds is None else seconds)
    except BaseException:  # the learner interrupts the cell: what runs in it ends too
        _stop(thread, done)
        raise
    if not done.is_set():
        line = _current_line(thread)
        return Ran(timed_out=True, line=line, left_running=not _stop(thread, done))
    if "error" in box:
        return Ran(error=box["error"], line=_raising_line(box["error"]))
    return Ran(value=box.get("value"))


def raised_on_purpose(error: BaseException) -> bool:
    """Whether a `raise` statement of the learner's raised it, rather than an operation or a library that failed."""
    trace = error.__traceback__
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    if not _is_learners(trace.tb_frame.f_code.co_filename):
        return False
    at = {instruction.offset: instruction.opname for instruction in dis.get_instructions(trace.tb_frame.f_code)}
    return at.get(trace.tb_lasti) == "RAISE_VARARGS"


def is_empty(function: object) -> bool:
    """Whether a function's body does nothing: `...`, `pass`, a docstring, `return None`."""
    if not isinstance(function, types.FunctionType) or function.__code__.co_flags & inspect.CO_GENERATOR:
        return False
    nothing = {"RESUME", "NOP", "LOAD_CONST", "RETURN_VALUE", "RETURN_CONST", "POP_TOP"}
    instructions = list(dis.get_instructions(function))
    constants = {instruction.argval for instruction in instructions if instruction.opname.endswith("_CONST")}
    return {instruction.opname for instruction in instructions} <= nothing and constants <= {None, ...}


_raise_in_thread = ctypes.pythonapi["PyThreadState_SetAsyncExc"]  # a function object of our own: its result type is set
_raise_in_thread.restype = None


def _stop(thread: threading.Thread, done: threading.Event) -> bool:
    """Raise in the thread until it is done; False if it is not after GRACE seconds."""

    class Stopped(SystemExit):  # which a thread may end with silently
        pass

    once = functools.partial(_raise_in_thread, ctypes.c_ulong(thread.ident), ctypes.py_object(Stopped))
    with _raised_again(Stopped, thread.ident, once):
        once()
        return done.wait(GRACE)


@contextlib.contextmanager
def _raised_again(stopped: type[SystemExit], thread: int, once: Callable) -> Iterator[None]:
    """Meanwhile, whoever catches the exception in that thread gets it again."""
    if sys.version_info < (3, 12):
        # Catching it makes an instance, and that orders the next. A Python function could not: it would be hit itself.
        stopped.__init__ = staticmethod(once)
        yield
        return

    def raise_at_line(code: types.CodeType, _line: int) -> None:
        if threading.get_ident() == thread and _is_learners(code.co_filename):
            raise stopped

    monitoring, tool = sys.monitoring, 4  # a number that Python leaves free
    if monitoring.get_tool(tool) is not None:  # taken, perhaps by another call that is being stopped: once must do
        yield
        return
    monitoring.use_tool_id(tool, "minipolycom")
    monitoring.register_callback(tool, monitoring.events.LINE, raise_at_line)
    monitoring.set_events(tool, monitoring.events.LINE)
    try:
        yield
    finally:
        monitoring.set_events(tool, 0)
        monitoring.register_callback(tool, monitoring.events.LINE, None)
        monitoring.free_tool_id(tool)


def _current_line(thread: threading.Thread) -> Line | None:
    frame = sys._current_frames().get(thread.ident)
    while frame is not None:
        if _is_learners(frame.f_code.co_filename):
            return _line(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return None


def _raising_line(error: BaseException) -> Line | None:
    found, trace = None, error.__traceback__
    while trace is not None:
        if _is_learners(trace.tb_frame.f_code.co_filename):
            found = _line(trace.tb_frame.f_code.co_filename, trace.tb_lineno)
        trace = trace.tb_next
    return found


def _line(filename: str, number: int) -> Line:
    in_notebook = "ipykernel" in filename or "ipython-input" in filename  # as JupyterLab and Colab name a cell
    place = "your cell" if in_notebook else Path(filename).name
    return Line(where=f"line {number} of {place}", text=linecache.getline(filename, number).strip())


_LIBRARIES = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
_NOT_THE_LEARNERS = (
    *(f"{folder}{os.sep}" for folder in (Path(__file__).parent.parent, *_LIBRARIES)),
    "<frozen",
    "<__array_function__",
)


def _is_learners(filename: str) -> bool:
    return not filename.startswith(_NOT_THE_LEARNERS)
