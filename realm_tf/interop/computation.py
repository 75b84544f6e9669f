"""What an encoder's folder says of its computation, against what the models and the tokenizer here compute."""

import json
import pathlib

from realm_tf.errors import UserError

# {field of config.json: what is computed here}; a field that is left out has the first value.
_MODEL = {
    "model_type": ("bert", "realm"),
    # Published folders of BERT and MiniLM say "gelu" and are as good by the tanh approximation, which is computed here.
    "hidden_act": ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu"),
    "layer_norm_eps": (1e-12,),
    "reader_layer_norm_eps": (1e-3,),
    "position_embedding_type": ("absolute",),
    "type_vocab_size": (2,),
    "is_decoder": (False,),
    "add_cross_attention": (False,),
    "pruned_heads": ({},),
    "tie_word_embeddings": (True,),
}
# {field of tokenizer_config.json, or of config.json: as above}.
_TOKENIZER = {
    "do_lower_case": (True,),
    "do_basic_tokenize": (True,),
    "strip_accents": (None, True),
    "tokenize_chinese_chars": (True,),
    "tokenizer_class": ("BertTokenizer", "BertTokenizerFast", "RealmTokenizer", "RealmTokenizerFast", None),
}
# {field of the normalizer of tokenizer.json: as above}.
_NORMALIZER = {
    "type": ("BertNormalizer",),
    "lowercase": (True,),
    "strip_accents": (None, True),
    "handle_chinese_chars": (True,),
    "clean_text": (True,),
}


def check(folder: str | pathlib.Path, config: dict, file: str = "config.json", vocabulary: str = "") -> None:
    """Refuses a folder whose encoder computes something else, or reads text otherwise, than is done here.

    Args:
      folder: with tokenizer_config.json, tokenizer.json and vocab.txt, where there are any.
      config: what `file`, its config.json, holds.
      vocabulary: path of the vocab.txt that is read instead of the folder's.

    Raises: `UserError` that names the setting, or a piece of a cased vocabulary that nothing says to be uncased.
    """
    folder = pathlib.Path(folder)
    _require(folder / file, config, _MODEL | _TOKENIZER, "the models here have")
    if "embedding_size" in config and config["embedding_size"] != config.get("hidden_size"):
        raise UserError(f"{folder / file}: embedding_size is not hidden_size; the models here have one size for both")
    tokenizer, whole = _read(folder / "tokenizer_config.json"), _read(folder / "tokenizer.json")
    _require(folder / "tokenizer_config.json", tokenizer, _TOKENIZER, "the tokenizer here, of uncased models, has")
    normalizer = whole.get("normalizer")
    normalizer = normalizer if isinstance(normalizer, dict) else {}
    _require(folder / "tokenizer.json", normalizer, _NORMALIZER, "the tokenizer here, of uncased models, has")
    is_uncased = True in (config.get("do_lower_case"), tokenizer.get("do_lower_case"), normalizer.get("lowercase"))
    if not is_uncased:
        check_vocabulary(vocabulary or folder / "vocab.txt")


def check_vocabulary(path: str | pathlib.Path) -> None:
    """Refuses a vocab.txt with capitals, which are for text that is not lower-cased, see `check_pieces`; if any."""
    try:
        check_pieces(path, pathlib.Path(path).read_text(encoding="utf-8").split("\n"))
    except (OSError, UnicodeDecodeError):
        return  # the tokenizer says what is wrong with one that is needed


def check_pieces(source: object, pieces: list[str]) -> None:
    """Raises `UserError` that names a piece with a capital, and its source; [CLS] and <S> are no such pieces."""
    for piece in pieces:
        is_mark = piece[:1] + piece.rstrip()[-1:] in ("[]", "<>")
        if not is_mark and any(character.isupper() for character in piece):
            raise UserError(
                f"{source} is cased ({piece.strip()!r} has a capital), and the tokenizer here is that of the uncased "
                'models: give an uncased model, or {"do_lower_case": true} in its tokenizer_config.json if it is one'
            )


def _require(path, values, known, have):
    for key, allowed in known.items():
        if key in values and values[key] not in allowed:
            raise UserError(f"{path}: {key} is {values[key]!r}; {have} {allowed[0]!r} alone")


def _read(path):
    """What a JSON file holds; {} if there is none."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from error
    return value if isinstance(value, dict) else {}
