"""The API against the stock stac-fastapi-pgstac and against raw SQL, side by side on one database.

    .venv/bin/python bench/stac_api.py [--items 100000] [--seconds 2] [--json FILE]
        [--folder FOLDER] [--only search,get]

Each server runs in a process of its own on 127.0.0.1; the load comes from another. They take turns
cell by cell, so that a busy minute of the machine falls on all of them. `raw` is the cheapest SQL
on pgstac's columns for the same rows, on the same indexes, through prepared statements; `http` is a
server that answers as many bytes and does nothing else. `--folder` keeps the database for the next
time, with all that the bench has written into it.
"""

import sys
from pathlib import Path

# Instead of this folder, where this file would hide the package that it measures.
sys.path[0] = str(Path(__file__).parent / "record")

from compare import main  # noqa: E402

if __name__ == "__main__":
    main(__doc__)
