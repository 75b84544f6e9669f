"""The configuration of a run that is made of documents alone: the system in the package, nothing trained."""

import dataclasses

from realm_tf.config import Config, CorpusConfig, EncoderConfig, FinetuneConfig, IndexConfig, LengthConfig

NAME = "documents"


def documents_config(paths: list[str]) -> Config:
    """The `Config` of the run over these files and folders.

    Blocks of 256 pieces hold nearly every paragraph whole, which finds and reads better than halves of it; a question
    of up to 48 pieces and a block without its title fit in 304.
    """
    return Config(
        name=NAME,
        corpus=CorpusConfig(input=",".join(paths), max_block_length=256),
        encoder=EncoderConfig(dtype=_dtype()),
        lengths=LengthConfig(query=64, block=256, joint=320, reader=304, question=48),
        index=IndexConfig(kind="exact"),
        finetune=FinetuneConfig(reader_beam=5),
    )


def comparable(config: Config) -> Config:
    """The configuration without what may differ while what was made stays of use: the documents, the arithmetic."""
    return dataclasses.replace(
        config,
        corpus=dataclasses.replace(config.corpus, input=""),
        encoder=dataclasses.replace(config.encoder, dtype=""),
    )


def _dtype() -> str:
    """Keras' dtype policy in which blocks are embedded soonest here: bfloat16 where the processor multiplies it."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
            flags = next((line for line in file if line.startswith("flags")), "").split()
    except OSError:  # not Linux
        flags = []
    return "mixed_bfloat16" if {"amx_bf16", "avx512_bf16"} & set(flags) else "float32"
