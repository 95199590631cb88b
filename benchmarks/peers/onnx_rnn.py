"""ONNX Runtime's side of `throughline-bench --mode forward|step`: the stack as one node of ONNX for each layer.

forward  whole sequences; sequences of different lengths as a padded batch and their lengths.
step     a model of one step with the states as inputs and outputs; two sets of states are bound to it in turn, so that
         nothing is copied from one step to the next.

Inputs, outputs and weights are bound before the clock starts. ONNX orders gates differently from PyTorch: LSTM i, o,
f, c and GRU z, r, h; GRUs reset after the product (linear_before_reset).
"""

import argparse

import numpy as np
import onnxruntime
from measuring import Written, disagreements, serve
from onnx import TensorProto, checker, helper, numpy_helper

OPERATORS = {"lstm": "LSTM", "gru": "GRU", "rnn": "RNN"}
# The index in PyTorch's order of each gate in ONNX's order.
GATES = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2], "rnn": [0]}
# The first with LSTM, GRU and RNN in this form, and its file format version.
OPERATOR_SET, FORMAT = 14, 8


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--written", required=True, metavar="FILE", help="what throughline-bench --write wrote")
    parser.add_argument("--cell", choices=OPERATORS, required=True)
    parser.add_argument("--mode", choices=["forward", "step"], required=True)
    parser.add_argument("--threads", type=int, required=True)
    return parser.parse_args()


class Stack:
    """A stack as an ONNX model, and its states."""

    def __init__(self, cell, written):
        self.cell = cell
        self.written = written
        self.directions = ["", "_reverse"] if "weight_ih_l0_reverse" in written else [""]
        self.hidden = written["weight_hh_l0"].shape[1]
        self.layers = 0
        while f"weight_ih_l{self.layers}" in written:
            self.layers += 1
        self.kinds = ["h", "c"] if cell == "lstm" else ["h"]

    def weights(self, layer):
        """W [D, G·H, I], R [D, G·H, H] and B [D, 2·G·H] of a layer."""

        def gathered(kind):
            each = [self.written[f"{kind}_l{layer}{direction}"] for direction in self.directions]
            gates = GATES[self.cell]
            return np.stack([np.concatenate([np.split(array, len(gates))[gate] for gate in gates]) for array in each])

        biases = np.concatenate([gathered("bias_ih"), gathered("bias_hh")], axis=1)
        return {"W": gathered("weight_ih"), "R": gathered("weight_hh"), "B": biases}

    def model(self, time, batch, given_states, ragged):
        """A model of `time` steps with the outputs `y`, `h0_n`, `c0_n`, `h1_n`, ...; `given_states` makes the states
        before them inputs `h0`, `c0`, `h1`, ..."""
        directions, width = len(self.directions), self.written["weight_ih_l0"].shape[1]
        nodes, constants = [], []
        state_shape = [directions, batch, self.hidden]
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [time, batch, width])]
        outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, [time, batch, directions * self.hidden])]
        if ragged:
            inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, [batch]))
        if directions == 2:
            constants.append(numpy_helper.from_array(np.array([0, 0, -1]), "side_by_side"))
        else:
            constants.append(numpy_helper.from_array(np.array([1]), "direction"))
        attributes = {"hidden_size": self.hidden, "direction": "bidirectional" if directions == 2 else "forward"}
        if self.cell == "gru":
            attributes["linear_before_reset"] = 1
        x = "x"
        for layer in range(self.layers):
            for name, value in self.weights(layer).items():
                constants.append(numpy_helper.from_array(value, f"{name}{layer}"))
            given = [f"{kind}{layer}" for kind in self.kinds]
            after = [f"{kind}{layer}_n" for kind in self.kinds]
            if given_states:
                inputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, state_shape) for name in given]
            outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, state_shape) for name in after]
            arguments = [x, f"W{layer}", f"R{layer}", f"B{layer}", "lengths" if ragged else ""]
            arguments += given if given_states else []
            nodes.append(helper.make_node(OPERATORS[self.cell], arguments, [f"apart{layer}", *after], **attributes))
            # [T, D, B, H] to [T, B, D·H]
            x = "y" if layer + 1 == self.layers else f"y{layer}"
            if directions == 2:
                nodes.append(helper.make_node("Transpose", [f"apart{layer}"], [f"beside{layer}"], perm=[0, 2, 1, 3]))
                nodes.append(helper.make_node("Reshape", [f"beside{layer}", "side_by_side"], [x]))
            else:
                nodes.append(helper.make_node("Squeeze", [f"apart{layer}", "direction"], [x]))
        graph = helper.make_graph(nodes, "stack", inputs, outputs, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPERATOR_SET)], ir_version=FORMAT)
        checker.check_model(model)
        return model.SerializeToString()

    def states(self, batch):
        """Zeros for the states of every layer, by name."""
        names = [f"{kind}{layer}" for layer in range(self.layers) for kind in self.kinds]
        return {name: np.zeros((len(self.directions), batch, self.hidden), np.float32) for name in names}


def session_of(model, threads):
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.inter_op_num_threads = 1
    settings.add_session_config_entry("session.set_denormal_as_zero", "1")
    settings.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    return onnxruntime.InferenceSession(model, settings, providers=["CPUExecutionProvider"])


def bound(session, inputs, outputs):
    """A call of `session` that reads and writes these arrays where they are."""
    binding = session.io_binding()
    for name, value in inputs.items():
        binding.bind_input(name, "cpu", 0, value.dtype.type, value.shape, value.ctypes.data)
    for name, value in outputs.items():
        binding.bind_output(name, "cpu", 0, value.dtype.type, value.shape, value.ctypes.data)
    return lambda: session.run_with_iobinding(binding)


def after(states):
    return {f"{name}_n": value for name, value in states.items()}


def forward(stack, written, threads):
    """What to time, and what the check compares."""
    sizes, rows, lengths = written["batch_sizes"], written["x"], written["lengths"]
    time, batch, ragged = len(sizes), len(lengths), bool(sizes.min() < sizes.max())
    real = np.arange(batch) < sizes[:, None]
    x = np.zeros((time, batch, rows.shape[1]), np.float32)
    x[real] = rows
    inputs = {"x": x}
    if ragged:
        inputs["lengths"] = lengths[written["order"]].astype(np.int32)
    states = stack.states(batch)
    y = np.zeros((time, batch, len(stack.directions) * stack.hidden), np.float32)
    session = session_of(stack.model(time, batch, False, ragged), threads)
    run = bound(session, inputs, {"y": y, **after(states)})
    run()

    pairs = [("y", written["y"], y[real])]
    for kind in stack.kinds:
        by_column = np.concatenate([states[f"{kind}{layer}"] for layer in range(stack.layers)])
        by_sequence = np.empty_like(by_column)
        by_sequence[:, written["order"]] = by_column
        pairs.append((f"{kind}_n", written[f"{kind}_n"], by_sequence))
    # The arrays must live as long as what is bound to them.
    return run, disagreements(pairs), (inputs, states, y)


def step(stack, written, threads):
    steps, batch, width = written["x"].shape
    x, y = np.zeros((1, batch, width), np.float32), np.zeros((1, batch, stack.hidden), np.float32)
    even, odd = stack.states(batch), stack.states(batch)
    session = session_of(stack.model(1, batch, True, False), threads)
    calls = [
        bound(session, {"x": x, **before}, {"y": y, **after(behind)}) for before, behind in [(even, odd), (odd, even)]
    ]
    turn = 0

    def run():
        nonlocal turn
        calls[turn]()
        turn ^= 1

    found = []
    for t in range(steps):
        x[0] = written["x"][t]
        run()
        found.append(y[0].copy())
    return run, disagreements([("y", written["y"], np.stack(found))]), (x, y, even, odd)


def main():
    options = parse_options()
    written = Written(options.written)
    stack = Stack(options.cell, written)
    run, problems, _arrays = (forward if options.mode == "forward" else step)(stack, written, options.threads)
    del written, stack.written
    serve(run, f"ONNX Runtime {onnxruntime.__version__}", problems)


if __name__ == "__main__":
    main()
