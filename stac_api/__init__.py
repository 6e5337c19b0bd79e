"""The system of record: a STAC API with transactions, rules and events, on pgstac."""
