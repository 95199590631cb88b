"""Draws a training run from what it printed to the terminal.

    script --quiet --command "target/release/throughline train" typescript
    python3 docs/run_to_svg.py typescript > docs/run.svg

Every line of the picture is a line of the run; three dots stand for lines left out.
"""

import html
import re
import sys

COMMAND = "$ cargo run --release -- train"
FONT_SIZE, LINE_HEIGHT, CHARACTER, MARGIN = 13, 18, 7.82, 16
COLUMNS = 104
SAMPLE_LINES = 8
COLOURS = {"command": "#7ee787", "text": "#8b949e", "evaluation": "#e6edf3", "sample": "#a5d6ff", "bar": "#d2a8ff"}


def kind_of(line):
    if line.startswith(("█", "░")):
        return "bar"
    if line.startswith("  |"):
        return "sample"
    return "evaluation" if line.startswith(("update", "validation", "test")) and " loss " in line else "text"


def read(path):
    """The (kind, line) pairs of a typescript, without control sequences."""
    with open(path, encoding="utf-8", newline="") as file:
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.read())
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", text) if not line.startswith("Script ")]
    return [(kind_of(line), line) for line in lines if line]


def blocks_of(lines):
    """The lines before the first evaluation; one block for each evaluation, with its sample and the last bar before it; and
    the summary."""
    preamble, evaluations, bar = [], [], None
    for kind, line in lines:
        if kind == "bar":
            bar = line
        elif kind == "evaluation" and line.startswith("update"):
            evaluations.append({"line": line, "sample": [], "bar": bar})
        elif kind == "sample":
            evaluations[-1]["sample"].append(line)
        elif not evaluations:
            preamble.append(line)
    summary = [line for kind, line in lines if not line.startswith("update") and kind == "evaluation"]
    summary += [line for kind, line in lines if "everything is in" in line]
    return [line for line in preamble if line not in summary], evaluations, summary


def picture(lines):
    preamble, evaluations, summary = blocks_of(lines)
    sampled = [e for e in evaluations if e["sample"]]
    rows = [("command", COMMAND)] + [("text", line) for line in preamble]
    first, middle, last = sampled[0], sampled[len(sampled) // 3], sampled[-1]
    for evaluation in (first, middle, last):
        rows += [("text", ""), ("evaluation", evaluation["line"])]
        sample = evaluation["sample"]
        rows += [("sample", line) for line in sample[:SAMPLE_LINES]]
        rows += [("sample", "  | ...")] if len(sample) > SAMPLE_LINES else []
        if evaluation is not last:
            bar = evaluations[evaluations.index(evaluation) + 1]["bar"]
            rows += [("text", "..."), ("bar", bar)]
    return rows + [("text", "")] + [("evaluation", line) for line in summary]


def svg(rows):
    width, height = COLUMNS * CHARACTER + 2 * MARGIN, len(rows) * LINE_HEIGHT + 2 * MARGIN
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" font-size="{FONT_SIZE}"'
    yield '  font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace">'
    yield f'<rect width="100%" height="100%" rx="8" fill="#0d1117"/>'
    for index, (kind, line) in enumerate(rows):
        line = line if len(line) <= COLUMNS else line[: COLUMNS - 3] + "..."
        y = MARGIN + FONT_SIZE + index * LINE_HEIGHT
        if line:
            text = html.escape(line).replace(" ", "\u00a0")
            yield f'<text x="{MARGIN}" y="{y}" fill="{COLOURS[kind]}">{text}</text>'
    yield "</svg>"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print("\n".join(svg(picture(read(sys.argv[1])))))


if __name__ == "__main__":
    main()
