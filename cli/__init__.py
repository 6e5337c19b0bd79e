"""The `mlops` command, on top of the SDK.

Modules here import nothing heavy at their top: `mlops --help` must answer at once. What a command
needs is imported when it runs.
"""
