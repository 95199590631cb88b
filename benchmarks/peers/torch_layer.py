"""PyTorch's side of `throughline-bench --mode forward|train`.

forward  the module in inference mode.
train    forward, and backward from the given gradient of the outputs, with the gradients of all parameters and of the
         input; gradients are set to None before each run, which costs PyTorch less than zeroing them.

Equal lengths run as one padded batch, the faster way in PyTorch; others as a PackedSequence that is packed before the
clock starts.
"""

import argparse

import torch
from measuring import Written, disagreements, serve
from torch.nn.utils.rnn import PackedSequence

MODULES = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--written", required=True, metavar="FILE", help="what throughline-bench --write wrote")
    parser.add_argument("--cell", choices=MODULES, required=True)
    parser.add_argument("--mode", choices=["forward", "train"], required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--onednn", choices=["on", "off"], required=True)
    return parser.parse_args()


def set_up(threads, onednn):
    """The fastest settings of PyTorch, except for oneDNN, which may be faster or slower. Subnormal numbers are taken as
    0: gradients that vanish through time become subnormal, and processors are many times slower on those."""
    torch.set_flush_denormal(True)
    torch.set_num_threads(threads)
    torch.backends.mkldnn.set_flags(onednn == "on")


def recurrent_parameters(written, prefix=""):
    """The parameters of a stack by PyTorch's names, which `prefix` precedes in the file."""
    kinds = tuple(prefix + kind for kind in ["weight_ih_l", "weight_hh_l", "bias_ih_l", "bias_hh_l"])
    arrays = written.arrays.items()
    return {name.removeprefix(prefix): torch.from_numpy(array) for name, array in arrays if name.startswith(kinds)}


def recurrent_module(cell, parameters):
    """The module that `parameters` belong to, with their values."""
    input_weight, hidden_weight = parameters["weight_ih_l0"], parameters["weight_hh_l0"]
    layers = sum(name.startswith("weight_ih_l") and not name.endswith("_reverse") for name in parameters)
    module = MODULES[cell](
        input_weight.shape[1],
        hidden_weight.shape[1],
        num_layers=layers,
        bidirectional="weight_ih_l0_reverse" in parameters,
    )
    module.load_state_dict(parameters)
    return module


def batch_of(written, train):
    """The batch as PyTorch takes it, and the tensor in it that receives a gradient."""
    sizes, rows = (torch.tensor(written[name]) for name in ["batch_sizes", "x"])
    if sizes.min() == sizes.max():
        x = rows.reshape(len(sizes), -1, rows.shape[1]).requires_grad_(train)
        return x, x
    order = torch.tensor(written["order"])
    rows.requires_grad_(train)
    return PackedSequence(rows, sizes, order, torch.argsort(order)), rows


def rows_of(outputs):
    """[N, D·H]"""
    return outputs.data if isinstance(outputs, PackedSequence) else outputs.flatten(0, 1)


def main():
    options = parse_options()
    set_up(options.threads, options.onednn)
    written = Written(options.written)
    module = recurrent_module(options.cell, recurrent_parameters(written))
    train = options.mode == "train"
    batch, x = batch_of(written, train)

    @torch.inference_mode()
    def forward():
        return module(batch)

    def with_backward():
        module.zero_grad(set_to_none=True)
        x.grad = None
        outputs, states = module(batch)
        rows_of(outputs).backward(dy)
        return outputs, states

    run = with_backward if train else forward
    if train:
        dy = torch.tensor(written["dy"])
    else:
        module.eval()

    outputs, states = run()
    states = states if options.cell == "lstm" else (states,)
    pairs = [("y", written["y"], rows_of(outputs).detach())]
    pairs += [(name, written[name], state.detach()) for name, state in zip(["h_n", "c_n"], states)]
    if train:
        pairs += [("dx", written["dx"], x.grad.reshape(written["dx"].shape))]
        pairs += [(f"grad.{name}", written[f"grad.{name}"], p.grad) for name, p in module.named_parameters()]
    problems = disagreements(pairs)
    del written, outputs, states, pairs
    serve(run, f"PyTorch {torch.__version__}", problems)


if __name__ == "__main__":
    main()
