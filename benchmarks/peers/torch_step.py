"""PyTorch's side of `throughline-bench --mode step`: one step in inference mode, each from the states of the last.

--as module   torch.nn.LSTM, GRU or RNN on a sequence of one step.
--as cells    torch.nn.LSTMCell, GRUCell or RNNCell, layer by layer.
"""

import argparse

import torch
from measuring import Written, disagreements, serve
from torch_layer import MODULES, recurrent_module, recurrent_parameters, set_up

CELLS = {"lstm": torch.nn.LSTMCell, "gru": torch.nn.GRUCell, "rnn": torch.nn.RNNCell}


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--written", required=True, metavar="FILE", help="what throughline-bench --write wrote")
    parser.add_argument("--cell", choices=MODULES, required=True)
    parser.add_argument("--as", dest="form", choices=["module", "cells"], required=True)
    parser.add_argument("--onednn", choices=["on", "off"], required=True)
    parser.add_argument("--threads", type=int, required=True)
    return parser.parse_args()


class Module:
    """A step of the whole stack as a sequence of length 1."""

    def __init__(self, cell, parameters):
        self.module = recurrent_module(cell, parameters).eval()
        self.states = None

    def step(self, x):
        y, self.states = self.module(x.unsqueeze(0), self.states)
        return y.squeeze(0)


class Cells:
    """A step layer by layer."""

    def __init__(self, cell, parameters):
        self.cells = []
        while f"weight_ih_l{len(self.cells)}" in parameters:
            suffix = f"_l{len(self.cells)}"
            own = {name.removesuffix(suffix): p for name, p in parameters.items() if name.endswith(suffix)}
            layer = CELLS[cell](own["weight_ih"].shape[1], own["weight_hh"].shape[1]).eval()
            layer.load_state_dict(own)
            self.cells.append(layer)
        self.states = [None] * len(self.cells)

    def step(self, x):
        for layer, cell in enumerate(self.cells):
            state = cell(x, self.states[layer])
            self.states[layer] = state
            x = state[0] if isinstance(state, tuple) else state
        return x


@torch.inference_mode()
def main():
    options = parse_options()
    set_up(options.threads, options.onednn)
    written = Written(options.written)
    parameters = recurrent_parameters(written)
    stack = (Module if options.form == "module" else Cells)(options.cell, parameters)
    steps = [torch.tensor(x) for x in written["x"]]
    problems = disagreements([("y", written["y"], torch.stack([stack.step(x) for x in steps]))])
    del written, parameters
    serve(lambda: stack.step(steps[0]), f"PyTorch {torch.__version__}", problems)


if __name__ == "__main__":
    main()
