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

FORMAT_VERSION = 2


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


def recurrent_module(recurrent):
    options = {
        "num_layers": recurrent["layers"],
        "bidirectional": recurrent["bidirectional"],
        "bias": recurrent["bias"],
    }
    sizes = recurrent["input"], recurrent["hidden"]
    match recurrent["cell"]:
        case "lstm":
            return torch.nn.LSTM(*sizes, **options)
        case "gru_after":
            return torch.nn.GRU(*sizes, **options)
        case "rnn_tanh" | "rnn_relu" as cell:
            return torch.nn.RNN(*sizes, nonlinearity=cell.removeprefix("rnn_"), **options)
        case "gru_before":
            sys.exit("PyTorch's GRU resets after the product; a GRU that resets before it cannot be loaded as one")
        case other:
            sys.exit(f"config.json: unknown cell {other!r}")


def load(run):
    config = json.loads((run / "config.json").read_text())
    if config["format_version"] != FORMAT_VERSION:
        sys.exit(f"config.json: expected format_version {FORMAT_VERSION}, found {config['format_version']}")
    task, model = config["task"], config["model"]
    recurrent = model["recurrent"]
    if recurrent["initial_state"] != "zero":
        sys.exit("PyTorch's modules have no learned initial state")
    if task == "classify" and model["pooling"] != "last-states":
        sys.exit(f"expected the pooling last-states, found {model['pooling']}")
    outputs = {"lm": "vocabulary", "classify": "classes"}[task]
    features = recurrent["hidden"] * (2 if recurrent["bidirectional"] else 1)

    embedding = torch.nn.Embedding(model["vocabulary"], recurrent["input"])
    rnn = recurrent_module(recurrent)
    head = torch.nn.Linear(features, model[outputs])
    tensors = read_safetensors(run / "model.safetensors")
    embedding_tensors, head_tensors = take(tensors, "embedding."), take(tensors, "head.")
    if task == "lm" and model["tied"]:
        head_tensors["weight"] = embedding_tensors["weight"]
    embedding.load_state_dict(embedding_tensors, strict=True)
    rnn.load_state_dict(take(tensors, "rnn."), strict=True)
    head.load_state_dict(head_tensors, strict=True)
    if tensors:
        sys.exit(f"model.safetensors: no PyTorch module takes {sorted(tensors)}")
    return task, embedding, rnn, head


@torch.inference_mode()
def logits(task, embedding, rnn, head, tokens):
    outputs, state = rnn(embedding(torch.tensor(tokens)))
    if task == "lm":
        return head(outputs)
    h_n = state[0] if isinstance(rnn, torch.nn.LSTM) else state
    top_layer = h_n[-2:] if rnn.bidirectional else h_n[-1:]
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
