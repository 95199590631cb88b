"""PyTorch's side of `throughline-bench --maths`: elements per nanosecond on one thread, over an array that stays in the
cache. The result goes to an existing array, so that nothing is allocated.
"""

import torch
from measuring import measure, say

ELEMENTS = 4096
SECONDS = 0.5


@torch.inference_mode()
def main():
    torch.set_flush_denormal(True)
    torch.set_num_threads(1)
    torch.manual_seed(1)
    x, y = 8 * torch.rand(ELEMENTS) - 4, torch.empty(ELEMENTS)
    functions = {"exp": torch.exp, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
    rates = {}
    for name, function in functions.items():
        rates[f"{name}_per_ns"] = ELEMENTS / (measure(lambda f=function: f(x, out=y), SECONDS)["median_s"] * 1e9)
    say({"version": f"PyTorch {torch.__version__}", **rates})


if __name__ == "__main__":
    main()
