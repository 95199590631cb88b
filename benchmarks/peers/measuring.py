"""What every peer does: read what Throughline wrote, check its own result against it, and time itself when asked.

A peer is a process that prints one JSON line when it is ready (or what is wrong with its result), and one more for each
line it reads: seconds to spend in, figures out. It sleeps in between, so that it and Throughline run by turns on a
machine that each has to itself, and the start of Python is nobody's time.
"""

import ctypes
import gc
import json
import math
import statistics
import sys
import time

import numpy as np
from safetensors import safe_open

# max|a - b| <= TOLERANCE · max(1, max|b|), tensor by tensor; b is Throughline's.
TOLERANCE = 1e-4
# What is shorter is timed in blocks of several runs, so that the clock does not count.
SHORTEST = 200e-6


class Written:
    """The file of `throughline bench --write`: arrays of numpy by name, and in `facts` what was run."""

    def __init__(self, path):
        with safe_open(path, "np") as file:
            self.facts = file.metadata() or {}
            self.arrays = {name: file.get_tensor(name) for name in file.keys()}

    def __getitem__(self, name):
        return self.arrays[name]

    def __contains__(self, name):
        return name in self.arrays

def disagreements(pairs):
    """Of (name, ours, theirs) those that differ, each in words. Nothing to compare is a disagreement too."""
    found, compared = [], 0
    for name, ours, theirs in pairs:
        compared += 1
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        if ours.shape != theirs.shape:
            found.append(f"{name}: shape {list(theirs.shape)}, Throughline's is {list(ours.shape)}")
            continue
        allowed = TOLERANCE * max(1.0, float(np.abs(ours).max(initial=0.0)))
        difference = float(np.abs(ours - theirs).max(initial=0.0))
        if not difference <= allowed:
            found.append(f"{name} differs by {difference:.3g}, {allowed:.3g} is allowed")
    return found if compared else ["there is no tensor to compare"]


def measure(run, seconds):
    """The median of the runs that fit into `seconds`. The first warms up and does not count, unless it takes longer."""
    gc.collect()
    gc.disable()
    begun = time.perf_counter()
    run()
    first = time.perf_counter() - begun
    repeats = max(1, math.ceil(SHORTEST / first))
    timed = [first] if first >= seconds else []
    while not timed or sum(timed) < seconds:
        begun = time.perf_counter()
        for _ in range(repeats):
            run()
        timed.append(time.perf_counter() - begun)
    gc.enable()
    return {"median_s": statistics.median(timed) / repeats, "runs": len(timed), "peak_rss_mib": peak_rss_mib()}


def forget_peak_memory():
    """Lets the peak count from here: what was held for the check is not the peer's."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/clear_refs", "w") as control:
        control.write("5")


def peak_rss_mib():
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith("VmHWM:"))
    return int(line.split()[1]) / 1024


def serve(run, version, problems):
    """Answers until the input ends. `problems`: what the check found; a peer with problems is not timed."""
    say({"version": version, "problems": problems})
    if problems:
        return
    forget_peak_memory()
    for line in sys.stdin:
        say(measure(run, float(line)))


def say(figures):
    print(json.dumps(figures), flush=True)
