"""What is measured: every shape of the benchmarks."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """A recurrent stack on random rows, forward or forward and backward, with the gradient of the input."""

    name: str
    time: int
    batch: int
    input: int
    hidden: int
    layers: int = 1
    bidirectional: bool = False
    # MIN..MAX or a list; instead of `time`.
    lengths: str | None = None

    def options(self):
        """The options of `throughline-bench`."""
        length = ["--time", self.time] if self.lengths is None else ["--lengths", self.lengths]
        sizes = ["--batch", self.batch, "--input", self.input, "--hidden", self.hidden, "--layers", self.layers]
        return [*length, *sizes, *(["--bidirectional"] if self.bidirectional else [])]

    def title(self):
        length = f"T {self.time}" if self.lengths is None else f"lengths {self.lengths}"
        layers = f", L {self.layers}" if self.layers > 1 else ""
        both = ", bidirectional" if self.bidirectional else ""
        return f"{self.name}: {length}, B {self.batch}, I {self.input}, H {self.hidden}{layers}{both}"


@dataclass(frozen=True)
class Step:
    """One streaming step of a one-directional stack: each from the state of the last."""

    batch: int
    input: int
    hidden: int
    layers: int = 1

    def options(self):
        sizes = ["--batch", self.batch, "--input", self.input, "--hidden", self.hidden, "--layers", self.layers]
        return ["--mode", "step", *sizes]

    def title(self):
        layers = f", L {self.layers}" if self.layers > 1 else ""
        return f"B {self.batch}, I {self.input}, H {self.hidden}{layers}"


LAYERS = [
    Layer("a", time=20, batch=20, input=200, hidden=200, layers=2),
    Layer("b", time=35, batch=20, input=650, hidden=650, layers=2),
    Layer("c", time=100, batch=32, input=128, hidden=256, bidirectional=True),
    Layer("d", time=784, batch=64, input=1, hidden=128),
    Layer("e", time=256, batch=64, input=96, hidden=512, layers=2),
    Layer("f", time=1000, batch=1, input=64, hidden=128),
    Layer("g", time=128, batch=256, input=64, hidden=1024),
    Layer("h", time=100, batch=8, input=32, hidden=64),
    Layer("r", time=50, batch=32, input=128, hidden=128, lengths="5..50"),
]

# Of this shape only the LSTM is measured unless --cells asks for others: a run takes seconds.
LSTM_ONLY = "g"

STEPS = [
    Step(batch=1, input=1, hidden=16),
    Step(batch=1, input=64, hidden=64),
    Step(batch=1, input=64, hidden=128),
    Step(batch=1, input=64, hidden=256),
    Step(batch=1, input=64, hidden=512),
    Step(batch=1, input=640, hidden=640, layers=2),
    Step(batch=1000, input=64, hidden=128),
]

# The layer of the text classifier, whose ragged batch is set against a dense one of as many rows.
RAGGED = Layer("ragged", time=125, batch=32, input=128, hidden=256, bidirectional=True, lengths="50..200")

MODELS = ["word-lm", "char-lm", "tagger", "classifier"]

# --quick leaves out the rest.
QUICK_LAYERS = ["a", "c", "f", "h"]
QUICK_CELLS = ["lstm", "gru"]
QUICK_STEPS = [STEPS[1], STEPS[3], STEPS[6]]
QUICK_MODELS = ["word-lm"]
