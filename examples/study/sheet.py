"""Tables: all columns on a page, and what fits into the window in a terminal."""

import re
from dataclasses import dataclass
from html import escape, unescape

from rich.table import Table

TEXTS = 2  # columns of text, which wrap; the others are numbers, which do not


@dataclass(frozen=True)
class Sheet:
    """A table for the terminal and for a page.

    Args:
        title: a line above it.
        heads: of the columns; the first two are text, the others numbers.
        rows: a text for each column.
        optional: columns that a narrow terminal does without, the first of them first.
    """

    title: str
    heads: list[str]
    rows: list[list[str]]
    optional: tuple[str, ...] = ()

    def rich(self, width: int = 80) -> Table:
        """Returns the table for a terminal of `width` columns. No name in it is cut.

        Words of the first two columns wrap. If that is not enough, optional columns are left out;
        a line below the table names them.
        """
        columns = list(range(len(self.heads)))
        left_out = [head for head in self.optional if head in self.heads]
        dropped = []
        while left_out and self._least_width(columns) > width:
            dropped.append(left_out.pop(0))
            columns.remove(self.heads.index(dropped[-1]))
        caption = f"the page also has: {', '.join(dropped)}" if dropped else None
        table = Table(title=self.title, caption=caption)
        for column in columns:
            text = column < TEXTS
            side = {"overflow": "fold"} if text else {"justify": "right", "no_wrap": True}
            table.add_column(self.heads[column], **side)
        for row in self.rows:
            table.add_row(*(row[column] for column in columns))
        return table

    def _least_width(self, columns: list[int]) -> int:
        """Returns the width of these columns when every text is broken between its words."""
        total = 1
        for column in columns:
            texts = [self.heads[column], *(row[column] for row in self.rows)]
            texts = [word for text in texts for word in text.split()] if column < TEXTS else texts
            total += 3 + max(map(len, texts))
        return total

    def markdown(self) -> str:
        """Returns the table for a page, folded: its title is to be seen, and opens it."""
        marks = [*["---"] * TEXTS, *["---:"] * (len(self.heads) - TEXTS)]
        lines = (f"| {' | '.join(line)} |" for line in [self.heads, marks, *self.rows])
        head = f'<details markdown="1">\n<summary>{escape(self.title)}</summary>'
        return "\n".join([head, "", *lines, "", "</details>"])


def read_sheets(page: str) -> list[Sheet]:
    """Returns the tables of a page: folded ones, and those below a title in bold."""
    found = re.findall(r"^(?:<summary>(.*)</summary>|\*\*(.*)\*\*)\n\n((?:\|.*\n)+)", page, re.M)
    return [_read(unescape(folded or bold), lines) for folded, bold, lines in found]


def _read(title: str, lines: str) -> Sheet:
    split = [[cell.strip() for cell in line[1:-1].split(" |")] for line in lines.splitlines()]
    heads, _, *rows = [line[: len(split[0])] for line in split]
    return Sheet(title, heads, rows)
