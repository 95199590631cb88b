"""PyTorch's side of `throughline bench`: the same options, the same figures, one JSON object.

forward  module.eval() in inference mode.
train    forward and backward of the sum of the outputs, with the gradients of all parameters and of the input;
         gradients are dropped before each run rather than zeroed, which is what costs PyTorch least.

Equal lengths run as one padded batch, the faster way in PyTorch; `--lengths` runs as a PackedSequence that is packed
before the clock starts. Sequence b of B has length MAX - (MAX - MIN) * b // (B - 1).
"""

import argparse
import json
import math
import statistics
import time

import torch
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

MODULES = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "rnn": torch.nn.RNN}
GATES = {"lstm": 4, "gru": 3, "rnn": 1}
LEAST_RUNS = 7
WARM_UP_RUNS = 3


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cell", choices=MODULES, default="lstm")
    parser.add_argument("--mode", choices=["forward", "train"], default="forward")
    parser.add_argument("--time", type=int, default=20)
    parser.add_argument("--batch", type=int, default=20)
    parser.add_argument("--input", type=int, default=200)
    parser.add_argument("--hidden", type=int, default=200)
    parser.add_argument("--layers", type=int, default=1)
    parser.add_argument("--bidirectional", action="store_true")
    parser.add_argument("--lengths", metavar="N,N,...", help="a length for each sequence, as Throughline's bench reports them; --time is not used then")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--runs", type=int, default=30, help=f"at least {LEAST_RUNS}")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def lengths_of(options):
    if options.lengths is None:
        return [options.time] * options.batch
    lengths = sorted(map(int, options.lengths.split(",")), reverse=True)
    assert len(lengths) == options.batch and lengths[-1] >= 1, "--lengths: expected --batch numbers from 1"
    return lengths


def make_input(options, lengths):
    """The batch as PyTorch takes it, and the tensor in it that receives a gradient."""
    x = torch.randn(max(lengths), options.batch, options.input)
    train = options.mode == "train"
    if options.lengths is None:
        x.requires_grad_(train)
        return x, x
    packed = pack_padded_sequence(x, lengths)
    rows = packed.data.requires_grad_(train)
    return PackedSequence(rows, packed.batch_sizes), rows


def flop(options, rows):
    """Of the products alone: 2 N G H (I + H) for each layer and direction; backward is twice forward."""
    directions = 2 if options.bidirectional else 1
    total = 0
    for layer in range(options.layers):
        inputs = options.input if layer == 0 else directions * options.hidden
        total += 2 * rows * GATES[options.cell] * options.hidden * (inputs + options.hidden) * directions
    return total * (3 if options.mode == "train" else 1)


def make_run(options, lengths):
    module = MODULES[options.cell](
        options.input, options.hidden, num_layers=options.layers, bidirectional=options.bidirectional
    )
    batch, x = make_input(options, lengths)

    @torch.inference_mode()
    def forward():
        module(batch)

    def train():
        module.zero_grad(set_to_none=True)
        x.grad = None
        outputs, _ = module(batch)
        (outputs.data if options.lengths else outputs).sum().backward()

    if options.mode == "train":
        return train
    module.eval()
    return forward


def measure(run, runs):
    """Seconds of each run, ascending."""
    for _ in range(WARM_UP_RUNS):
        run()
    seconds = []
    for _ in range(max(runs, LEAST_RUNS)):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)


def main():
    options = parse_options()
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    lengths = lengths_of(options)
    seconds = measure(make_run(options, lengths), options.runs)
    median = statistics.median(seconds)
    figures = {
        "peer": f"PyTorch {torch.__version__}",
        "cell": options.cell,
        "mode": options.mode,
        "rows": sum(lengths),
        "threads": options.threads,
        "runs": len(seconds),
        "median_s": median,
        "p90_s": seconds[math.ceil(0.9 * len(seconds)) - 1],
        "gflops": flop(options, sum(lengths)) / median / 1e9,
    }
    if options.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:>9}  {value}")


if __name__ == "__main__":
    main()
