"""The child process of a trial: ``python -m training.package.trial FOLDER DIGEST``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import orjson

from features.errors import TondoError
from training.package.validation import compare_samples

if __name__ == "__main__":
    try:
        validation = compare_samples(Path(sys.argv[1]), sys.argv[2])
    except TondoError as error:
        sys.exit(error.what)
    sys.stdout.buffer.write(orjson.dumps(asdict(validation)))
