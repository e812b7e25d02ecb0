"""Evaluates equations printed in LaTeX, in float64 NumPy: reads the text and nothing else.

sum     := ("-")? product (("+" | "-") product)*
product := factor ((\\odot | \\, | / | nothing) factor)*      a matrix acts on the factor after it
factor  := number | name ("^2")? | function "(" sum ("," sum)* ")" | function "{" sum "}"
         | "(" sum ")" | "[" sum (";" sum)* "]"
"""

import re

import numpy as np

TOKEN = re.compile(
    r"""\\frac\{1\}\{2\} | \\(?:tilde|hat|bar)\{\w\}_t | \\operatorname\{\w+\} | \\\w+ | \\,
    | [A-Za-z]'?_(?:\{[\w,-]+\}|\w)(?:\^\{\(\d+\)\})? | \d+(?:\.\d+)?(?:e-?\d+)? | \^2
    | [-+()\[\]{};,/]""",
    re.VERBOSE,
)
FUNCTIONS = {
    r"\sigma": lambda x: 1.0 / (1.0 + np.exp(-x)),
    r"\tanh": np.tanh,
    r"\exp": np.exp,
    r"\log": np.log,
    r"\max": np.maximum,
    r"\sqrt": np.sqrt,
    r"\operatorname{relu}": lambda x: np.maximum(x, 0.0),
    r"\operatorname{hardsigmoid}": lambda x: np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    r"\operatorname{softsign}": lambda x: x / (1.0 + np.abs(x)),
    r"\operatorname{softplus}": lambda x: np.logaddexp(x, 0.0),
    r"\operatorname{silu}": lambda x: x / (1.0 + np.exp(-x)),
    r"\operatorname{positivelinear}": lambda x: np.where(x >= 0, x + 0.5, 1 / (1 + np.exp(-x))),
    r"\operatorname{elu}": lambda x: np.where(x > 0, x, np.expm1(x)),
}


def evaluate(equations: str, values: dict) -> dict:
    """Returns `values` with what each line of an aligned environment defines."""
    body = equations.removeprefix("\\begin{aligned}\n").removesuffix("\n\\end{aligned}")
    values = dict(values)
    for line in body.split(" \\\\\n"):
        left, right = line.split(" &= ")
        values[left] = _Reader(right, values).all()
    return values


class _Reader:
    """Reads one right-hand side."""

    def __init__(self, text: str, values: dict):
        self.tokens = TOKEN.findall(text)
        left_over = TOKEN.sub("", text).strip()
        assert not left_over, f"not understood: {left_over!r} in {text!r}"
        self.values, self.at = values, 0

    def all(self):
        result = self.sum()
        assert self.at == len(self.tokens), f"left over: {self.tokens[self.at :]}"
        return result

    def peek(self) -> str | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self, expected: str | None = None) -> str:
        token = self.peek()
        assert token is not None and expected in (None, token), (expected, token)
        self.at += 1
        return token

    def sum(self):
        negative = self.peek() == "-"
        if negative:
            self.take()
        total = -self.product() if negative else self.product()
        while self.peek() in ("+", "-"):
            total = total + self.product() if self.take() == "+" else total - self.product()
        return total

    def product(self):
        result = self.factor()
        while self.peek() not in (None, "+", "-", ")", "]", ";", ",", "}"):
            divides = self.peek() == "/"
            if divides or self.peek() in (r"\odot", r"\,"):
                self.take()
            factor = self.factor()
            result = result / factor if divides else result * factor
        return result

    def factor(self):
        token = self.take()
        if token[0] in "WUR":
            return self.factor() @ self.values[token]
        if token in FUNCTIONS:
            closing = {"(": ")", "{": "}"}[self.take()]
            arguments = [self.sum()]
            while self.peek() == ",":
                self.take()
                arguments.append(self.sum())
            self.take(closing)
            return FUNCTIONS[token](*arguments)
        if token == "(":
            return self.closed(")")
        if token == "[":
            return self.window()
        if token == r"\frac{1}{2}":
            return 0.5
        value = float(token) if token[0].isdigit() else self.values[token]
        if self.peek() == "^2":
            self.take()
            return value * value
        return value

    def closed(self, bracket: str):
        result = self.sum()
        self.take(bracket)
        return result

    def window(self):
        parts = [self.sum()]
        while self.peek() == ";":
            self.take()
            parts.append(self.sum())
        self.take("]")
        return np.concatenate(parts, axis=-1)
