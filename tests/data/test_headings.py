"""Which lines are titles. What is right by CommonMark was looked up there: https://spec.commonmark.org/0.31.2/."""

import pytest

from realm_tf.data.headings import split_markdown, split_plain

BODY = "Tarragon was brought by Ida Brandt in 1911."

# {case: (Markdown, title, text that is left)}
MARKDOWN = {
    "comment in a fence": (f"```sh\n# fetch\n```\n\n# Herbs\n\n{BODY}", "Herbs", f"```sh\n# fetch\n```\n\n{BODY}"),
    "tildes": (f"~~~\n# fetch\n~~~\n# Herbs\n{BODY}", "Herbs", f"~~~\n# fetch\n~~~\n\n{BODY}"),
    "a longer fence": (f"````\n```\n# a\n```\n# b\n````\n# Herbs\n{BODY}", "Herbs",
                       f"````\n```\n# a\n```\n# b\n````\n\n{BODY}"),
    "a fence in a list": (f"- ```\n  # a\n  ```\n\n# Herbs\n{BODY}", "Herbs", f"- ```\n  # a\n  ```\n\n{BODY}"),
    "a fence in a quotation": (f"> ```\n> # a\n> ```\n\n# Herbs\n{BODY}", "Herbs", f"> ```\n> # a\n> ```\n\n{BODY}"),
    "no fence: code within a line": (f"```a``` b\n# Herbs\n{BODY}", "Herbs", f"```a``` b\n\n{BODY}"),
    "a fence that is never closed": (f"```\n# fetch\n{BODY}", "", f"```\n# fetch\n{BODY}"),
    "indented code": (f"    # fetch\n\n# Herbs\n{BODY}", "Herbs", f"    # fetch\n\n{BODY}"),
    "a comment of HTML": (f"<!--\n# draft\n-->\n# Herbs\n{BODY}", "Herbs", f"<!--\n# draft\n-->\n\n{BODY}"),
    "pre": (f"<pre>\n# a\n</pre>\n# Herbs\n{BODY}", "Herbs", f"<pre>\n# a\n</pre>\n\n{BODY}"),
    "underlined by =": (f"Growing herbs\n===\n\n{BODY}", "Growing herbs", BODY),
    "underlined, two lines": (f"Growing\nherbs\n===\n{BODY}", "Growing herbs", BODY),
    "underlined by -": (f"Growing herbs\n---\n{BODY}", "Growing herbs", BODY),
    "a line of hyphens below a sentence": (f"{BODY}\n---\nMore.", "", f"{BODY}\n---\nMore."),
    "a line of hyphens by itself": (f"{BODY}\n\n---\n\n# Herbs\nMore.", "Herbs", f"{BODY}\n\n---\n\nMore."),
    "= below a list": (f"- herbs\n===\n{BODY}", "", f"- herbs\n===\n{BODY}"),
    "front matter": (f"---\ntitle: Herbs\n# draft\n---\n{BODY}", "Herbs", f"---\n\n# draft\n---\n{BODY}"),
    "front matter, a quoted title": (f'---\ntitle: "C# and F#"\n---\n{BODY}', "C# and F#", f"---\n\n---\n{BODY}"),
    "TOML": (f"+++\ntitle = 'Herbs'\n# draft\n+++\n{BODY}", "Herbs", f"+++\n\n# draft\n+++\n{BODY}"),
    "front matter, then a heading": (f"---\n# draft\ndate: 1911\n---\n# Herbs\n{BODY}", "Herbs",
                                     f"---\n# draft\ndate: 1911\n---\n\n{BODY}"),
    "front matter comes before sections": (f"---\ntitle: Herbs\n---\n## Soil\n{BODY}", "Herbs",
                                           f"---\n\n---\n## Soil\n{BODY}"),
    "no front matter: not closed": (f"---\n# Herbs\n{BODY}", "Herbs", f"---\n\n{BODY}"),
    "a level below comes first": (f"## Soil\n\n# Herbs\n{BODY}", "Herbs", f"## Soil\n\n{BODY}"),
    "only a level below": (f"## Soil\n{BODY}", "Soil", BODY),
    "closing marks": (f"# Herbs ##\n{BODY}", "Herbs", BODY),
    "C#": (f"# C#\n{BODY}", "C#", BODY),
    "a number sign of its own": (f"# #1 herb\n{BODY}", "#1 herb", BODY),
    "no heading: seven": (f"####### Herbs\n{BODY}", "", f"####### Herbs\n{BODY}"),
    "no heading: no blank": (f"#herbs\n{BODY}", "", f"#herbs\n{BODY}"),
    "an empty heading": (f"#\n# Herbs\n{BODY}", "Herbs", f"#\n\n{BODY}"),
    "a first line by itself": (f"Herbs\n\n{BODY}", "Herbs", BODY),
}  # fmt: skip


@pytest.mark.parametrize("case", MARKDOWN)
def test_markdown(case):
    text, title, rest = MARKDOWN[case]
    assert split_markdown(text) == (title, rest)


# {case: (text, title, text that is left)}
PLAIN = {
    "comments": (f"# fetch the seeds first\n./seeds\n# {BODY}", "", f"# fetch the seeds first\n./seeds\n# {BODY}"),
    "a comment by itself": (f"# fetch\n\n{BODY}", "", f"# fetch\n\n{BODY}"),
    "a comment below": (f"{BODY}\n\n# Sown in May.", "", f"{BODY}\n\n# Sown in May."),
    "other marks of comments": (f"// fetch\n\n{BODY}", "", f"// fetch\n\n{BODY}"),
    "no underline": (f"{BODY}\n===\nMore.", "", f"{BODY}\n===\nMore."),
    "a first line by itself": (f"Herbs\n\n{BODY}", "Herbs", BODY),
    "in quotation marks": (f"“Herbs”\n\n{BODY}", "“Herbs”", BODY),
    "a first line of more": (f"Herbs\n{BODY}", "Herbs", f"Herbs\n{BODY}"),
    "a sentence": (f"{BODY}\n\nMore.", "", f"{BODY}\n\nMore."),
    "a sentence of another script": ("他来了。\n\nMore.", "", "他来了。\n\nMore."),
}


@pytest.mark.parametrize("case", PLAIN)
def test_plain(case):
    text, title, rest = PLAIN[case]
    assert split_plain(text) == (title, rest)
