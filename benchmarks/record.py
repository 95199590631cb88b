"""The record of a run: a markdown file that says when, where, with what and how, and that grows row by row."""

import datetime
import os
import subprocess
from pathlib import Path

ROOT = Path(__file__).parent.parent
LSCPU = ["Architecture", "Model name", "CPU(s)", "Thread(s) per core", "L1d cache", "L2 cache", "L3 cache"]
FLAGS = ["avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16"]


def output_of(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout.strip()
    except OSError:
        return ""


def machine():
    """What lscpu says that matters here."""
    facts = {}
    for line in output_of("lscpu").splitlines():
        name, _, value = line.partition(":")
        facts[name.strip()] = value.strip()
    flags = facts.get("Flags", "").split()
    lines = [f"- {name}: {facts[name]}" for name in LSCPU if name in facts]
    return [*lines, f"- Flags (of {', '.join(FLAGS)}): {' '.join(flag for flag in FLAGS if flag in flags)}"]


def revision():
    commit = output_of("git", "rev-parse", "--short", "HEAD") or "unknown"
    return f"{commit} with changes that are not committed" if output_of("git", "status", "--porcelain") else commit


class Record:
    """Lines go to the terminal and to a temporary file, which takes its name at the end, however the run ends."""

    def __init__(self, path):
        self.path = Path(path)
        # Before there is a file of this run in the repository.
        self.revision = revision()
        self.temporary = self.path.with_name(f".{self.path.name}.part")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = self.temporary.open("w")
        self.failures = 0

    def head(self, command, method):
        self.lines(f"# Speed, {datetime.date.today()}", "", *machine())
        load = ", ".join(f"{load:.2f}" for load in os.getloadavg())
        self.lines(f"- Load averages at the start: {load}", f"- Revision: {self.revision}")
        self.lines(f"- Compiler: {output_of('rustc', '--version')}", "", f"    {command}", "", method)

    def section(self, title, text, columns, numbers):
        """Begins a table; the columns in `numbers` are set to the right."""
        self.lines("", f"## {title}", "", text, "", f"| {' | '.join(columns)} |")
        self.lines("|" + "|".join("--:" if column in numbers else "---" for column in columns) + "|")

    def row(self, *cells):
        self.lines(f"| {' | '.join(map(str, cells))} |")

    def failed(self, columns, failure, *cells):
        """A row without figures, which cannot be overlooked."""
        self.failures += 1
        reason = " ".join(str(failure).split()).replace("|", "/")
        self.row(*cells, f"**{reason}**", *[""] * (columns - len(cells) - 1))

    def lines(self, *lines):
        for line in lines:
            print(line, flush=True)
            self.file.write(line + "\n")
        self.file.flush()

    def finish(self):
        self.file.close()
        os.replace(self.temporary, self.path)
