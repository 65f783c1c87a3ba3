"""Text as tokens: where documents come from, how they are cut into tokens, and the batches a model trains on.

Reading order: sources (documents) -> tokenizers -> packing (one flat array per split, on disk) -> data (batches); and,
for text whose law is known, grammar (the rules) -> language (what follows from them exactly).
"""

from minipolycom.text.data import TokenBatch, TokenData
from minipolycom.text.tokenizers import load_tokenizer

__all__ = ["TokenBatch", "TokenData", "load_tokenizer"]
