"""One training in several processes: which share of the work each takes, who writes, and what happens when one is lost.

Lightning starts the processes and lets them talk; here is only what it leaves open. With torchrun or SLURM, which start
the processes themselves, a training goes over many machines:

    torchrun --nnodes 2 --nproc_per_node 8 ... -m minipolycom.cli train --devices 8 --num-nodes 2
"""

import contextlib
import os
import re
import sys
import threading
from subprocess import Popen

import lightning as L
import torch
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

STRATEGIES = ("auto", "ddp", "fsdp")
GRACE = 20.0
"""Seconds that a process has to notice by itself that another one is gone, before it is ended."""
NEWS = 2.0
"""Seconds in which a process that a connection was lost to is seen to have ended."""
SEVERED = r"Connection (closed|reset|refused)|gloo|NCCL|ProcessGroup|Broken pipe"
"""What the libraries of the processes' talk say where it is cut."""


def is_first(n_processes: int) -> bool:
    """Whether this process is the one that writes and speaks."""
    # Alone, it is, whatever the environment says: SLURM numbers the tasks of a sweep too.
    return n_processes == 1 or rank_zero_only.rank == 0


def check_processes(devices: int, num_nodes: int, accelerator: str) -> None:
    """Raise ValueError unless so many processes are running, or can be started from here."""
    n_processes = devices * num_nodes
    if accelerator == "cuda" and devices > torch.cuda.device_count():
        raise ValueError(f"devices={devices}, and this machine has {torch.cuda.device_count()} GPUs")
    if torch.distributed.is_torchelastic_launched():
        started = int(os.environ["WORLD_SIZE"])
        if started != n_processes:
            raise ValueError(
                f"torchrun started {started} processes, and devices * num_nodes is {devices} * {num_nodes}: "
                "set both as for torchrun (nproc_per_node, nnodes)"
            )
        return
    if num_nodes > 1 and not SLURMEnvironment.detect():
        raise ValueError(
            f"num_nodes={num_nodes}: the processes of many machines are started by torchrun or SLURM, for example "
            f"torchrun --nnodes {num_nodes} --nproc_per_node {devices} ... -m minipolycom.cli train ..."
        )
    if n_processes > 1 and (hasattr(sys, "ps1") or not hasattr(sys.modules["__main__"], "__file__")):
        raise ValueError(
            f"devices={devices} starts this program again in {devices} processes, and a notebook is not a program: "
            f"use one device here, or the command line: minipolycom train --devices {devices} ..."
        )


def make_strategy(name: str, n_processes: int) -> Strategy | str:
    """Lightning's strategy for an entry of STRATEGIES.

    ddp: each process has the whole model, gradients are averaged. fsdp: weights, gradients and optimizer state are
    divided among the processes (torch's `fully_shard`), and a checkpoint is put together again.
    """
    if n_processes == 1:
        return "auto"
    if name == "fsdp":
        return ModelParallelStrategy(
            data_parallel_size=n_processes, tensor_parallel_size=1, save_distributed_checkpoint=False
        )
    return DDPStrategy()


def shard(gpt: nn.Module, mesh) -> None:
    """Divide a model among the processes of a mesh, block by block; forward and backward gather one block at a time."""
    from torch.distributed.fsdp import fully_shard

    for block in gpt.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(gpt, mesh=mesh)


def here(tensor: Tensor) -> Tensor:
    """The part of a tensor that is in this process: all of it, unless it is divided."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """A tensor put together from its parts in all processes."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def full_weights(trainer: L.Trainer) -> dict[str, Tensor]:
    """The weights of what is trained, put together; where they are divided, in the first process only.

    They go by their names in the network, the one child of the LightningModule.
    """
    weights = trainer.strategy.lightning_module_state_dict()
    return {name.partition(".")[2]: weight for name, weight in weights.items()}


class Workers(L.Callback):
    """Watches the processes that Lightning started from this one.

    One that ends badly would leave the others waiting for it. Most notice by a connection that is closed; those that
    do not are ended after GRACE seconds.
    """

    def __init__(self):
        self.over = threading.Event()
        self.processes: list[Popen] = []
        self.lost = ""
        self.noticed = threading.Event()

    def setup(self, trainer: L.Trainer, module: L.LightningModule, stage: str) -> None:
        self.processes = getattr(trainer.strategy.launcher, "procs", [])
        for rank, process in enumerate(self.processes, start=1):
            threading.Thread(target=self.watch, args=(rank, process), daemon=True).start()

    def watch(self, rank: int, process: Popen) -> None:
        code = process.wait()
        if code == 0 or self.over.is_set():
            return
        self.lost = f"process {rank} " + (f"was killed by signal {-code}" if code < 0 else f"ended with code {code}")
        self.noticed.set()
        # Lightning looks at this list now and then, and would kill this process too, without a word.
        with contextlib.suppress(ValueError):
            self.processes.remove(process)
        if not self.over.wait(GRACE):
            print(f"minipolycom: {self.lost}, and the others wait for it: training ends", file=sys.stderr, flush=True)
            self.end_others()
            os._exit(1)

    def wait_for_news(self) -> None:
        """Where a connection is cut: what is at its other end is closed first and counts as ended a little later."""
        if self.processes and not self.lost:
            self.noticed.wait(NEWS)

    def end_others(self) -> None:
        others, self.processes[:] = list(self.processes), []
        for process in others:
            process.kill()


def is_severed(error: BaseException) -> bool:
    """Whether an error says that another process can no longer be reached."""
    return isinstance(error, RuntimeError) and re.search(SEVERED, str(error)) is not None
