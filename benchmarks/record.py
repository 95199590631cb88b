"""The record of a run: a markdown file that says when, where, with what and how, and that grows row by row."""

import datetime
import os
import subprocess
import sys
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
    """The lines of lscpu that matter here."""
    fields = {}
    for line in output_of("lscpu").splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    flags = fields.get("Flags", "").split()
    lines = [f"- {name}: {fields[name]}" for name in LSCPU if name in fields]
    return [*lines, f"- Flags (of {', '.join(FLAGS)}): {' '.join(flag for flag in FLAGS if flag in flags)}"]


def revision():
    commit = output_of("git", "rev-parse", "--short", "HEAD") or "unknown"
    return f"{commit} with changes that are not committed" if output_of("git", "status", "--porcelain") else commit


def free_name(path):
    """`path`, with a number if that record exists: records are never overwritten."""
    number = 2
    free = path
    while os.path.lexists(free):
        free = path.with_stem(f"{path.stem}-{number}")
        number += 1
    return free


def tell(text, stream):
    """Prints progress; if the stream is closed, the run goes on without printing."""
    try:
        print(text, file=stream, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class Record:
    """Lines go to the terminal and to a temporary file, which is renamed at the end, however the run ends."""

    def __init__(self, path):
        self.wanted = Path(path)
        self.path = free_name(self.wanted)
        # Taken before the run adds a file to the repository.
        self.revision = revision()
        self.temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = self.temporary.open("x", encoding="utf-8")
        self.failures = 0

    def head(self, command, method, program):
        """`program`: which one is measured, None if this run has built it."""
        self.lines(f"# Speed, {datetime.date.today()}", "", *machine())
        load = ", ".join(f"{load:.2f}" for load in os.getloadavg())
        self.lines(f"- Load averages at the start: {load}")
        if program is None:
            self.lines(f"- Revision: {self.revision}", f"- Compiler: {output_of('rustc', '--version')}")
        else:
            self.lines(f"- Revision of the scripts: {self.revision}", f"- Program: {program}, given with --bench")
        self.lines("", f"    {command}", "", method)

    def section(self, title, text, columns, numbers):
        """Begins a table; the columns in `numbers` are aligned right."""
        self.lines("", f"## {title}", "", text, "", f"| {' | '.join(columns)} |")
        self.lines("|" + "|".join("--:" if column in numbers else "---" for column in columns) + "|")

    def row(self, *cells):
        self.lines(f"| {' | '.join(map(str, cells))} |")

    def failed(self, columns, failure, *cells):
        """A row with the reason in bold instead of figures."""
        self.failures += 1
        reason = " ".join(str(failure).split()).replace("|", "/")
        self.row(*cells, f"**{reason}**", *[""] * (columns - len(cells) - 1))

    def lines(self, *lines):
        text = "\n".join(lines)
        self.file.write(text + "\n")
        self.file.flush()
        tell(text, sys.stdout)

    def finish(self):
        """Gives the record its name, or the next free one if that was taken during the run."""
        self.file.close()
        while True:
            try:
                os.link(self.temporary, self.path)
                self.temporary.unlink()
                break
            except FileExistsError:
                tell(f"{self.path} was created by another process during the run and is left alone", sys.stderr)
                self.path = free_name(self.wanted)
            except OSError:
                # A file system without hard links: another process may still take the name before the renaming.
                self.path = free_name(self.wanted)
                self.temporary.rename(self.path)
                break

    def discard(self):
        self.file.close()
        self.temporary.unlink()
