"""Asks a server over REST, with Python's standard library alone.

  python deploy/clients/rest_client.py --server=127.0.0.1:8501 "Who discovered radium?" "Where was she born?"
"""

import argparse
import json
import sys
import urllib.error
import urllib.request


def ask(server, questions, timeout_s=30):
    """One dictionary a question, with a list for each output of the model. Raises `RuntimeError` with its reason."""
    request = urllib.request.Request(
        f"http://{server}/v1/models/realm:predict",
        data=json.dumps({"instances": questions}).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as response:
            return json.load(response)["predictions"]
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{error.code}: {json.load(error)['error']}") from error


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", default="127.0.0.1:8501")
    parser.add_argument("questions", nargs="+")
    arguments = parser.parse_args()
    try:
        rows = ask(arguments.server, arguments.questions)
    except (RuntimeError, OSError) as error:
        sys.exit(f"error: {error}")
    for question, row in zip(arguments.questions, rows, strict=True):
        print(question)
        answers = zip(row["answer"], row["probability"], row["block_text"], row["start"], row["end"], strict=True)
        for answer, probability, text, start, end in answers:
            # Offsets count characters, which are what Python's strings are made of.
            print(f"  {probability:.3f}  {answer}   {text[:start]}[{text[start:end]}]{text[end:]}")


if __name__ == "__main__":
    main()
