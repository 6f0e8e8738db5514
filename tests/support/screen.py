"""What a terminal shows after it has got a text: a terminal of fixed width, without colours."""

import re

TOKEN = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b\]8;[^\x1b\x07]*(?:\x1b\\|\x07)|(.)", re.DOTALL)


def screen(text, columns):
    """The lines on the screen after `text`, without trailing blanks. A line that is too long goes on in the next."""
    lines, row, column = [[]], 0, 0
    for numbers, command, letter in TOKEN.findall(text):
        if command == "A":  # the cursor goes up
            row = max(0, row - int(numbers or 1))
        elif command == "K":  # the line is erased
            lines[row] = []
        elif letter == "\r":
            column = 0
        elif letter and (letter == "\n" or column == columns):
            row, column = row + 1, 0
        if letter and letter not in "\r\n":
            lines += [[] for _ in range(row + 1 - len(lines))]
            lines[row] += [" "] * (column + 1 - len(lines[row]))
            lines[row][column] = letter
            column += 1
        lines += [[] for _ in range(row + 1 - len(lines))]
    return ["".join(line).rstrip() for line in lines]
