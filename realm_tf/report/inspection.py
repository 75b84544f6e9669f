"""An `inspect` JSON object as a table on the terminal, in the form of REALM's tables 3 and 4."""

from rich import box
from rich import columns as rich_columns
from rich import console as rich_console
from rich import table as rich_table
from rich import text as rich_text

from realm_tf.report.table import DASH, signed

_MARGINALS = {
    "token": "marginal = ∏ Σ p(z|x) p(piece|x,z)  (token)",
    "span": "marginal = Σ p(z|x) ∏ p(piece|x,z)  (span)",
}


def probability(value):
    """A probability as "0.129", or "1.1e-14" where it is below a thousandth; a dash for None."""
    if value is None:
        return DASH
    return f"{value:.3f}" if value >= 0.001 or value == 0 else f"{value:.1e}"


def print_inspection(value, marginal, null_candidate=True, console=None):
    """Prints the fillers without retrieval, under each block and under the marginal.

    Args:
      value: the object; see `serving.inspector.Inspector.inspect`.
      marginal: the run's `pretrain.marginal`, which the last line names.
      null_candidate: whether the null document is a candidate beside the blocks.
      console: a `rich.console.Console`, by default standard output.
    """
    console = console or rich_console.Console(highlight=False)
    answer, found = value.get("answer"), value["fillers"]
    p_null = max(0.0, 1 - sum(block["p_z"] for block in found["blocks"])) if null_candidate else None
    of_blocks = answer["blocks"] if answer else [None] * len(found["blocks"])
    table = _table(value["text"], answer)
    no_retrieval = rich_text.Text.assemble(("no retrieval\n", "bold"), ("null document", "dim"))
    _add(table, no_retrieval, p_null, None, answer and answer["null"], found["null"])
    if "knn" in found:
        memory = rich_text.Text.assemble(("kNN memory\n", "bold"), ("null document", "dim"))
        _add(table, memory, None, None, answer and answer["knn"], found["knn"])
    table.add_section()
    for block, p in zip(found["blocks"], of_blocks, strict=True):
        document = rich_text.Text.assemble(f"{block['title']}\n", (block["block_id"], "dim"))
        _add(table, document, block["p_z"], block["utility"], p, block["fillers"])
    table.add_section()
    marginal_row = rich_text.Text.assemble(("marginal\n", "bold"), ("over all of them", "dim"))
    _add(table, marginal_row, None, None, answer and answer["marginal"], found["marginal"])
    console.print(table)
    console.print(rich_text.Text(_legend(value, marginal)), style="dim")


def _table(text, answer):
    title = rich_text.Text(text, style="bold")
    table = rich_table.Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", pad_edge=False)
    table.add_column("document z")
    for name in ("p(z|x)", "utility", *(["p(answer)"] if answer else [])):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("best fillers and their probability", ratio=1)
    return table


def _add(table, document, p_z, utility, p_answer, fillers):
    shown = [rich_text.Text(f"{filler['text']} {probability(filler['probability'])}") for filler in fillers]
    shown[0].stylize("bold green", 0, len(fillers[0]["text"]))
    numbers = ["" if p_z is None else probability(p_z), "" if utility is None else signed(utility)]
    numbers += [] if p_answer is None else [probability(p_answer)]
    table.add_row(document, *numbers, rich_columns.Columns(shown, padding=(0, 3)))


def _legend(value, marginal):
    answer, best = value.get("answer"), value["fillers"]["marginal"][0]["text"]
    if answer:
        about = f"y: {answer['text']!r}. Word pieces: {answer['pieces']}, and as many in every filler."
    else:
        about = f"y: {best!r}, the best of the marginal. Word pieces: 1 to 3, ranked by probability per piece."
    return f"utility = log p(y|x,z) − log p(y|x,null)\n{_MARGINALS[marginal]}\n{about}"
