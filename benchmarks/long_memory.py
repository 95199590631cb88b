#!/usr/bin/env python3
"""Writes the data of three problems of long memory (Hochreiter and Schmidhuber 1997; Arjovsky et al. 2016).

    python3 benchmarks/long_memory.py FOLDER [--adding-length 400] [--copy-delay 50] [--order-length 100] [--seed 1]

adding-{train,validation,test}.ts   two channels of numbers and marks; to predict: the sum of the two numbers marked, of which
                                    one is in the first and one in the second half
copy-{train,validation,test}.txt    ten symbols out of eight, a delay, a sign to begin, and then the same ten as tags
order-{train,validation,test}.tsv   letters with X or Y at two places far apart; the class is their order

Recipes are benchmarks/long_memory/{adding,copy,order}.toml.
"""

import argparse
import pathlib
import random

SYMBOLS = "abcdefgh"
COPIED = 10
SPLITS = [("train", 10_000), ("validation", 500), ("test", 1_000)]


def adding(draw, length):
    numbers = [draw.random() for _ in range(length)]
    marked = {draw.randrange(length // 2), draw.randrange(length // 2, length)}
    marks = ["1" if step in marked else "0" for step in range(length)]
    total = sum(numbers[step] for step in marked)
    return f"{','.join(f'{number:.5f}' for number in numbers)}:{','.join(marks)}:{total:.5f}\n"


def copy(draw, delay):
    symbols = [draw.choice(SYMBOLS) for _ in range(COPIED)]
    words = symbols + ["-"] * delay + ["?"] + ["-"] * COPIED
    tags = ["-"] * (COPIED + delay + 1) + symbols
    return "".join(f"{word} {tag}\n" for word, tag in zip(words, tags)) + "\n"


def order(draw, length):
    letters = [draw.choice("abcd") for _ in range(length)]
    first, second = draw.choice("XY"), draw.choice("XY")
    letters[draw.randrange(length // 10, length // 5)] = first
    letters[draw.randrange(length // 2, 6 * length // 10)] = second
    return f"{first}{second}\t{''.join(letters)}\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--adding-length", type=int, default=400)
    parser.add_argument("--copy-delay", type=int, default=50)
    parser.add_argument("--order-length", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    problems = [
        ("adding", "ts", "@targetLabel true\n@data\n", adding, given.adding_length),
        ("copy", "txt", "", copy, given.copy_delay),
        ("order", "tsv", "label\ttext\n", order, given.order_length),
    ]
    for name, ending, header, example, size in problems:
        for split, count in SPLITS:
            draw = random.Random(f"{name} {split} {given.seed}")
            with open(given.folder / f"{name}-{split}.{ending}", "w") as file:
                file.write(header)
                file.writelines(example(draw, size) for _ in range(count))


if __name__ == "__main__":
    main()
