"""Contender of `benchmarks.convlstm` on PyTorch, in its own process.

python -m benchmarks.convlstm_torch KIND DEVICE {wall,cpu} THREADS CASE_AS_JSON
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from benchmarks.convlstm_cases import CLOCKS, Case, serve
from benchmarks.convlstm_naive import naive
from modeling.network.compile_c import keep_freed_memory
from modeling.network.convlstm import ConvLSTM, default_precision

Forward = Callable[[Tensor], Tensor]


def naive_layers(case: Case, device: torch.device) -> tuple[Forward, list[nn.Parameter]]:
    """The layers as plain loops."""
    layers = [[nn.Parameter(torch.from_numpy(a).to(device)) for a in layer] for layer in case.weights()]

    def forward(x_TBCYX: Tensor) -> Tensor:
        for weight, bias in layers:
            x_TBCYX = naive(x_TBCYX, weight, bias, stride=case.stride)
        return x_TBCYX

    return forward, [a for layer in layers for a in layer]


def our_layers(case: Case, device: torch.device) -> tuple[nn.Module, list[nn.Parameter]]:
    """The layers of `modeling.network.convlstm` with the same weights."""
    layers = []
    for weight, bias in case.weights():
        channels = weight.shape[1] - len(bias) // 4
        layer = ConvLSTM(channels, len(bias) // 4, stride=case.stride)
        of_input, of_state = torch.from_numpy(weight).split([channels, len(bias) // 4], dim=1)
        layer.load_state_dict(
            {"of_input.weight": of_input, "of_input.bias": torch.from_numpy(bias), "of_state.weight": of_state}
        )
        layers.append(layer)
    model = nn.Sequential(*layers).to(device)
    return model, list(model.parameters())


def precision_of(kind: str, device: torch.device) -> AbstractContextManager[object]:
    """Autocast to bf16 for the contenders that use it."""
    wanted = default_precision(device) == torch.bfloat16 if kind in ("ours", "ours-graphs") else kind.endswith("-bf16")
    return torch.autocast(device.type, torch.bfloat16) if wanted else nullcontext()


def main() -> None:
    """Runs one contender: naive, naive-memory, naive-bf16, ours, ours-fp32, ours-operations, ours-graphs."""
    kind, device, case = sys.argv[1], torch.device(sys.argv[2]), Case.from_json(sys.argv[5])
    clock = CLOCKS[sys.argv[3]]
    torch.set_num_threads(int(sys.argv[4]))
    if kind == "naive-memory":
        keep_freed_memory()
    x = torch.from_numpy(case.sequence()).to(device).requires_grad_()
    forward, parameters = (naive_layers if kind.startswith("naive") else our_layers)(case, device)
    if kind == "ours-graphs":
        with precision_of(kind, device):
            forward = torch.cuda.make_graphed_callables(forward, (x,))
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None

    def step() -> float:
        for a in (x, *parameters):
            a.grad = None
        wait()
        start = clock()
        with precision_of(kind, device):
            loss = forward(x).float().square().mean()
        loss.backward()
        wait()
        check["loss"] = loss.item()
        return clock() - start

    check: dict[str, float] = {}
    step()
    assert x.grad is not None
    check["grad"] = x.grad.norm().item()
    serve(check, step)


if __name__ == "__main__":
    main()
