"""A model over flat buffers: one tensor of weights, one of BatchNorm statistics.

So the update, the EMA, the sum over shards, and the copy for a checkpoint are one operation each.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from trainer.model import ResNet, batch_norms

StateDict = dict[str, Tensor]

Heads = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From images to the logits that labels pull and those that the teacher pulls."""


class FlatNetwork:
    """A model whose weights and BatchNorm statistics are views of flat float32 tensors.

    weights: all parameters, in the model's order; with channels_last those of convolutions have channels innermost.
    running: the running statistics, for evaluation; all means, then all variances, in the model's order.
    batch_statistics: where the model's BatchNorm layers write: after a forward pass in training mode it holds the mean
        and the unbiased variance of that very batch, because their momentum is 1. Folding them into `running` is the
        step's work, over all shards at once.
    heads: how a step computes the model's logits; compiled ones may take the place of the model's own.
    """

    def __init__(self, model: ResNet, device: torch.device, *, channels_last: bool = False) -> None:
        self.model = model.to(device)
        self.heads: Heads = self.model.heads
        self._channels_last = channels_last
        parameters = list(self.model.parameters())
        self.weights = torch.empty(sum(p.numel() for p in parameters), device=device)
        for parameter, view in zip(parameters, self._views(self.weights), strict=True):
            view.copy_(parameter.detach())
        self.use_weights(self.weights)
        self._norms = dict(batch_norms(self.model))
        channels = sum(norm.num_features for norm in self._norms.values())
        self.running = torch.empty(2 * channels, device=device)
        self.set_running(self.model.state_dict())
        self.batch_statistics = torch.zeros_like(self.running)
        views = dict(self._statistics_views(self.batch_statistics))
        for name, norm in self._norms.items():
            norm.running_mean, norm.running_var = views[f"{name}.running_mean"], views[f"{name}.running_var"]
            norm.num_batches_tracked = None  # it would count forward passes, which depend on the number of ranks
            norm.momentum = 1.0
        self.model.train()

    def use_weights(self, flat: Tensor) -> None:
        """Have this flat tensor as the weights, with what is in it."""
        self.weights = flat
        for parameter, view in zip(self.model.parameters(), self._views(flat), strict=True):
            parameter.data = view

    def collect_gradients_in(self, gradients: Tensor) -> None:
        """Let backward passes add to this flat tensor, laid out as the weights."""
        for parameter, view in zip(self.model.parameters(), self._views(gradients), strict=True):
            parameter.grad = view

    def arranged(self, images: Tensor) -> Tensor:
        """Images in the memory layout that the model computes in."""
        return images.contiguous(memory_format=torch.channels_last) if self._channels_last else images

    def predict(self, images: Tensor) -> Tensor:
        """Logits in evaluation mode, normalised by the running statistics."""
        self.batch_statistics.copy_(self.running)
        self.model.eval()
        try:
            with torch.no_grad():
                return self.model(self.arranged(images))  # type: ignore[no-any-return]
        finally:
            self.model.train()

    def state_dict(self, weights: Tensor, running: Tensor, updates: int) -> StateDict:
        """The state dict of torchvision's ResNet from flat tensors, as views; `updates` counts the batches."""
        parts = self.named_weights(weights) | dict(self._statistics_views(running))
        parts |= {f"{name}.num_batches_tracked": torch.tensor(updates) for name in self._norms}
        order = [name for module in self._ordered_modules() for name in module if name in parts]
        return {name: parts[name] for name in order}

    def named_weights(self, flat: Tensor) -> StateDict:
        """Views of a flat tensor that is laid out as the weights, by parameter name."""
        return {name: view for (name, _), view in zip(self.model.named_parameters(), self._views(flat), strict=True)}

    def set_weights(self, flat: Tensor, named: StateDict) -> None:
        """Fill a flat tensor that is laid out as the weights from tensors by parameter name."""
        for name, view in self.named_weights(flat).items():
            view.copy_(named[name])

    def set_running(self, state: StateDict) -> None:
        """Set the running statistics from a state dict."""
        for name, view in self._statistics_views(self.running):
            view.copy_(state[name])

    def _ordered_modules(self) -> Iterator[list[str]]:
        """The names of each module's own tensors, as torch orders a state dict."""
        tensors = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        for name, _ in self.model.named_modules():
            yield [f"{name}.{tensor}" for tensor in tensors]

    def _views(self, flat: Tensor) -> Iterator[Tensor]:
        offset = 0
        for parameter in self.model.parameters():
            part = flat[offset : offset + parameter.numel()]
            if self._channels_last and parameter.dim() == 4:
                outputs, inputs, height, width = parameter.shape
                yield part.view(outputs, height, width, inputs).permute(0, 3, 1, 2)
            else:
                yield part.view(parameter.shape)
            offset += parameter.numel()

    def _statistics_views(self, flat: Tensor) -> Iterator[tuple[str, Tensor]]:
        offset = 0
        for kind in ("running_mean", "running_var"):
            for name, norm in self._norms.items():
                yield f"{name}.{kind}", flat[offset : offset + norm.num_features]
                offset += norm.num_features
