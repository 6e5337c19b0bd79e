"""The system of record: a STAC API with transactions, rules and events, on pgstac."""

import logging

# stac-fastapi makes settings of its own when it is imported and warns that they are the defaults;
# ours are passed in by create_app.
logging.getLogger("stac_fastapi.types.config").setLevel(logging.ERROR)
