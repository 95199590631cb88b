#!/usr/bin/env python3
"""Words a second of a trained tagger: `throughline predict` beside the same network in PyTorch.

    python3 benchmarks/tagging.py THROUGHLINE RUN LINES [--pairs 7] [--batch 64]

RUN is the folder of a tagger without characters and without a conditional random field; LINES has a sentence on each line, its
words between spaces. Throughline is timed as a program, from the text to the answers, less what it takes for a text of one
line. PyTorch has the run's weights and reads numbers: a PackedSequence for each batch of like length, the largest score of
each word. Both take turns, on one thread each, and must choose the same tags.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import time

import torch
from safetensors.torch import load_file
from torch.nn.utils.rnn import pack_sequence, pad_packed_sequence


class Tagger(torch.nn.Module):
    def __init__(self, folder):
        super().__init__()
        weights = load_file(folder / "model.safetensors")
        layers = sum(name.startswith("rnn.weight_ih_l") and "reverse" not in name for name in weights)
        hidden = weights["rnn.weight_hh_l0"].shape[1]
        self.embedding = torch.nn.Embedding(*weights["embedding.weight"].shape)
        self.rnn = torch.nn.LSTM(self.embedding.embedding_dim, hidden, layers, bidirectional=True)
        self.head = torch.nn.Linear(2 * hidden, weights["head.weight"].shape[0])
        self.load_state_dict(weights)

    def forward(self, sentences):
        packed = pack_sequence(sentences)
        x = packed._replace(data=self.embedding(packed.data))
        tags = self.head(self.rnn(x)[0].data).argmax(1)
        return pad_packed_sequence(packed._replace(data=tags), batch_first=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("program")
    arguments.add_argument("run", type=pathlib.Path)
    arguments.add_argument("lines", type=pathlib.Path)
    arguments.add_argument("--pairs", type=int, default=7)
    arguments.add_argument("--batch", type=int, default=64)
    given = arguments.parse_args()
    torch.set_num_threads(1)
    model = Tagger(given.run).eval()
    names = json.loads((given.run / "tags.json").read_text())
    text = given.lines.read_text()
    words = len(text.split())

    def ours(text):
        begun = time.perf_counter()
        command = [given.program, "predict", given.run, "--threads", "1"]
        out = subprocess.run(command, input=text, text=True, capture_output=True, check=True).stdout
        return time.perf_counter() - begun, out

    sentences = numbers(given.run, text)
    order = sorted(range(len(sentences)), key=lambda index: -len(sentences[index]))
    batches = [order[start : start + given.batch] for start in range(0, len(order), given.batch)]

    def theirs():
        begun = time.perf_counter()
        chosen = [None] * len(sentences)
        with torch.inference_mode():
            for batch in batches:
                tags, lengths = model([sentences[index] for index in batch])
                for index, row, length in zip(batch, tags, lengths):
                    chosen[index] = row[:length]
        return time.perf_counter() - begun, chosen

    answers = [[word["tag"] for word in json.loads(line)["words"]] for line in ours(text)[1].splitlines()]
    chosen = [[names[tag] for tag in tags] for tags in theirs()[1]]
    differ = sum(a != b for ours, theirs in zip(answers, chosen, strict=True) for a, b in zip(ours, theirs, strict=True))
    print(f"{words} words; tags that differ, where scores are all but equal: {differ}")
    assert differ <= words / 10_000, "the two do not compute the same"

    pairs = [(ours(text)[0] - ours(text.split("\n", 1)[0] + "\n")[0], theirs()[0]) for _ in range(given.pairs)]
    for name, times in zip(["Throughline", f"PyTorch {torch.__version__}"], zip(*pairs)):
        print(f"{name}: {words / statistics.median(times):,.0f} words/s")
    print(f"ratio, median of {len(pairs)} pairs: {statistics.median(b / a for a, b in pairs):.2f}")


def numbers(run, text):
    """The tokens of each line."""
    units = json.loads((run / "vocabulary.json").read_text())["tokens"]
    number = {unit: index for index, unit in enumerate(units)}
    return [torch.tensor([number.get(word, 0) for word in line.split()]) for line in text.splitlines()]


if __name__ == "__main__":
    main()
