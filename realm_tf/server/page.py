"""The page that people see at `/`: one HTML file and the headers that go with it."""

import base64
import hashlib
import pathlib
import re

FILE = pathlib.Path(__file__).with_name("page.html")


class Page:
    """The file's bytes, and headers under which nothing but its own script and style can run or load.

    The Content-Security-Policy names both by hash. It forbids every other source, frames around the page, and (Trusted
    Types) turning strings into markup: should a text of a document ever reach `innerHTML`, the browser refuses.
    """

    def __init__(self):
        self.body = FILE.read_bytes()
        self.headers = {
            "Content-Security-Policy": "; ".join(
                [
                    "default-src 'none'",
                    f"script-src {_hash_of('script', self.body)}",
                    f"style-src {_hash_of('style', self.body)}",
                    "img-src data:",  # the icon
                    "connect-src 'self'",
                    "base-uri 'none'",
                    "form-action 'none'",
                    "frame-ancestors 'none'",
                    "require-trusted-types-for 'script'",
                    "trusted-types 'none'",
                ]
            ),
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-cache",
            "Vary": "Accept",
        }


def wants_page(accept):
    """True if a client with this Accept header is a browser that opens an address: it names HTML, others do not."""
    types = {part.split(";")[0].strip().lower() for part in accept.split(",")}
    return bool(types & {"text/html", "application/xhtml+xml"})


def _hash_of(tag, body):
    """The source expression of CSP that allows the one inline element `tag`."""
    (text,) = re.findall(rb"<%s>(.*?)</%s>" % (tag.encode(), tag.encode()), body, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'"
