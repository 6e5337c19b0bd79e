"""The functions that run the platform: AWS Lambda handlers, the same ones on one machine."""
