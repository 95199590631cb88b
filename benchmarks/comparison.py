"""The contenders of a comparison, and how they are measured: they take turns, round after round, so that whatever slows
the machine down slows all of them down."""

import json
import math
import os
import statistics
import subprocess
import tempfile
import threading
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path

PEERS = Path(__file__).parent / "peers"
# The least runs that `throughline-bench` accepts, and the most to ask for.
LEAST_RUNS = 3
MOST_RUNS = 200
# Seconds that the program spends measuring the peak of the processor between its runs.
BETWEEN_RUNS = 0.006
# Runs are timed in blocks of at least BLOCK seconds; before one shorter than SHORT, one run is not timed.
BLOCK, SHORT = 0.005, 0.02
# Rounds of even the slowest row.
LEAST_ROUNDS = 3
# A peer that takes HOPELESS times as long as the best one in HOPELESS_ROUNDS rounds in a row sits out the rest. A
# single slow round may be due to other processes.
HOPELESS = 2.0
HOPELESS_ROUNDS = 2
# A peer that does not answer for so many seconds is killed, and its row fails.
PATIENCE = 600
# The keys and types of an answer, with numbers above 0: of a peer that is ready, of one that has measured, and of ours.
READY = {"version": str, "problems": list}
TIMED = {"median_s": float, "peak_rss_mib": float}
OURS = TIMED | {"peak_share": float, "rows": int, "isa": str}
OUR_STEP = OURS | {"bandwidth_share": float}


class Failure(Exception):
    """Why a row has no figures."""


@dataclass
class Settings:
    """How long things may take."""

    bench: Path
    python: Path
    rounds: int
    # The time of a contender in a round, if three runs of ours take no longer.
    seconds: float
    # A row that takes longer is cut to fewer rounds.
    row_seconds: float
    # The instruction sets that our program reports.
    isa: set = field(default_factory=set)


@dataclass
class PeerCommand:
    """How to start a peer."""

    name: str
    script: str
    options: list


@dataclass
class Row:
    """The result of a comparison; the figures are medians over the rounds."""

    ours: dict
    # For each round the ratio peer / ours; above 1, Throughline is faster.
    ratios: list = field(default_factory=list)
    best: str = ""
    peers: dict = field(default_factory=dict)
    peer_ratios: dict = field(default_factory=dict)


class Ours:
    """`throughline-bench` with some options; each measurement is a separate process."""

    def __init__(self, settings, options, kinds=OURS):
        self.program, self.isa = settings.bench, settings.isa
        self.kinds = kinds
        self.options = [str(option) for option in options]
        self.runs = LEAST_RUNS

    def bench(self, *more):
        name = f"throughline-bench {' '.join(self.options)}"
        figures = answer_of(name, [self.program, *self.options, "--json", *more], self.kinds)
        self.isa.add(figures["isa"])
        return figures

    def write(self, path):
        """Writes the file for the peers and finds out how many runs fit into a measurement."""
        return self.bench("--runs", LEAST_RUNS, "--warm-up", 0, "--write", path)

    def prepare(self, seconds, first):
        run = first["median_s"]
        block = max(run, BLOCK) + (run if run < SHORT else 0)
        self.runs = min(max(int(seconds / (block + BETWEEN_RUNS)), LEAST_RUNS), MOST_RUNS)

    def measure(self, seconds):
        return self.bench("--runs", self.runs, "--warm-up", int(seconds / 4 * 1000))


class Peer:
    """A process that is ready to be measured; see peers/measuring.py."""

    def __init__(self, settings, command, threads):
        self.name = command.name
        self.errors = tempfile.TemporaryFile("w+", errors="replace")
        self.silent = False
        arguments = [str(settings.python), str(PEERS / command.script), *map(str, command.options)]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        # In a separate session, so that Ctrl-C reaches only this program, which then ends the peer.
        try:
            self.process = subprocess.Popen(
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self.errors,
                text=True,
                errors="replace",
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise Failure(f"{self.name} cannot be started: {error}") from error

    def ready(self):
        return self.answer("", READY)

    def measure(self, seconds):
        return self.answer(f"{seconds}\n", TIMED)

    def answer(self, question, kinds):
        """Its next line after `question`."""
        patience = threading.Timer(PATIENCE, self.give_up)
        patience.start()
        try:
            self.process.stdin.write(question)
            self.process.stdin.flush()
            line = self.process.stdout.readline()
            if not line.endswith("\n"):
                raise self.ended()
        except OSError as error:
            raise self.ended() from error
        finally:
            patience.cancel()
        return figures_of(self.name, line, kinds)

    def give_up(self):
        self.silent = True
        self.process.kill()

    def ended(self):
        """The failure of a process that has ended, perhaps between its turns."""
        status = self.process.wait()
        if self.silent:
            return Failure(f"{self.name} did not answer for {PATIENCE / 60:.0f} minutes")
        self.errors.seek(0)
        return Failure(f"{self.name} ended with status {status}: {last_line(self.errors.read())}")

    def close(self):
        """Ends it at once: it has nothing to save, and may be in the middle of a long run."""
        self.process.kill()
        self.process.communicate()
        self.errors.close()


def answer_of(name, command, kinds, patience=None):
    """The figures of these kinds that a command prints, within `patience` seconds if given."""
    command = [*map(str, command)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=patience)
    except subprocess.TimeoutExpired as error:
        raise Failure(f"{name} did not answer for {patience / 60:.0f} minutes") from error
    except OSError as error:
        raise Failure(f"{name} cannot be started: {error}") from error
    if done.returncode != 0:
        raise Failure(f"{name} ended with status {done.returncode}: {last_line(done.stderr)}")
    return figures_of(name, done.stdout, kinds)


def figures_of(name, text, kinds):
    """The answer `text` as a dict that holds what `kinds` says."""
    try:
        figures = json.loads(text)
    except (ValueError, RecursionError):
        figures = None
    if not isinstance(figures, dict):
        raise Failure(f"{name}: expected figures as JSON, found {text.strip()[:80]!r}")
    for key, kind in kinds.items():
        value = figures.get(key)
        if not isinstance(value, kind) or (kind in (int, float) and not 0 < value < math.inf):
            above = " above 0" if kind in (int, float) else ""
            raise Failure(f"{name}: expected as {key} {kind.__name__}{above}, found {value!r:.80}")
    return figures


def last_line(text):
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "no message")


def medians(results):
    """The median of every number over the rounds."""
    last = results[-1]
    numbers = [name for name in last if all(isinstance(result.get(name), float) for result in results)]
    return last | {name: statistics.median(result[name] for result in results) for name in numbers}


def rounds_of(settings, contenders):
    """The figures of every contender that ran in a round, for each round; each round begins with another contender."""
    results, begun, rounds = [], time.monotonic(), settings.rounds
    # For each peer, the rounds in a row in which it was hopelessly slow.
    behind = dict.fromkeys(contenders, 0)
    while len(results) < rounds:
        turn = len(results) % len(contenders)
        in_turn = contenders[turn:] + contenders[:turn]
        results.append({contender: contender.measure(settings.seconds) for contender in in_turn})
        seconds = {peer: figures["median_s"] for peer, figures in results[-1].items() if isinstance(peer, Peer)}
        for peer in seconds:
            behind[peer] = behind[peer] + 1 if seconds[peer] > HOPELESS * min(seconds.values()) else 0
        contenders = [contender for contender in contenders if behind[contender] < HOPELESS_ROUNDS]
        if len(results) == 1:
            longest = int(settings.row_seconds / (time.monotonic() - begun))
            rounds = min(settings.rounds, max(LEAST_ROUNDS, longest))
    return results


def compare(settings, options, commands, threads, versions, kinds=OURS):
    """Throughline with `options` against the peers that `commands` makes from the file it wrote. Every peer's result is
    checked against ours before anything is timed. `versions` collects the versions of the peers; `kinds` are those of
    our answer."""
    with tempfile.TemporaryDirectory() as folder, ExitStack() as running:
        path = str(Path(folder) / "written.safetensors")
        ours = Ours(settings, [*options, "--threads", threads], kinds)
        first = ours.write(path)
        ours.prepare(settings.seconds, first)
        peers = [running.enter_context(closing(Peer(settings, command, threads))) for command in commands(path)]
        problems = []
        for peer in peers:
            ready = peer.ready()
            versions.add(ready["version"])
            if found := ready["problems"]:
                more = f" and {len(found) - 1} more" if len(found) > 1 else ""
                problems.append(f"{peer.name}: {found[0]}{more}")
        if problems:
            raise Failure("CHECK FAILED, not timed: " + "; ".join(problems))
        results = rounds_of(settings, [ours, *peers])
    return summary(ours, peers, results)


def summary(ours, peers, results):
    row = Row(ours=medians([figures[ours] for figures in results]))
    for peer in peers:
        rounds = [figures for figures in results if peer in figures]
        row.peers[peer.name] = medians([figures[peer] for figures in rounds])
        row.peer_ratios[peer.name] = statistics.median(ratio(figures[peer], figures[ours]) for figures in rounds)
    winners = []
    for figures in results:
        present = [peer for peer in peers if peer in figures]
        winners.append(min(present, key=lambda peer: figures[peer]["median_s"]))
        row.ratios.append(ratio(figures[winners[-1]], figures[ours]))
    row.best = statistics.mode(winners).name
    return row


def ratio(theirs, ours):
    return theirs["median_s"] / ours["median_s"]


def alternate(settings, first, second):
    """Throughline alone, with two sets of options in turn: their figures, and for each round the ratio first / second
    of the time per real row."""
    contenders = [Ours(settings, options) for options in (first, second)]
    for contender in contenders:
        contender.prepare(settings.seconds, contender.bench("--runs", LEAST_RUNS, "--warm-up", 0))
    results = rounds_of(settings, contenders)
    one, other = ([figures[contender] for figures in results] for contender in contenders)
    ratios = [ratio(a, b) / (a["rows"] / b["rows"]) for a, b in zip(one, other)]
    return medians(one), medians(other), ratios
