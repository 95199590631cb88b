"""Proves that PyTorch understands the weights of a run folder, by name and by value.

    check_torch_loads.py RUN_DIR

reads RUN_DIR/config.json and RUN_DIR/model.safetensors into torch.nn modules with strict loading, runs the sequences of
RUN_DIR/tokens.json, {"sequences": [[3, 1, 4], ...]}, one at a time from a zero state, and prints {"logits": [...]}:
[T][V] for each sequence of a language model, [C] for each sequence of a classifier.
"""

import json
import math
import struct
import sys
from pathlib import Path

import torch

FORMAT_VERSION = 1


def read_safetensors(path):
    """Tensors by name. The format: 8 bytes header length (little endian), a JSON header, the raw data."""
    content = path.read_bytes()
    (header_length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + header_length])
    data = content[8 + header_length :]
    header.pop("__metadata__", None)
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        if entry["dtype"] != "F32":
            sys.exit(f"{path}: {name}: expected dtype F32, found {entry['dtype']}")
        if end - begin != 4 * math.prod(entry["shape"]) or not 0 <= begin <= end <= len(data):
            sys.exit(f"{path}: {name}: the offsets {begin}..{end} do not fit the shape {entry['shape']} and the file")
        flat = torch.frombuffer(bytearray(data[begin:end]), dtype=torch.float32)
        tensors[name] = flat.reshape(entry["shape"])
    return tensors


def take(tensors, prefix):
    """Removes the tensors under `prefix` and returns them without it."""
    return {name.removeprefix(prefix): tensors.pop(name) for name in list(tensors) if name.startswith(prefix)}


def recurrent_module(config):
    options = {
        "num_layers": config["layers"],
        "bidirectional": config["bidirectional"],
        "bias": config["bias"],
    }
    sizes = config["input"], config["hidden"]
    match config["cell"], config["reset"], config["activation"]:
        case "lstm", None, None:
            return torch.nn.LSTM(*sizes, **options)
        case "gru", "after", None:
            return torch.nn.GRU(*sizes, **options)
        case "rnn", None, "tanh" | "relu":
            return torch.nn.RNN(*sizes, nonlinearity=config["activation"], **options)
        case "gru", "before", None:
            sys.exit("PyTorch's GRU resets after the product; a GRU that resets before it cannot be loaded as one")
        case other:
            sys.exit(f"unknown cell, reset and activation: {other}")


def load(run):
    config = json.loads((run / "config.json").read_text())
    if config["format_version"] != FORMAT_VERSION:
        sys.exit(f"config.json: expected format_version {FORMAT_VERSION}, found {config['format_version']}")
    outputs = {"lm": config["vocabulary"], "classify": config["classes"]}[config["task"]]
    features = config["hidden"] * (2 if config["bidirectional"] else 1)

    embedding = torch.nn.Embedding(config["vocabulary"], config["input"])
    rnn = recurrent_module(config)
    tensors = read_safetensors(run / "model.safetensors")
    head_tensors = take(tensors, "head.")
    head = torch.nn.Linear(features, outputs, bias="bias" in head_tensors)
    embedding_tensors = take(tensors, "embedding.")
    if config["tied"]:
        head_tensors["weight"] = embedding_tensors["weight"]
    embedding.load_state_dict(embedding_tensors, strict=True)
    rnn.load_state_dict(take(tensors, "rnn."), strict=True)
    head.load_state_dict(head_tensors, strict=True)
    if tensors:
        sys.exit(f"model.safetensors: no PyTorch module takes {sorted(tensors)}")
    return config, embedding, rnn, head


@torch.inference_mode()
def logits(config, embedding, rnn, head, tokens):
    outputs, state = rnn(embedding(torch.tensor(tokens)))
    if config["task"] == "lm":
        return head(outputs)
    h_n = state[0] if config["cell"] == "lstm" else state
    top_layer = h_n[-2:] if config["bidirectional"] else h_n[-1:]
    return head(top_layer.flatten())


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    run = Path(sys.argv[1])
    model = load(run)
    sequences = json.loads((run / "tokens.json").read_text())["sequences"]
    print(json.dumps({"logits": [logits(*model, tokens).tolist() for tokens in sequences]}))


if __name__ == "__main__":
    main()
