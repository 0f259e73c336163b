"""Compiles the kernels of `convlstm_triton` for GPUs that need not be here; prints what they take as JSON.

    python -m tests.modeling.network.compile_triton [CAPABILITY]

Triton brings NVIDIA's assembler, so registers, spills and shared memory are known without a GPU. Not under
TRITON_INTERPRET, which leaves nothing to compile.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from modeling.network import convlstm_triton
from modeling.network.convlstm_gpu import Layer, Plan

STATES = {"gates", "hidden", "grad_hidden", "grad_gates", "parts", "weight"}
FLOATS = {"cells", "grad_cell", "peephole"}

LAYER = Layer(3, 1, 16, 8, 16, 16, torch.bfloat16, False, torch.device("cuda"))
# The largest program of each kind: an image, a band, a few pixels, and float32.
LAYERS = {
    "image": LAYER,
    "band": LAYER._replace(hidden=32, height=32, width=32, batch=16),
    "pixels": LAYER._replace(height=4, width=4),
    "alone": LAYER._replace(kernel_size=1, hidden=24),
    "float32": LAYER._replace(kind=torch.float32),
}


def compiled(name: str, layer: Layer, capability: int) -> dict[str, object]:
    """Resources of one kernel."""
    kernel = getattr(convlstm_triton, name)
    plan = Plan.of(layer, 132)
    half, alone = layer.kind == torch.bfloat16, layer.kernel_size == 1
    constants = {
        "H": layer.hidden,
        "WIDE": plan.wide,
        "TAPS": 1 if alone else plan.taps,
        "PIXELS": plan.pixels,
        "BANDS": 1 if alone else plan.bands,
        "ALONE": alone,
        "REVERSE": False,
        "KEEP": True,
        "PEEPHOLE": False,
        "FAST": half,
        "PRECISION": "tf32" if half else "tf32x3",
    }
    constants = {key: value for key, value in constants.items() if key in kernel.arg_names}
    kinds = dict.fromkeys(STATES, "*bf16" if half else "*fp32") | dict.fromkeys(FLOATS, "*fp32")
    signature = {key: "constexpr" if key in constants else kinds.get(key, "i32") for key in kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, key in enumerate(signature) if signature[key].startswith("*")}
    source = ASTSource(kernel, signature, constants, aligned)
    found = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": plan.warps})
    return {"shared": found.metadata.shared, "tensor_cores": "mma" in found.asm["ptx"]} | usage(found.asm["cubin"])


def usage(cubin: bytes) -> dict[str, int]:
    """Registers of a thread and bytes of its stack, where registers are spilled."""
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    return {key.lower(): int(re.search(rf"{key}:(\d+)", text)[1]) for key in ("REG", "STACK")}


def main() -> None:
    """Compiles all."""
    capability = int(sys.argv[1]) if len(sys.argv) > 1 else 90
    for layer_name, layer in LAYERS.items():
        for name in ("forward", "backward"):
            sys.stdout.write(
                json.dumps({"layer": layer_name, "kernel": name} | compiled(name, layer, capability)) + "\n"
            )


if __name__ == "__main__":
    main()
