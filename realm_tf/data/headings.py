"""Which lines of a text file are its title, and what is left: Markdown's headings, or the first line of plain text.

Markdown is read as CommonMark has it as far as that matters here: what looks like a heading within a code fence, an
indented block, HTML or front matter is none. Lines that are no title are never lost.
"""

import re

_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(\S.*)")
_CLOSING = re.compile(r"(^|[ \t]+)#+[ \t]*$")
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*")
# A fence may begin behind the marks of lists and quotations. Behind backticks no further one may follow.
_MARKS = r"[ \t]{0,3}(?:(?:[-*+]|\d{1,9}[.)])[ \t]+|>[ \t]?)*"
_FENCE = re.compile(_MARKS + r"(`{3,}(?=[^`]*$)|~{3,})")
_CLOSED_FENCE = re.compile(r"[ \t>]*(`{3,}|~{3,})[ \t]*")
_HTML = {"<!--": "-->", "<pre": "</pre>", "<script": "</script>", "<style": "</style>", "<textarea": "</textarea>"}
_HTML_START = re.compile(r" {0,3}(<!--|<(?:pre|script|style|textarea)(?=[\s>]|$))", re.IGNORECASE)
_NO_PARAGRAPH = re.compile(r"(?: {4}|\t)| {0,3}(?:[-*+][ \t]|\d{1,9}[.)][ \t]|>|\||([-*_])[ \t]*(?:\1[ \t]*){2,}$)")
_FRONT_MATTER = {"---": ("---", "..."), "+++": ("+++",)}
_FRONT_TITLE = re.compile(r"""title[ \t]*[:=][ \t]*(["']?)(.*?)\1[ \t]*""", re.IGNORECASE)
_MOST_OF_A_TITLE = 80  # characters of a line that no mark makes a title
_SENTENCE_ENDS = (*".!?,;:。！？，；：…।؟",)
_OPENING = "\"'“‘„«¿¡(["  # what a title may begin with, beside letters and digits: comments begin with other marks


def split_markdown(text: str) -> tuple[str, str]:
    """(title, the text without it); the title is "" where there is none.

    It is the first heading of level 1, else the title in the front matter, else the first heading of any level, else
    a first line by itself that is short and no sentence.
    """
    lines = text.split("\n")
    begin = _front_matter(lines)
    headings = list(_headings(lines, begin))
    front = next((i for i in range(begin) if _front_title(lines[i])), None)
    chosen = next((heading for heading in headings if heading[0] == 1), None)
    if chosen is None and front is not None:
        return _without(lines, front, front + 1, _front_title(lines[front]))
    if chosen is None and headings:
        chosen = headings[0]
    if chosen is not None:
        _, start, end, title = chosen
        return _without(lines, start, end, title)
    first = _first_line(lines, begin)
    if first is None or any(mark.match(lines[first]) for mark in (_NO_PARAGRAPH, _FENCE, _HTML_START)):
        return "", text
    return _by_first_line(lines, first)


def split_plain(text: str) -> tuple[str, str]:
    """`split_markdown` for text without marks: the title is a first line that is short and no sentence."""
    lines = text.split("\n")
    first = _first_line(lines, 0)
    return ("", text) if first is None else _by_first_line(lines, first)


def _first_line(lines, begin):
    return next((i for i in range(begin, len(lines)) if lines[i].strip()), None)


def _by_first_line(lines, first):
    title = lines[first].strip()
    if not _is_short(title) or not (title[0].isalnum() or title[0] in _OPENING):
        return "", "\n".join(lines)
    if first + 1 < len(lines) and lines[first + 1].strip():
        # It stands by itself no more than any line of a poem or a list: the text keeps it.
        return title, "\n".join(lines)
    return _without(lines, first, first + 1, title)


def _without(lines, start, end, title):
    around = ("\n".join(part).strip("\n") for part in (lines[:start], lines[end:]))
    return title, "\n\n".join(part for part in around if part.strip())


def _front_matter(lines):
    """How many lines of front matter there are at the top; 0 where it is not closed."""
    ends = _FRONT_MATTER.get(lines[0].rstrip())
    if not ends:
        return 0
    return next((i + 1 for i in range(1, len(lines)) if lines[i].rstrip() in ends), 0)


def _front_title(line):
    match = _FRONT_TITLE.fullmatch(line)
    return match.group(2).strip() if match else ""


def _headings(lines, begin):
    """Yields (level, first line, last line + 1, text) of the headings from line `begin` on."""
    fence = html_end = ""  # what ends the code or the HTML that is open
    paragraph, may_begin = None, True  # the first line of the paragraph that goes on; whether one may begin here
    for i in range(begin, len(lines)):
        line = lines[i]
        is_open, may_begin_next, found_heading = bool(fence or html_end), True, None
        if fence:
            closed = _CLOSED_FENCE.fullmatch(line)
            fence = "" if closed and closed.group(1).startswith(fence) else fence
        elif html_end:
            html_end = "" if html_end in line.lower() else html_end
        elif opened := _FENCE.match(line):
            fence = opened.group(1)
        elif opened := _HTML_START.match(line):
            end = _HTML[opened.group(1).lower()]
            html_end = "" if end in line[opened.end() :].lower() else end
        elif found := _HEADING.fullmatch(line):
            found_heading = len(found.group(1)), i, _CLOSING.sub("", found.group(2)).strip()
        elif paragraph is not None and (found := _UNDERLINE.fullmatch(line)):
            title = " ".join(part.strip() for part in lines[paragraph:i])
            # Many mean a line across the page by hyphens under a paragraph: that one is no title, and stays.
            if found.group(1)[0] == "=" or _is_short(title):
                found_heading = 1 if found.group(1)[0] == "=" else 2, paragraph, title
        elif line.strip():
            if paragraph is None and may_begin and not _NO_PARAGRAPH.match(line):
                paragraph = i
            may_begin_next = False
        if may_begin_next or is_open:
            paragraph = None
        may_begin = may_begin_next
        if found_heading and found_heading[2]:
            level, start, title = found_heading
            yield level, start, i + 1, title


def _is_short(title):
    return len(title) <= _MOST_OF_A_TITLE and not title.endswith(_SENTENCE_ENDS)
