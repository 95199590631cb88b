"""What every peer does: read what Throughline wrote, check its own result against it, and time itself when asked.

A peer is a process that prints one JSON line when it is ready, with what is wrong with its result, and then one for
each line it reads: seconds to measure in, figures out. It sleeps in between, so that it and Throughline take turns with
the machine to themselves, and the start of Python is not timed.
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

# Tensor by tensor, b being Throughline's: max|a - b| <= TOLERANCE · max(1, max|b|), but gradients, which may all be
# small, are held to their own size: max|a - b| <= TOLERANCE · max|b| + LEAST_GRADIENT.
TOLERANCE = 1e-4
LEAST_GRADIENT = 1e-7
# Prefixes of the names of gradients.
GRADIENTS = ("grad.", "dx")
# Shorter runs are timed in blocks, so that the overhead of the clock does not count.
SHORTEST = 200e-6
# The least runs that are timed: LEAST_LONG_RUNS if a run takes over LONG seconds.
LEAST_RUNS = 3
LEAST_LONG_RUNS, LONG = 2, 4.0


class Written:
    """The file of `throughline-bench --write`: numpy arrays by name, and in `metadata` what was run."""

    def __init__(self, path):
        with safe_open(path, "np") as file:
            self.metadata = file.metadata() or {}
            self.arrays = {name: file.get_tensor(name) for name in file.keys()}

    def __getitem__(self, name):
        return self.arrays[name]

    def __contains__(self, name):
        return name in self.arrays


def disagreements(pairs):
    """Describes each of (name, ours, theirs) that differs. Having nothing to compare is a disagreement too."""
    found, compared = [], 0
    for name, ours, theirs in pairs:
        compared += 1
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        if ours.shape != theirs.shape:
            found.append(f"{name}: shape {list(theirs.shape)}, Throughline's is {list(ours.shape)}")
            continue
        largest = float(np.abs(ours).max(initial=0.0))
        gradient = name.startswith(GRADIENTS)
        allowed = TOLERANCE * largest + LEAST_GRADIENT if gradient else TOLERANCE * max(1.0, largest)
        difference = float(np.abs(ours - theirs).max(initial=0.0))
        if not difference <= allowed:
            found.append(f"{name} differs by {difference:.3g}, {allowed:.3g} is allowed")
    return found if compared else ["there is no tensor to compare"]


def measure(run, seconds):
    """The median of the runs that fit into `seconds`, but of a few at least. The first warms up and is not counted."""

    def time_of(repeats):
        begun = time.perf_counter()
        for _ in range(repeats):
            run()
        return time.perf_counter() - begun

    gc.collect()
    gc.disable()
    run()
    once = time_of(1)
    repeats = max(1, math.ceil(SHORTEST / once))
    least = LEAST_LONG_RUNS if once > LONG else LEAST_RUNS
    timed = [once] if repeats == 1 else []
    while len(timed) < least or sum(timed) < seconds:
        timed.append(time_of(repeats))
    gc.enable()
    return {"median_s": statistics.median(timed) / repeats, "runs": len(timed), "peak_rss_mib": peak_rss_mib()}


def forget_peak_memory():
    """Resets the peak, so that the memory of the check does not count."""
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
