"""A cross-encoder and a classifier with random weights, made by transformers in a runtime.

`python tiny_classifiers.py MINILM_FOLDER TARGET_FOLDER`: real files of the class that rerankers and
classifiers of the Hub have, with MiniLM's tokenizer; small, so that a start is all they cost.
"""

import shutil
import sys
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification

LABELS = {
    "cross-encoder": ("LABEL_0",),
    "classifier": ("negative", "neutral", "positive"),
}
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")


def main(tokenizer: Path, target: Path) -> None:
    for name, labels in LABELS.items():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=30522,
            # vLLM on a processor takes no heads below 32.
            hidden_size=64,
            num_attention_heads=2,
            num_hidden_layers=2,
            intermediate_size=64,
            # Large enough that texts get scores of their own.
            initializer_range=0.5,
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
        )
        BertForSequenceClassification(config).save_pretrained(target / name)
        for file in TOKENIZER:
            shutil.copyfile(tokenizer / file, target / name / file)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
