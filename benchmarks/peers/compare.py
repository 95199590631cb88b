"""Throughline and PyTorch side by side on this machine, as a markdown table.

    compare.py --throughline target/release/throughline --python reference/.venv/bin/python --out RECORD.md

The two run by turns, ours, theirs, ours, theirs, each in a process of its own, so that a machine that slows down slows
both. A ratio is taken within each pair; the table shows the median of the ratios and their range. Below 1, Throughline
is faster.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
from itertools import product
from pathlib import Path

PEER = Path(__file__).parent / "pytorch_rnn.py"

SHAPES = {
    "T=20 B=20 I=200 H=200 L=2": "--time 20 --batch 20 --input 200 --hidden 200 --layers 2",
    "T=100 B=32 I=128 H=256 L=1 bidirectional": (
        "--time 100 --batch 32 --input 128 --hidden 256 --layers 1 --bidirectional"
    ),
}
RAGGED = {"lengths 5..50 B=32 I=128 H=128 L=1": "--lengths 5..50 --batch 32 --input 128 --hidden 128 --layers 1"}
CELLS = ["lstm", "gru", "rnn"]
MODES = ["forward", "train"]


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--throughline", required=True, help="the program, built with --release")
    parser.add_argument("--python", default=sys.executable, help="a Python that has torch")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--runs", type=int, default=30, help="timed runs in each process")
    parser.add_argument("--cells", nargs="+", choices=CELLS, default=CELLS)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--out", required=True, help="the file for the table")
    return parser.parse_args()


def bench(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout)


def compare(ours, theirs, pairs):
    """One row's figures: the median of the ratios and their range, both medians, and who the peer is."""
    if "--lengths" in theirs:
        # Our lengths are drawn by a seed: the peer takes the very same.
        drawn = ",".join(map(str, bench(ours)["lengths"]))
        place = theirs.index("--lengths") + 1
        theirs = [*theirs[:place], drawn, *theirs[place + 1 :]]
    results = [(bench(ours), bench(theirs)) for _ in range(pairs)]
    ratios = [a["median_s"] / b["median_s"] for a, b in results]
    our_seconds, their_seconds = (statistics.median(side["median_s"] for side in sides) for sides in zip(*results))
    peer = results[0][1].get("peer")
    return statistics.median(ratios), min(ratios), max(ratios), our_seconds, their_seconds, peer


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def revision():
    done = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return done.stdout.strip() or "unknown"


def main():
    options = parse_options()
    lines = []

    def emit(line):
        print(line, flush=True)
        lines.append(line)

    emit(f"{datetime.date.today()}, {processor()}, {os.cpu_count()} logical CPUs, {platform.system()}.")
    emit(f"Command: benchmarks/peers/compare.py --pairs {options.pairs} --runs {options.runs}; revision {revision()}.")
    emit(f"Median of {options.pairs} interleaved pairs of {options.runs} runs; ratio = Throughline / peer.")
    emit("")
    emit("| shape | cell | mode | threads | ratio (range) | Throughline ms | PyTorch ms |")
    emit("|---|---|---|--:|--:|--:|--:|")
    peer = None
    shapes = (SHAPES | RAGGED).items()
    for (shape, sizes), cell, mode, threads in product(shapes, options.cells, options.modes, options.threads):
        arguments = ["--cell", cell, "--mode", mode, "--threads", str(threads), "--runs", str(options.runs), "--json"]
        arguments += sizes.split()
        ours = [options.throughline, "bench", *arguments]
        theirs = [options.python, str(PEER), *arguments]
        ratio, least, most, our_seconds, their_seconds, peer = compare(ours, theirs, options.pairs)
        emit(
            f"| {shape} | {cell} | {mode} | {threads} | {ratio:.2f} ({least:.2f} to {most:.2f}) "
            f"| {our_seconds * 1e3:.3f} | {their_seconds * 1e3:.3f} |"
        )
    emit("")
    emit(f"Peer: {peer}.")
    emit("")
    emit("Our GRU with the reset before the product, against ours with the reset after it:")
    emit("")
    emit("| shape | mode | threads | ratio (range) | before ms | after ms |")
    emit("|---|---|--:|--:|--:|--:|")
    for (shape, sizes), mode, threads in product(SHAPES.items(), options.modes, options.threads):
        arguments = ["--mode", mode, "--threads", str(threads), "--runs", str(options.runs), "--json", *sizes.split()]
        before = [options.throughline, "bench", "--cell", "gru-before", *arguments]
        after = [options.throughline, "bench", "--cell", "gru", *arguments]
        ratio, least, most, before_s, after_s, _ = compare(before, after, options.pairs)
        emit(
            f"| {shape} | {mode} | {threads} | {ratio:.2f} ({least:.2f} to {most:.2f}) "
            f"| {before_s * 1e3:.3f} | {after_s * 1e3:.3f} |"
        )
    Path(options.out).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
