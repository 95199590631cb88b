"""PyTorch's side of `throughline-bench --model`: one whole training step, again and again on the same batch.

Gradients are dense, as Throughline's are; the optimiser is the foreach or the fused one, whichever is faster here. The
classifier reads a PackedSequence of sorted sequences, and embeds only its real steps; with --padded it reads a padded
batch, the directions as separate modules, each sequence reversed for the reverse one, and picks the states after the
last real step.
"""

import argparse

import torch
from measuring import Written, disagreements, measure, serve
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence
from torch_layer import recurrent_module, recurrent_parameters, set_up

# For the choice of an optimiser.
TRIAL_SECONDS = 0.3
# Adam's first update depends on the sign of a gradient, which rounding may decide below this share of the largest.
CERTAIN = 1e-3
REVERSE = "_reverse"


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--written", required=True, metavar="FILE", help="what throughline-bench --write wrote")
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--onednn", choices=["on", "off"], required=True)
    parser.add_argument("--padded", action="store_true", help="the classifier on a padded batch")
    return parser.parse_args()


class Network(nn.Module):
    """Embedding, recurrent stack, linear head, with the names that Throughline writes."""

    def __init__(self, written):
        super().__init__()
        embedding, head = written["embedding.weight"], written["head.weight"]
        self.embedding = nn.Embedding(*embedding.shape)
        self.rnn = recurrent_module("lstm", recurrent_parameters(written, "rnn."))
        self.head = nn.Linear(head.shape[1], head.shape[0])
        self.load_state_dict({name: torch.from_numpy(written[name]) for name in self.state_dict()})


def time_major(array):
    """`[B, T]`, as it is written, to `[T, B]`."""
    return torch.tensor(array).t().contiguous()


class LanguageModel(Network):
    """Tokens and targets `[T, B]`; the states go on from update to update, the gradients do not."""

    def __init__(self, written):
        super().__init__(written)
        self.tokens, self.targets = time_major(written["tokens"]), time_major(written["targets"]).flatten()
        self.states = None

    def loss(self):
        y, states = self.rnn(self.embedding(self.tokens), self.states)
        self.states = tuple(state.detach() for state in states)
        return cross_entropy(self.head(y.flatten(0, 1)), self.targets)


class Tagger(Network):
    """Tokens and targets `[T, B]`."""

    def __init__(self, written):
        super().__init__(written)
        self.tokens, self.targets = time_major(written["tokens"]), time_major(written["targets"]).flatten()

    def loss(self):
        y, _ = self.rnn(self.embedding(self.tokens))
        return cross_entropy(self.head(y.flatten(0, 1)), self.targets)


class Classifier(Network):
    """Sequences sorted by falling length, tokens padded `[T, B]`; the head reads the last state of both directions."""

    def __init__(self, written):
        super().__init__(written)
        self.lengths, order = torch.tensor(written["lengths"]).sort(descending=True)
        self.tokens, self.targets = time_major(written["tokens"])[:, order], torch.tensor(written["targets"])[order]

    def loss(self):
        packed = pack_padded_sequence(self.tokens, self.lengths)
        _, (h, _) = self.rnn(PackedSequence(self.embedding(packed.data), packed.batch_sizes))
        return cross_entropy(self.head(torch.cat([h[0], h[1]], dim=1)), self.targets)


class PaddedClassifier(Classifier):
    """The same from a padded batch. A bidirectional module would start its reverse direction on padding: here that
    is a separate module, which reads each sequence from its last step on."""

    def __init__(self, written):
        super().__init__(written)
        parameters = recurrent_parameters(written, "rnn.")
        reverse = {name: value for name, value in parameters.items() if name.endswith(REVERSE)}
        self.rnn = recurrent_module("lstm", {name: parameters[name] for name in parameters.keys() - reverse.keys()})
        self.reverse = recurrent_module("lstm", {name.removesuffix(REVERSE): value for name, value in reverse.items()})

    def loss(self):
        steps = torch.arange(len(self.tokens)).unsqueeze(1)
        reversed_tokens = self.tokens.gather(0, (self.lengths - 1 - steps).clamp(min=0))
        both = self.embedding(torch.cat([self.tokens, reversed_tokens], dim=1)).chunk(2, dim=1)
        last = self.lengths - 1, torch.arange(len(self.lengths))
        features = [module(x)[0][last] for module, x in zip([self.rnn, self.reverse], both)]
        return cross_entropy(self.head(torch.cat(features, dim=1)), self.targets)

    def named_parameters(self, *arguments, **more):
        """Under the names of the bidirectional module."""
        for name, value in super().named_parameters(*arguments, **more):
            yield (f"rnn.{name.removeprefix('reverse.')}{REVERSE}" if name.startswith("reverse.") else name), value


MODELS = {"word-lm": LanguageModel, "char-lm": LanguageModel, "tagger": Tagger, "classifier": Classifier}


def optimiser_of(network, metadata, **settings):
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[metadata["optimiser"]]
    return kind(network.parameters(), **{"lr": float(metadata["learning_rate"])} | settings)


def step_of(network, optimiser, clip):
    def step():
        optimiser.zero_grad(set_to_none=True)
        network.loss().backward()
        if clip:
            nn.utils.clip_grad_norm_(network.parameters(), clip)
        optimiser.step()

    return step


def faster_form(network, metadata):
    """The form of the optimiser whose update takes less time, tried at learning rate 0 with the gradients of a loss."""
    network.loss().backward()
    updates = {form: optimiser_of(network, metadata, lr=0.0, **{form: True}).step for form in ["foreach", "fused"]}
    return min(updates, key=lambda form: measure(updates[form], TRIAL_SECONDS)["median_s"])


def check(network, written, clip):
    """One step from the written parameters: the loss, the gradients, and where the update is certain the parameters
    after it."""
    loss = network.loss()
    loss.backward()
    parameters = dict(network.named_parameters())
    pairs = [("loss", written["loss"], loss.detach().reshape(1))]
    pairs += [(f"grad.{name}", written[f"grad.{name}"], p.grad.clone()) for name, p in parameters.items()]
    # Updates of other optimisers than Adam are as certain as their gradients.
    least = CERTAIN if written.metadata["optimiser"] == "adam" else 0.0
    certain = {name: p.grad.abs() >= least * p.grad.abs().max() for name, p in parameters.items()}
    if clip:
        nn.utils.clip_grad_norm_(parameters.values(), clip)
    optimiser_of(network, written.metadata).step()
    for name, p in parameters.items():
        pairs.append((f"after.{name}", written[f"after.{name}"][certain[name].numpy()], p.detach()[certain[name]]))
    return disagreements(pairs)


def main():
    options = parse_options()
    set_up(options.threads, options.onednn)
    written = Written(options.written)
    network = (PaddedClassifier if options.padded else MODELS[options.model])(written)
    clip = float(written.metadata.get("clip_norm", 0))
    problems = check(network, written, clip)
    form = faster_form(network, written.metadata)
    step = step_of(network, optimiser_of(network, written.metadata, **{form: True}), clip)
    del written
    serve(step, f"PyTorch {torch.__version__}", problems)


if __name__ == "__main__":
    main()
