"""How a training is steered from outside, and the ways in which it can end."""

import contextlib
import logging
import signal
import threading
import warnings
from collections.abc import Iterator


class Control:
    """Pause, resume and stop a training from outside, from any thread; honoured between two steps.

    A training in several processes is stopped by any of them, at the next row, and does not pause.
    """

    def __init__(self):
        self._running = threading.Event()
        self._running.set()
        self._stopped = threading.Event()

    def pause(self) -> None:
        self._running.clear()

    def resume(self) -> None:
        self._running.set()

    def stop(self) -> None:
        self._stopped.set()
        self._running.set()

    @property
    def paused(self) -> bool:
        return not self._running.is_set()

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def wait_while_paused(self) -> None:
        self._running.wait()


class Diverged(RuntimeError):
    """The loss, the gradient or the weights are no longer finite numbers."""


class Unwritable(ValueError):
    """The folder of a run takes no more."""


def way_on(run) -> str:
    return "run this again to go on" if run.path else "without `out` nothing was saved"


@contextlib.contextmanager
def writing(run) -> Iterator[None]:
    """Say in one line that a run's folder takes no more, and what is left."""
    try:
        yield
    except OSError as error:
        left = f"the checkpoint of step {run.saved_step} is whole" if run.saved_step else "there is no checkpoint yet"
        raise Unwritable(
            f"cannot write to {run.path} ({error.strerror or error}): training ends after step {run.step}, {left}; "
            "make room, then run this again to go on"
        ) from error


@contextlib.contextmanager
def stop_on_interrupt(control: Control) -> Iterator[None]:
    """In the main thread, turn an interrupt or SIGTERM into `control.stop()`; a second interrupt is one as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number, frame):
        if control.stopped and number == signal.SIGINT:
            raise KeyboardInterrupt
        control.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except ChildProcessError:
        # Whoever started the processes (torchrun, SLURM) now asks those that are left to end. This one does so by
        # itself, and would otherwise not come to say why.
        before[signal.SIGTERM] = signal.SIG_IGN
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def quiet_lightning() -> None:
    """Leave out Lightning's lines about hardware, loaders and its own products: the bar says what a learner needs."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\.pytorch")
    # Of divided weights: the logits are a view of theirs, and nobody changes them in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
