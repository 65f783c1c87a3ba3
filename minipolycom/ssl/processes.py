"""Several processes that train as one: rows gathered from all of them, batch normalisation over all of their rows.

Losses and gradients, averaged over the processes, are then those that one process has for the whole batch.
"""

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm


def gathered(rows_B: Float[Tensor, "B ..."]) -> Float[Tensor, "N ..."]:
    """The rows of all processes, in the order of their rank; gradients flow back to the process each row is from."""
    return _Gathered.apply(rows_B.contiguous())


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(context, rows: Tensor) -> Tensor:
        context.n_rows = len(rows)
        parts = [torch.empty_like(rows) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(context, gradient: Tensor) -> Tensor:
        summed = gradient.contiguous().clone()  # what the losses of all processes say of all rows
        distributed.all_reduce(summed)
        first = distributed.get_rank() * context.n_rows
        return summed[first : first + context.n_rows]


class GlobalBatchNorm(_BatchNorm):
    """Batch normalisation by the mean and variance of all processes' rows; one alone gives what torch's own gives.

    torch's SyncBatchNorm does the same on GPUs and takes no tensors of a CPU.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes after the channels will do."""

    def forward(self, x: Float[Tensor, "B C ..."]) -> Float[Tensor, "B C ..."]:
        if not self.training:
            return super().forward(x)
        axes = [0, *range(2, x.ndim)]
        per_channel = [1, -1] + [1] * (x.ndim - 2)
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            mean = gathered(wide.mean(axes)[None]).mean(0)
            centred = wide - mean.view(per_channel)
            variance = gathered(centred.square().mean(axes)[None]).mean(0)
            normalised = centred * (variance + self.eps).rsqrt().view(per_channel)
            if self.affine:
                normalised = normalised * self.weight.view(per_channel) + self.bias.view(per_channel)
        count = x.numel() // x.shape[1] * distributed.get_world_size()
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum)
        return normalised.to(x.dtype)


def train_as_one(method: nn.Module) -> None:
    """Give a method, before several processes train it, what it needs to do so as one."""
    method.gather = gathered
    for module in list(method.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                setattr(module, name, _global(child))


def _global(norm: _BatchNorm) -> GlobalBatchNorm:
    made = GlobalBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    made.to(norm.running_mean)  # its dtype and device
    made.load_state_dict(norm.state_dict())
    for own, given in zip(made.parameters(), norm.parameters(), strict=True):
        own.requires_grad_(given.requires_grad)
    return made
