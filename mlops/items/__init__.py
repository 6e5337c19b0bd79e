"""The data model: what a workspace's STAC Items are and which rules hold for each kind."""
