#!/usr/bin/env python3
"""Compares Throughline with PyTorch and ONNX Runtime on this machine and writes a record.

    python3 benchmarks/run.py                 everything, about an hour
    python3 benchmarks/run.py --quick         less of everything, about 8 minutes
    python3 benchmarks/run.py --only a,h      some shapes; also steps, ragged, models (or one by name), maths

Needs Python 3.11 and cargo. The first run makes benchmarks/.venv and installs requirements.txt there (PyTorch is
large); throughline-bench is built unless --bench names it. The shapes are in shapes.py, the peers in peers/.
"""

import argparse
import datetime
import hashlib
import math
import os
import shlex
import signal
import statistics
import subprocess
import sys
import venv
from dataclasses import replace
from itertools import product
from pathlib import Path

import shapes
from comparison import OUR_STEP, PATIENCE, Failure, Ours, PeerCommand, Settings, alternate, answer_of, compare
from record import Record, tell

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
CELLS = ["lstm", "gru", "rnn"]
MODES = ["forward", "train"]
SECTIONS = ["steps", "ragged", "models", "maths"]
MILLISECOND, MICROSECOND = 1e-3, 1e-6
SWITCH = {"on": "oneDNN", "off": "native"}
RATES = {f"{function}_per_ns": float for function in ["exp", "tanh", "sigmoid"]}

METHOD = """\
Throughline and its peers take turns, round after round. The figure of a round is the median of the runs that fit into
{seconds} s (at least 3, or 2 of a peer whose runs take more than 4 s) after at least one that does not count; the table
has the medians over up to {rounds} rounds, fewer where a row is slow. A ratio is the time of the peer / that of
Throughline within a round: **above 1, Throughline is faster** (older records have it the other way round). The first
ratio of a row is against the best peer of each round, with its range over the rounds; the median ratio against each
peer is in brackets after its time. A peer that takes more than twice as long as the best one in two rounds in a row
sits out the remaining rounds.

Before anything is timed, each peer computes from the parameters and data that Throughline wrote, and its results are
compared, tensor by tensor: max |a - b| must be at most 1e-4 max(1, max |b|), of gradients 1e-4 max |b| + 1e-7.

Each measurement of Throughline is a new process, in which runs are timed in blocks of at least 5 ms, and those of less
than 20 ms after one that is not timed; peers run as long as their row and sleep while others are measured. *Peak* is
the share of the peak rate of fused multiply-adds on the same threads, measured between the runs. *MiB* is the peak
memory of a process: ours, from start to end, then the peers in order, while they were timed (with Python and their
libraries). PyTorch runs eagerly, without torch.compile, with oneDNN and without ("native"). ONNX Runtime has no
training. Both take subnormal numbers as 0."""


def positive(kind):
    """An argparse type: a number of this kind above 0."""
    name = {int: "whole number", float: "finite number"}[kind]

    def read(text):
        try:
            value = kind(text)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            raise argparse.ArgumentTypeError(f"expected a {name} above 0, found {text!r}")
        return value

    return read


def program(text):
    path = os.path.realpath(text)
    if not (os.path.isfile(path) and os.access(path, os.R_OK | os.X_OK)):
        raise argparse.ArgumentTypeError(f"expected an executable file that can be read, found {text!r}")
    return Path(path)


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer shapes, cells and rounds")
    names = [layer.name for layer in shapes.LAYERS] + SECTIONS + shapes.MODELS
    parser.add_argument("--only", metavar="NAME,...", help=f"of {', '.join(names)}")
    parser.add_argument("--cells", nargs="+", choices=CELLS)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--threads", nargs="+", type=positive(int), default=[1, 2])
    parser.add_argument("--pairs", type=positive(int), help="rounds [default: 5, quick 3]")
    seconds_help = "of each measurement in a round [default: 0.5, quick 0.2]"
    parser.add_argument("--seconds", type=positive(float), help=seconds_help)
    parser.add_argument("--bench", type=program, help="throughline-bench, built with --release [default: build it]")
    default = HERE / "records" / f"{datetime.date.today()}-speed.md"
    parser.add_argument("--out", type=Path, default=default, help="the record [default: records/DATE-speed.md]")
    options = parser.parse_args()
    if options.pairs is None:
        options.pairs = 3 if options.quick else 5
    if options.seconds is None:
        options.seconds = 0.2 if options.quick else 0.5
    if options.only is not None:
        options.only = options.only.split(",")
        unknown = [name for name in options.only if name not in names]
        if unknown:
            found = ", ".join(map(repr, unknown))
            parser.error(f"--only: expected some of {', '.join(names)}, found {found}")
    if os.path.lexists(options.out) and options.out != default:
        parser.error(f"--out: {options.out} exists; records are not overwritten, give another name")
    try:
        Record(options.out).discard()
    except OSError as error:
        parser.error(f"--out: no record can be written there: {error}")
    return options


def main():
    options = parse_options()
    end_at_signals()
    settings = Settings(
        bench=build() if options.bench is None else options.bench,
        python=environment(),
        rounds=options.pairs,
        seconds=options.seconds,
        row_seconds=10 if options.quick else 30,
    )
    given = None if options.bench is None else identity(options.bench)
    record = Record(options.out)
    command = f"python3 benchmarks/run.py {shlex.join(sys.argv[1:])}".rstrip()
    versions, cut_short = set(), None
    try:
        record.head(command, METHOD.format(seconds=settings.seconds, rounds=settings.rounds), given)
        for table in (layers, steps, ragged, models, maths):
            table(options, settings, record, versions)
    except KeyboardInterrupt:
        cut_short = "Interrupted"
    except BaseException as error:
        cut_short = f"Ended by an error, {type(error).__name__}"
        raise
    finally:
        finish(record, versions, settings.isa, cut_short)
    tell(f"\nwritten to {record.path}", sys.stderr)
    sys.exit(130 if cut_short else min(record.failures, 1))


def end_at_signals():
    """Makes SIGTERM and SIGHUP (`timeout`, a closed terminal) end a run as Ctrl-C does: what was measured is kept.
    Later signals are ignored. Signals that are ignored already, as under nohup, stay ignored."""
    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    numbers = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]

    def interrupt(*_):
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, interrupt)


def finish(record, versions, isa, cut_short):
    """Ends the record; `cut_short` says why the run ended early, if it did."""
    try:
        measured = {"Throughline": isa, "Peers": versions}
        record.lines("", *(f"{who}: {', '.join(sorted(found)) or 'none'}." for who, found in measured.items()))
        if cut_short:
            record.lines("", f"**{cut_short}: the tables hold what was measured until then.**")
        if record.failures:
            record.lines("", f"**Rows that failed: {record.failures}.**")
    finally:
        record.finish()


def build():
    """Builds the program and returns its path."""
    subprocess.run(["cargo", "build", "--release", "--locked", "-p", "throughline-bench"], cwd=ROOT, check=True)
    return ROOT / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "throughline-bench"


def identity(path):
    """The path of a program in the repository; its name and digest if it is elsewhere."""
    if path.is_relative_to(ROOT):
        return path.relative_to(ROOT)
    return f"{path.name}, sha256 {hashlib.sha256(path.read_bytes()).hexdigest()}"


def environment():
    """The Python of the virtual environment, after installing requirements.txt if that has changed."""
    folder, wanted = HERE / ".venv", (HERE / "requirements.txt").read_text()
    python, installed = folder / "bin" / "python", folder / "installed.txt"
    if not installed.exists() or installed.read_text() != wanted:
        tell(f"installing benchmarks/requirements.txt into {folder}", sys.stderr)
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", "-r", HERE / "requirements.txt"], check=True)
        installed.write_text(wanted)
    return python


def chosen(options, name, quick=True):
    """Whether to measure `name`; `quick`: whether --quick includes it."""
    return name in options.only if options.only else quick or not options.quick


def torch_peers(script, *more, prefix="PyTorch"):
    """PyTorch with oneDNN and without."""
    return [PeerCommand(f"{prefix} {SWITCH[switch]}", script, [*more, "--onednn", switch]) for switch in SWITCH]


def in_units(figures, unit, ratio=None):
    """The time of `figures` in `unit` seconds, followed by a ratio if there is one."""
    behind = "" if ratio is None else f" ({ratio:.2f})"
    return f"{figures['median_s'] / unit:.4g}{behind}"


def percent(share):
    return f"{share * 100:.0f} %"


def spread(ratios):
    return f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f} to {max(ratios):.2f})"


def memory(row):
    return " / ".join(f"{figures['peak_rss_mib']:.0f}" for figures in [row.ours, *row.peers.values()])


def peer_cells(row, names, unit=MILLISECOND):
    """The time of each of `names` with the ratio to ours; empty for a peer that was not run."""
    return [in_units(row.peers[name], unit, row.peer_ratios[name]) if name in row.peers else "" for name in names]


def layers(options, settings, record, versions):
    wanted = [layer for layer in shapes.LAYERS if chosen(options, layer.name, layer.name in shapes.QUICK_LAYERS)]
    if not wanted:
        return
    peers = ["PyTorch oneDNN", "PyTorch native", "ONNX Runtime"]
    columns = ["shape", "cell", "mode", "threads", "ratio (range)", "best peer", "Throughline ms", "peak"]
    columns += [*(f"{peer} ms" for peer in peers), "MiB"]
    text = """\
forward: inference, weights packed before. train: forward and backward from a given gradient of the outputs, with the
gradients of all parameters and of the input. Shapes of one length are one batch `[T, B, I]`; those of several are
packed for us, a PackedSequence for PyTorch, and padded with lengths for ONNX Runtime."""
    record.section("Recurrent stacks", text, columns, columns[3:5] + columns[6:])
    for layer in wanted:
        cells = options.cells or (shapes.QUICK_CELLS if options.quick else CELLS)
        if layer.name == shapes.LSTM_ONLY and options.cells is None:
            cells = ["lstm"]
        for cell, mode, threads in product(cells, options.modes, options.threads):

            def commands(path):
                common = ["--written", path, "--cell", cell, "--mode", mode, "--threads", threads]
                onnx = [PeerCommand("ONNX Runtime", "onnx_rnn.py", common)] if mode == "forward" else []
                return [*torch_peers("torch_layer.py", *common), *onnx]

            about = [layer.title(), cell, mode, threads]
            try:
                bench = ["--cell", cell, "--mode", mode, *layer.options()]
                row = compare(settings, bench, commands, threads, versions)
            except Failure as failure:
                record.failed(len(columns), failure, *about)
                continue
            ours = [in_units(row.ours, MILLISECOND), percent(row.ours["peak_share"])]
            record.row(*about, spread(row.ratios), row.best, *ours, *peer_cells(row, peers), memory(row))


def steps(options, settings, record, versions):
    if not chosen(options, "steps"):
        return
    modules = torch_peers("torch_step.py", prefix="PyTorch module")
    cells_of = torch_peers("torch_step.py", prefix="PyTorch cells")
    peers = [peer.name for peer in modules + cells_of] + ["ONNX Runtime"]
    columns = ["streams and sizes", "cell", "ratio (range)", "best peer", "Throughline µs", "peak", "bandwidth"]
    columns += [*(f"{peer} µs" for peer in peers), "MiB"]
    text = """\
One step at a time, each from the states of the last, on one thread. PyTorch in inference mode, as a module with
sequences of length 1 and as cells; ONNX Runtime with a model of one step. The peers' times include the overhead of a
call from Python. *Bandwidth*: the bytes of the weights over the time of a step, as a share of the speed at which the
same thread reads so many bytes again and again."""
    record.section("Streaming steps", text, columns, [columns[2], *columns[4:]])
    wanted = shapes.QUICK_STEPS if options.quick else shapes.STEPS
    for step, cell in product(wanted, options.cells or (["lstm"] if options.quick else CELLS)):

        def commands(path):
            common = ["--written", path, "--cell", cell, "--threads", 1]
            found = [PeerCommand("ONNX Runtime", "onnx_rnn.py", [*common, "--mode", "step"])]
            for form in ("cells", "module"):
                found = torch_peers("torch_step.py", *common, "--as", form, prefix=f"PyTorch {form}") + found
            return found

        about = [step.title(), cell]
        try:
            row = compare(settings, ["--cell", cell, *step.options()], commands, 1, versions, OUR_STEP)
        except Failure as failure:
            record.failed(len(columns), failure, *about)
            continue
        # Many streams share the weights, so reading them is not the limit.
        bandwidth = percent(row.ours["bandwidth_share"]) if step.batch == 1 else ""
        ours = [in_units(row.ours, MICROSECOND), percent(row.ours["peak_share"]), bandwidth]
        record.row(*about, spread(row.ratios), row.best, *ours, *peer_cells(row, peers, MICROSECOND), memory(row))


def ragged(options, settings, record, versions):
    if not chosen(options, "ragged"):
        return
    layer = shapes.RAGGED
    columns = ["cell", "mode", "threads", "cost of a real row (range)", "rows", "ragged ms", "dense rows", "dense ms"]
    text = f"""\
Throughline alone: lengths {layer.lengths} against sequences that all have the mean length,
B {layer.batch}, I {layer.input}, H {layer.hidden}, bidirectional. The cost is the time for each real row of the ragged
batch over that of the dense one: at 1 raggedness costs nothing."""
    record.section("A ragged batch against a dense one", text, columns, columns[2:])
    for cell, mode, threads in product(options.cells or ["lstm"], options.modes, options.threads):
        common = ["--cell", cell, "--mode", mode, "--threads", threads]
        try:
            one, other, ratios = ragged_and_dense(settings, layer, common)
        except Failure as failure:
            record.failed(len(columns), failure, cell, mode, threads)
            continue
        figures = [figure for side in (one, other) for figure in (side["rows"], in_units(side, MILLISECOND))]
        record.row(cell, mode, threads, spread(ratios), *figures)


def ragged_and_dense(settings, layer, common):
    drawn = Ours(settings, [*common, *layer.options()]).bench("--runs", 3, "--warm-up", 0)
    dense = replace(layer, time=round(drawn["rows"] / layer.batch), lengths=None)
    return alternate(settings, [*common, *layer.options()], [*common, *dense.options()])


def models(options, settings, record, versions):
    all_models = shapes.QUICK_MODELS if options.quick else shapes.MODELS
    wanted = all_models if chosen(options, "models") else [name for name in shapes.MODELS if chosen(options, name)]
    if not wanted:
        return
    names = ["PyTorch oneDNN", "PyTorch native", "padded oneDNN", "padded native"]
    columns = ["model", "threads", "ratio (range)", "best peer", "Throughline ms", "peak"]
    columns += [*(f"{name} ms" for name in names), "MiB"]
    text = """\
Packing, embedding, recurrent stack, head, loss, backward pass, clipping if the model has it, optimiser. PyTorch's
optimiser is the foreach or the fused one, whichever is faster in the same process. Loss, all gradients before clipping
and the parameters after the step are checked; after Adam only where rounding cannot decide the sign of the gradient.
Throughline learns from tokens and targets that are new in every run and drawn outside the timing; PyTorch learns from
one batch again and again. The classifier reads sequences of 50 to 200 steps: PyTorch sorted and packed; and padded, the
directions as two modules, because the reverse one of a bidirectional module begins on padding."""
    record.section("Whole training steps", text, columns, [*columns[1:3], *columns[4:]])
    for model, threads in product(wanted, options.threads):

        def commands(path):
            common = ["--written", path, "--model", model, "--threads", threads]
            found = torch_peers("torch_model.py", *common)
            if model == "classifier":
                found += torch_peers("torch_model.py", *common, "--padded", prefix="padded")
            return found

        try:
            row = compare(settings, ["--model", model], commands, threads, versions)
        except Failure as failure:
            record.failed(len(columns), failure, model, threads)
            continue
        ours = [in_units(row.ours, MILLISECOND), percent(row.ours["peak_share"])]
        record.row(model, threads, spread(row.ratios), row.best, *ours, *peer_cells(row, names), memory(row))


def maths(options, settings, record, versions):
    if not chosen(options, "maths"):
        return
    columns = ["function", "ratio (range)", "Throughline", "PyTorch"]
    text = """\
Elements per nanosecond over 4096 numbers that stay in the cache, on one thread. PyTorch's times include the overhead of
a call from Python."""
    record.section("Elementary functions", text, columns, columns[1:])
    ours, theirs = [], []
    torch = [settings.python, HERE / "peers" / "torch_maths.py"]
    try:
        for _ in range(settings.rounds):
            ours.append(Ours(settings, ["--maths"], RATES | {"isa": str}).bench())
            theirs.append(answer_of("PyTorch", torch, RATES | {"version": str}, PATIENCE))
    except Failure as failure:
        record.failed(len(columns), failure, "all")
        return
    versions.add(theirs[0]["version"])
    for rate in RATES:
        rates = [[figures[rate] for figures in side] for side in (ours, theirs)]
        ratios = [a / b for a, b in zip(*rates)]
        record.row(rate.removesuffix("_per_ns"), spread(ratios), *(f"{statistics.median(side):.2f}" for side in rates))


if __name__ == "__main__":
    main()
