"""Writes the reference vectors under reference/vectors with PyTorch, from fixed seeds. See README.md."""

import json
from pathlib import Path

import numpy
import torch
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_, get_total_norm
from torch.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence

VECTORS = Path(__file__).parent / "vectors"
LARGEST_FILE = 300_000  # bytes

CELLS = {
    "rnn_tanh": lambda *sizes, **options: torch.nn.RNN(*sizes, nonlinearity="tanh", **options),
    "rnn_relu": lambda *sizes, **options: torch.nn.RNN(*sizes, nonlinearity="relu", **options),
    "lstm": torch.nn.LSTM,
    "gru_after": torch.nn.GRU,
    "gru_before": torch.nn.GRU,  # holds the parameters; gru_by_hand computes
}

SORTED, UNSORTED = [6, 4, 4, 1], [3, 6, 1, 5]
CASES = [
    # name, hidden, layers, bidirectional, bias, given state, lengths
    ("one_layer", 7, 1, False, True, False, SORTED),
    ("two_layers_given_state", 7, 2, False, True, True, UNSORTED),
    ("bidirectional_given_state", 7, 1, True, True, True, UNSORTED),
    ("two_layers_bidirectional_given_state", 7, 2, True, True, True, SORTED),
    ("two_layers_bidirectional_no_bias", 7, 2, True, False, False, UNSORTED),
    ("wide_given_state", 20, 1, False, True, True, [2, 4, 1]),
]
INPUT = 5


# ---- numbers ---------------------------------------------------------------------------------------------------------


def random(generator, shape, bound):
    """Uniform in [-bound, bound], rounded to three decimals to keep the files small."""
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1
    return (uniform * bound).round(decimals=3).to(torch.float32)


def shortest(value):
    """The shortest decimal that reads back as the same float32."""
    single = numpy.float32(value)
    decimal = float(str(single))
    assert numpy.float32(decimal) == single, f"{value} does not survive printing"
    return decimal


def tensor(values):
    values = values.detach().to(torch.float32)
    return {"shape": list(values.shape), "data": [shortest(value) for value in values.flatten().numpy()]}


def tensors(named):
    return {name: tensor(values) for name, values in named}


def fill(module, generator, bound):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(random(generator, parameter.shape, bound))


def write(name, seed, key, entries):
    """One entry a line, so that a change shows where it happened."""
    head = f'{{"torch": "{torch.__version__}", "seed": {seed}, "{key}": [\n'
    text = head + ",\n".join(json.dumps(entry) for entry in entries) + "\n]}\n"
    assert len(text) <= LARGEST_FILE, f"{name}: {len(text)} bytes"
    VECTORS.mkdir(exist_ok=True)
    (VECTORS / f"{name}.json").write_text(text)
    print(f"{name}: {len(entries)} {key}, {len(text)} bytes")


# ---- one pass through a recurrent stack ------------------------------------------------------------------------------


def gru_step(x, h, weight_ih, weight_hh, bias_ih, bias_hh, reset):
    x_r, x_z, x_n = (weight_ih @ x + bias_ih).chunk(3)
    w_r, w_z, w_n = weight_hh.chunk(3)
    b_r, b_z, b_n = bias_hh.chunk(3)
    r = torch.sigmoid(x_r + w_r @ h + b_r)
    z = torch.sigmoid(x_z + w_z @ h + b_z)
    if reset == "after":
        n = torch.tanh(x_n + r * (w_n @ h + b_n))
    else:
        n = torch.tanh(x_n + w_n @ (r * h) + b_n)
    return (1 - z) * n + z * h


def gru_by_hand(module, x, lengths, h0, reset):
    """Runs the parameters of a torch.nn.GRU one sequence, layer, direction and step at a time."""
    parameters = dict(module.named_parameters())
    directions = 2 if module.bidirectional else 1
    no_bias = torch.zeros(3 * module.hidden_size, dtype=x.dtype)
    outputs, last = [], []
    for b, length in enumerate(lengths):
        rows, last_states = list(x[:length, b]), []
        for layer in range(module.num_layers):
            by_direction = []
            for direction in range(directions):
                suffix = f"_l{layer}" + ("_reverse" if direction else "")
                weights = (
                    parameters["weight_ih" + suffix],
                    parameters["weight_hh" + suffix],
                    parameters.get("bias_ih" + suffix, no_bias),
                    parameters.get("bias_hh" + suffix, no_bias),
                )
                h = h0[layer * directions + direction, b]
                hidden = [None] * length
                for t in reversed(range(length)) if direction else range(length):
                    h = gru_step(rows[t], h, *weights, reset)
                    hidden[t] = h
                by_direction.append(hidden)
                last_states.append(h)
            rows = [torch.cat(both) for both in zip(*by_direction)]
        padding = torch.zeros(x.shape[0] - length, directions * module.hidden_size, dtype=x.dtype)
        outputs.append(torch.cat([torch.stack(rows), padding]))
        last.append(torch.stack(last_states))
    return torch.stack(outputs, dim=1), [torch.stack(last, dim=1)]


def run(cell, module, x, lengths, states):
    """Outputs [T, B, D*H] and the last states, [h_n] or [h_n, c_n], each [L*D, B, H]."""
    if cell == "gru_before":
        return gru_by_hand(module, x, lengths, states[0], "before")
    packed = pack_padded_sequence(x, lengths, enforce_sorted=False)
    outputs, last = module(packed, tuple(states) if cell == "lstm" else states[0])
    outputs, _ = pad_packed_sequence(outputs, total_length=x.shape[0])
    return outputs, list(last) if cell == "lstm" else [last]


# ---- the cell files --------------------------------------------------------------------------------------------------


def pass_and_gradients(cell, module, x, lengths, states, weights):
    """Outputs, last states, the loss, and its gradients: of the parameters, of x, and of the given states."""
    x = x.clone().requires_grad_()
    states = [state.clone().requires_grad_() for state in states]
    module.zero_grad()
    outputs, last = run(cell, module, x, lengths, states)
    loss = sum((weight * values).sum() for weight, values in zip(weights, [outputs, *last]))
    loss.backward()
    gradients = {name: parameter.grad.clone() for name, parameter in module.named_parameters()}
    return outputs, last, loss, gradients, x.grad, [state.grad for state in states]


def assert_same_in_float64(single, cell, module, x, lengths, states, weights):
    """Guards the float32 figures: the same pass in float64 must agree."""
    double = pass_and_gradients(
        cell, module.double(), x.double(), lengths, [s.double() for s in states], [w.double() for w in weights]
    )
    module.float()

    def flat(outputs, last, loss, parameters, dx, dstates):
        return [outputs, *last, loss, *parameters.values(), dx, *dstates]

    for a, b in zip(flat(*single), flat(*double), strict=True):
        assert (a.double() - b).abs().max() <= 5e-6 * max(1.0, b.abs().max().item())


def make_case(cell, generator, name, hidden, layers, bidirectional, bias, given, lengths):
    time, batch, directions = max(lengths), len(lengths), 2 if bidirectional else 1
    module = CELLS[cell](INPUT, hidden, num_layers=layers, bidirectional=bidirectional, bias=bias)
    fill(module, generator, bound=0.5 if hidden < 10 else 0.3)
    state_shape = (layers * directions, batch, hidden)
    state_count = 2 if cell == "lstm" else 1

    x = random(generator, (time, batch, INPUT), 1.5)
    x *= torch.tensor([[t < length for length in lengths] for t in range(time)]).unsqueeze(2)
    states = [random(generator, state_shape, 1.0 if given else 0.0) for _ in range(state_count)]
    weights = [random(generator, (time, batch, directions * hidden), 1.0)]
    weights += [random(generator, state_shape, 1.0) for _ in range(state_count)]

    results = pass_and_gradients(cell, module, x, lengths, states, weights)
    assert_same_in_float64(results, cell, module, x, lengths, states, weights)
    outputs, last, loss, parameter_gradients, dx, dstates = results

    given_states, given_gradients = (states, dstates) if given else ([], [])

    def optional(values, index):
        return tensor(values[index]) if index < len(values) else None

    return {
        "name": name,
        "input": INPUT,
        "hidden": hidden,
        "layers": layers,
        "bidirectional": bidirectional,
        "bias": bias,
        "lengths": lengths,
        "parameters": tensors(module.named_parameters()),
        "x": tensor(x),
        "h0": optional(given_states, 0),
        "c0": optional(given_states, 1),
        "outputs": tensor(outputs),
        "h_n": optional(last, 0),
        "c_n": optional(last, 1),
        "loss_weights": {"outputs": tensor(weights[0]), "h_n": tensor(weights[1]), "c_n": optional(weights, 2)},
        "loss": shortest(loss.item()),
        "gradients": {
            "parameters": tensors(parameter_gradients.items()),
            "x": tensor(dx),
            "h0": optional(given_gradients, 0),
            "c0": optional(given_gradients, 1),
        },
    }


def check_gru_by_hand():
    """The loop written by hand must be torch.nn.GRU when its reset comes after."""
    generator = torch.Generator().manual_seed(0)
    module = torch.nn.GRU(INPUT, 7, num_layers=2, bidirectional=True)
    fill(module, generator, 0.5)
    x, h0 = random(generator, (6, 4, INPUT), 1.5), random(generator, (4, 4, 7), 1.0)
    want, want_last = run("gru_after", module, x, UNSORTED, [h0])
    got, got_last = gru_by_hand(module, x, UNSORTED, h0, "after")
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(got_last, want_last)


def write_cell(cell, seed):
    generator = torch.Generator().manual_seed(seed)
    write(cell, seed, "cases", [make_case(cell, generator, *case) for case in CASES])


# ---- the training files ----------------------------------------------------------------------------------------------


def train(modules, optimiser, steps, loss_of, clip_norm=None):
    """Losses and gradient norms (before clipping) of `steps` updates."""
    parameters = list(modules.parameters())
    losses, norms = [], []
    for step in range(steps):
        optimiser.zero_grad()
        loss = loss_of(step)
        loss.backward()
        norms.append(get_total_norm([p.grad for p in parameters]).item())
        if clip_norm is not None:
            clip_grad_norm_(parameters, clip_norm)
        optimiser.step()
        losses.append(loss.item())
    return [shortest(loss) for loss in losses], [shortest(norm) for norm in norms]


def make_optimiser(parameters, kind, **settings):
    kinds = {
        "sgd": torch.optim.SGD,
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "rmsprop": torch.optim.RMSprop,
    }
    return kinds[kind](parameters, **settings)


ADAM = {"lr": 1e-2, "betas": (0.9, 0.999), "eps": 1e-8}
STEPS = 10


def make_language_model_run(seed, kind, settings):
    vocabulary, embedding, hidden, layers, batch, stride = 11, 6, 8, 2, 4, 5
    generator = torch.Generator().manual_seed(seed)
    modules = torch.nn.ModuleDict(
        {
            "embedding": torch.nn.Embedding(vocabulary, embedding),
            "rnn": torch.nn.LSTM(embedding, hidden, num_layers=layers),
            "head": torch.nn.Linear(hidden, vocabulary),
        }
    )
    fill(modules, generator, 1.8)
    initial = tensors(modules.named_parameters())
    tokens = torch.randint(vocabulary, (batch, STEPS * stride + 1), generator=generator)
    last_state = None

    def loss_of(step):
        nonlocal last_state
        window = tokens[:, step * stride : (step + 1) * stride + 1].T
        outputs, state = modules["rnn"](modules["embedding"](window[:-1]), last_state)
        last_state = tuple(array.detach() for array in state)
        return cross_entropy(modules["head"](outputs).flatten(0, 1), window[1:].flatten())

    optimiser = make_optimiser(modules.parameters(), kind, **settings)
    losses, norms = train(modules, optimiser, STEPS, loss_of, clip_norm=1.0)
    assert min(norms) < 1.0 < max(norms), "both sides of the clipping threshold must be visited"
    return {
        "name": f"lstm_{kind}",
        "cell": "lstm",
        "vocabulary": vocabulary,
        "embedding": embedding,
        "hidden": hidden,
        "layers": layers,
        "stride": stride,
        "clip_norm": 1.0,
        "optimiser": {"kind": kind, **settings},
        "parameters": initial,
        "tokens": tokens.tolist(),
        "losses": losses,
        "gradient_norms": norms,
    }


def make_classifier_run(seed, cell, kind, settings):
    vocabulary, embedding, hidden, layers, classes, batch = 13, 5, 6, 2, 3, 7
    generator = torch.Generator().manual_seed(seed)
    modules = torch.nn.ModuleDict(
        {
            "embedding": torch.nn.Embedding(vocabulary, embedding),
            "rnn": CELLS[cell](embedding, hidden, num_layers=layers, bidirectional=True),
            "head": torch.nn.Linear(2 * hidden, classes),
        }
    )
    fill(modules, generator, 0.5)
    initial = tensors(modules.named_parameters())
    batches = []
    for _ in range(STEPS):
        lengths = torch.randint(1, 10, (batch,), generator=generator)
        lengths[0], lengths[1] = 1, 9
        lengths = lengths[torch.randperm(batch, generator=generator)].tolist()
        sequences = [torch.randint(vocabulary, (length,), generator=generator) for length in lengths]
        batches.append((sequences, torch.randint(classes, (batch,), generator=generator)))

    def loss_of(step):
        sequences, labels = batches[step]
        packed = pack_sequence([modules["embedding"](tokens) for tokens in sequences], enforce_sorted=False)
        _, last = modules["rnn"](packed)
        h_n = last[0] if cell == "lstm" else last
        return cross_entropy(modules["head"](torch.cat([h_n[-2], h_n[-1]], dim=1)), labels)

    optimiser = make_optimiser(modules.parameters(), kind, **settings)
    losses, norms = train(modules, optimiser, STEPS, loss_of)
    return {
        "name": f"{cell}_{kind}",
        "cell": cell,
        "vocabulary": vocabulary,
        "embedding": embedding,
        "hidden": hidden,
        "layers": layers,
        "classes": classes,
        "optimiser": {"kind": kind, **settings},
        "parameters": initial,
        "batches": [
            {"sequences": [tokens.tolist() for tokens in sequences], "labels": labels.tolist()}
            for sequences, labels in batches
        ],
        "losses": losses,
        "gradient_norms": norms,
    }


# ---- a conditional random field --------------------------------------------------------------------------------------


def path_score(field, emissions, tags):
    """The score of one sequence of tags."""
    score = field["start"][tags[0]] + field["end"][tags[-1]]
    score = score + sum(emission[tag] for emission, tag in zip(emissions, tags))
    return score + sum(field["transitions"][before, after] for before, after in zip(tags, tags[1:]))


def log_partition(field, emissions):
    """ln of the sum of e^score over all sequences of tags."""
    alpha = field["start"] + emissions[0]
    for emission in emissions[1:]:
        alpha = torch.logsumexp(alpha[:, None] + field["transitions"], dim=0) + emission
    return torch.logsumexp(alpha + field["end"], dim=0)


def make_field_case(generator, features, tags, lengths, scale):
    shapes = {"weight": (tags, features), "bias": (tags,), "transitions": (tags, tags), "start": (tags,), "end": (tags,)}
    field = {name: random(generator, shape, scale).requires_grad_() for name, shape in shapes.items()}
    x = [random(generator, (length, features), 1.5).requires_grad_() for length in lengths]
    targets = [torch.randint(tags, (length,), generator=generator).tolist() for length in lengths]

    def loss_of(field, x):
        emissions = [one @ field["weight"].T + field["bias"] for one in x]
        pairs = zip(emissions, targets)
        return sum(log_partition(field, emission) - path_score(field, emission, tags) for emission, tags in pairs)

    loss = loss_of(field, x)
    loss.backward()
    double = loss_of({name: values.detach().double() for name, values in field.items()}, [one.detach().double() for one in x])
    torch.testing.assert_close(loss.detach().double(), double, rtol=1e-5, atol=1e-5)
    return {
        "x": [tensor(one) for one in x],
        "targets": targets,
        "parameters": tensors(field.items()),
        "loss": shortest(loss.item()),
        "gradients": tensors((name, values.grad) for name, values in field.items()),
        "x_gradients": [tensor(one.grad) for one in x],
    }


def write_field(seed):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(4, 3, [5, 1, 3], 1.0), (6, 9, [7, 2], 2.0), (2, 1, [3], 1.0)]
    write("crf", seed, "cases", [make_field_case(generator, *shape) for shape in shapes])


def main():
    torch.set_num_threads(1)
    check_gru_by_hand()
    for seed, cell in enumerate(CELLS, start=1):
        write_cell(cell, seed)
    runs = [
        make_language_model_run(11, "adam", ADAM),
        make_language_model_run(11, "sgd", {"lr": 0.5, "momentum": 0.9}),
    ]
    write("train_lm", 11, "runs", runs)
    runs = [
        make_classifier_run(12, "gru_after", "adamw", {**ADAM, "weight_decay": 0.01}),
        make_classifier_run(12, "lstm", "rmsprop", {"lr": 1e-2, "alpha": 0.99, "eps": 1e-8}),
    ]
    write("train_classifier", 12, "runs", runs)
    write_field(13)


if __name__ == "__main__":
    main()
